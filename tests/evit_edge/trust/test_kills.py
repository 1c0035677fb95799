"""A few kills of ``tests/faults/kill.py``; a hundred of each are for those who have the time."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(sys.platform != "linux", reason="kills process groups and clears by Linux's locks")
@pytest.mark.parametrize(("name", "kills"), [("benchmark", 4), ("train", 2)])
def test_killed_commands_leave_the_old_output_or_the_new_one(name, kills):
    command = [sys.executable, ROOT / "tests" / "faults" / "kill.py", name, "--kills", str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}: {kills} kills in ")
