"""Ctrl-C at any stage: exit 130, no traceback, no process and no file left. And what the exit codes mean."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evit_edge.cli import benchmark, report
from evit_edge.cli.interruption import INTERRUPTED
from evit_edge.errors import BudgetError, EvitEdgeError

ROOT = Path(__file__).resolve().parents[3]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration", "app"))

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")


@pytest.fixture
def data(tmp_path):
    """Two classes of noise."""
    noise = np.random.default_rng(0)
    for name in ("cup", "cat"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(40):
            image = noise.integers(0, 256, (130, 140, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def many(data, tmp_path):
    """The same photos over and over, for as long as no test waits."""
    for photo in data.rglob("*.png"):
        folder = tmp_path / "many" / photo.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(100):
            (folder / f"{i}-{photo.name}").hardlink_to(photo)
    return tmp_path / "many"


def descendants(pid: int) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found, newer = [], [pid]
    while newer:
        newer = [child for child, parent in parents.items() if parent in newer]
        found += newer
    return found


STAGES = {
    "convert, at once": ("convert --weights {m0} --output {out}", 0.25, True),
    "convert, while it imports": ("convert --weights {m0} --output {out}", 1.5, True),
    "convert, while it works": ("convert --weights {m0} --output {out}", 5.0, True),
    "convert, kill -INT": ("convert --weights {m0} --output {out}", 4.0, False),
    "train, while it imports": ("train {data} --output {out} --batch-size 4 --workers 2", 1.0, True),
    "train, while it works": ("train {data} --output {out} --batch-size 4 --workers 2 --epochs 1000", 7.0, True),
    "train, kill -INT": ("train {data} --output {out} --batch-size 4 --workers 2 --epochs 1000", 6.0, False),
    "evaluate": ("evaluate {m0} --data {many} --threads 1", 2.5, True),
}


@pytest.fixture
def temporary():
    """A folder whose name is short enough for sockets below it, which pytest's own are not always."""
    with tempfile.TemporaryDirectory(prefix="evit-") as folder:
        yield Path(folder)


@pytest.mark.parametrize(("words", "after_s", "group"), STAGES.values(), ids=STAGES)
def test_ctrl_c(words, after_s, group, many, m0_checkpoint, tmp_path, temporary):
    names = {"m0": m0_checkpoint, "out": tmp_path / "out", "data": many.parent / "data", "many": many}
    environment = {**os.environ, "PYTHONPATH": PATHS, "TMPDIR": str(temporary)}
    if after_s < 2:  # coverage, which Python then starts before all else, swallows a Ctrl-C while it imports
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
    command = [sys.executable, "-m", "evit_edge.cli.start", *(word.format(**names) for word in words.split())]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        time.sleep(after_s)
        started = descendants(process.pid)
        ended = process.poll() is not None
        if not ended:
            (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors, errors
    if ended:
        pytest.skip(f"it had ended before, with {process.returncode}")
    starting = {-signal.SIGINT} if after_s < 0.5 else set()  # Python itself had not started yet
    assert process.returncode in {130} | starting, (process.returncode, errors)
    deadline = time.monotonic() + 20  # on a crowded machine a child takes a while to go
    while (left := [pid for pid in started if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    # torch keeps a cache of what it compiles; sockets of workers that it kills stay: docs/trust.md says so.
    kept = [path.name for path in temporary.iterdir()]
    assert [name for name in kept if not name.startswith(("torchinductor_", "pymp-"))] == []
    if words.startswith("convert"):
        assert not (tmp_path / "out").exists()
    elif (tmp_path / "out").exists():
        assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_the_exit_codes_are_the_documented_ones():
    text = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE)}
    named = {EvitEdgeError.exit_code, BudgetError.exit_code, benchmark.NOT_VALID, INTERRUPTED}
    assert named == {1, 3, 4, 130}
    assert codes == {0, 2, report.REGRESSED, *named}
