"""A few seconds of ``tests/fuzz/run.py``: the four readers on mutated files, and on what was once found."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris, for Linux and Python below 3.14, mutates the files")

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("reader", ["tflite", "onnx", "package", "checkpoint"])
def test_mutated_files_give_nothing_but_this_projects_errors(reader):
    command = [sys.executable, ROOT / "tests" / "fuzz" / "run.py", "--reader", reader, "--count", "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{reader}: ")
    assert int(done.stdout.split()[1]) >= 400
    assert ", 0 failures" in done.stdout
