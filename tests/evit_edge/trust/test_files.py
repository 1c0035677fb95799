"""Outputs are found whole or not at all: killed writers, full disks, odd names, links in circles, two at once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evit_converters import replacement
from evit_edge.cli.main import app
from evit_edge.errors import OutputError
from evit_edge.files import replacing
from evit_edge.publishing import finish, publishing

ROOT = Path(__file__).resolve().parents[3]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration", "app"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS}
NAMES = ("a.bin", "b.bin", "m.mlpackage", "z.json")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

# Publishes one version after the other, and tells each that is done.
WRITER = """
import sys
from pathlib import Path
from evit_edge.publishing import publishing
folder, version, alone = Path(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
while True:
    with publishing(folder, last="z.json", overwrite=True) as made:
        for name in ("a.bin", "b.bin", "z.json"):
            (made / name).write_text(str(version) * 2000)
        (made / "m.mlpackage" / "Data").mkdir(parents=True)
        for name in ("Manifest.json", "Data/model"):
            (made / "m.mlpackage" / name).write_text(str(version) * 2000)
    print(version, flush=True)
    version += 1
    if alone:
        break
"""


def publish(
    folder: Path, content: str, *, overwrite: bool = True, then: type[BaseException] | None = None
) -> None:
    """Publish the files ``a`` and ``z``."""
    with publishing(folder, last="z", overwrite=overwrite) as made:
        for name in ("a", "z"):
            (made / name).write_text(content)
        if then is not None:
            raise then


def versions(folder: Path) -> set[str]:
    """What is seen: the version of each file, ``none`` for one that is missing."""
    files = (*NAMES[:2], NAMES[3], "m.mlpackage/Manifest.json", "m.mlpackage/Data/model")
    seen = set()
    for name in files:
        text = (folder / name).read_text() if (folder / name).is_file() else "none"
        length = len(text) // 2000 or len(text)
        assert text == "none" or text == text[:length] * 2000, "half a file"
        seen.add(text[:length])
    return seen


@LINUX
def test_a_writer_killed_at_random_moments_leaves_all_or_nothing(tmp_path):
    draw = random.Random(1)
    folder, version, moments = tmp_path / "out", 1, set()
    for trial in range(25):
        if trial % 5 == 0:
            shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-c", WRITER, folder, str(version)]
        with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as writer:
            told = 0
            if trial % 2:
                told = int(writer.stdout.readline())
            time.sleep(draw.uniform(0, 0.05) if told else draw.uniform(0.02, 0.3))
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split()
        told = int(rest[-1]) if rest else told
        finish(folder)
        seen = versions(folder)
        assert len(seen) == 1, seen
        last = seen.pop()
        assert last == "none" or int(last) >= told
        moments.add(last == "none")
        version = 1000 + 100 * trial
    with publishing(tmp_path / "out", last="z.json", overwrite=True) as made:
        (made / "z.json").write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # what the killed have left is gone
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


# Kills itself before the n-th move.
SUICIDE = """
import os, signal, sys
from evit_edge import publishing
left, real = int(sys.argv.pop(1)), publishing.put
def put(new, place):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    real(new, place)
publishing.put = put
"""


@LINUX
@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_a_writer_killed_between_two_moves_is_finished_by_the_next_that_looks(tmp_path, moves):
    folder = tmp_path / "out"
    subprocess.run([sys.executable, "-c", WRITER, folder, "1", "once"], env=ENVIRONMENT, check=True, stdout=-3)
    command = [sys.executable, "-c", SUICIDE + WRITER, str(moves), folder, "2", "once"]
    assert subprocess.run(command, env=ENVIRONMENT, check=False).returncode == -9
    assert versions(folder) == ({"1", "2"} if moves else {"1"})
    finish(folder)
    assert versions(folder) == {"2"}
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


def test_ctrl_c_between_two_moves_goes_through_with_them(tmp_path, monkeypatch):
    publish(tmp_path, "old")
    calls = []

    def put(new, place):
        calls.append(place.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replacement.put(new, place)

    monkeypatch.setattr("evit_edge.publishing.put", put)
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path, "new")
    assert calls == ["a", "z", "z"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "z": "new"}


def test_ctrl_c_before_the_end_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "x" / "out", "new", then=KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_leads_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "in" / "model"
    trap = folder / ".evit-edge-complete-x"
    trap.mkdir(parents=True)
    numbers = {f"{up}secret": (tmp_path / "secret").stat().st_ino for up in ("../../../", str(tmp_path) + "/")}
    (trap / ".plan.json").write_text(json.dumps({"files": numbers, "last": ""}))
    finish(folder)
    assert (tmp_path / "secret").read_text() == "secret"
    for broken in ("", "[]", '{"files": 5, "last": ""}', '{"files": {"a": 1}}'):
        trap.mkdir(exist_ok=True)
        (trap / ".plan.json").write_text(broken)
        finish(folder)


@pytest.mark.parametrize("one_step", [True, False], ids=["exchange", "two renames"])
def test_a_folder_takes_anothers_place(tmp_path, monkeypatch, one_step):
    if not one_step:
        monkeypatch.setattr(replacement, "_renameat2", lambda: None)
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replacement.put(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"
    left = tmp_path / ("new" if one_step and sys.platform == "linux" else "new.before")
    assert (left / "file").read_text() == "old"
    with pytest.raises(OSError, match="No such file"):
        replacement.put(tmp_path / "none", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"


HOLDER = """
import sys, time
from pathlib import Path
from evit_edge.files import replacing
with replacing(Path(sys.argv[1])) as path:
    path.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@LINUX
def test_what_a_killed_writer_left_is_cleared_and_a_living_ones_is_not(tmp_path):
    target = tmp_path / "report [1].json"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, target], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as holder:
        holder.stdout.readline()
        with replacing(target) as path:
            path.write_text("whole")
        assert len(list(tmp_path.iterdir())) == 2
        holder.kill()
        holder.wait()
    with replacing(target) as path:
        path.write_text("whole again")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text() == "whole again"


# Two at once


@LINUX
def test_two_writers_into_one_folder_leave_one_of_the_two(tmp_path):
    folder = tmp_path / "out"
    commands = [[sys.executable, "-c", WRITER, folder, version] for version in ("100000", "500000")]
    writers = [subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL) for command in commands]
    time.sleep(1.5)
    assert [writer.poll() for writer in writers] == [None, None]
    for writer in writers:
        writer.kill()
        writer.wait()
    finish(folder)
    assert len(versions(folder)) == 1


def test_of_two_that_may_not_overwrite_the_second_is_refused(tmp_path):
    def both() -> None:
        with publishing(tmp_path / "out", last="z", overwrite=False) as slow:
            (slow / "z").write_text("slow")
            publish(tmp_path / "out", "fast", overwrite=False)

    with pytest.raises(OutputError, match="exists; give --overwrite"):
        both()
    with pytest.raises(OutputError, match="exists; give --overwrite"):
        publish(tmp_path / "out", "late", overwrite=False)
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"a": "fast", "z": "fast"}


# Places


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root on Linux")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def errors(result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("evit-edge: error: ")]


def test_a_full_disk_is_one_line_and_leaves_what_was_there(small_disk, m0_checkpoint):
    (small_disk / "there").write_text("before")
    result = invoke("convert", "--weights", m0_checkpoint, "--to", "onnx", "--output", small_disk / "out")
    assert result.exit_code == 1, result.output
    assert len(errors(result)) == 1
    assert "No space left on device" in errors(result)[0]
    assert [path.name for path in small_disk.iterdir()] == ["there"]


def test_a_full_disk_ends_a_training_with_one_line(small_disk, photo_folder):
    for label in ("a", "b"):
        (small_disk.parent / "data" / label).mkdir(parents=True)
        for i, photo in enumerate(sorted(photo_folder.glob("*.jpg"))[:4]):
            shutil.copy(photo, small_disk.parent / "data" / label / f"{i}.jpg")
    arguments = ("--epochs", 1, "--batch-size", 2, "--image-size", 128, "--workers", 0, "--val-fraction", 0.5)
    result = invoke("train", small_disk.parent / "data", "--output", small_disk / "run", *arguments)
    assert result.exit_code == 1, result.output
    assert len(errors(result)) == 1
    assert "best.safetensors cannot be written" in errors(result)[0]
    assert not [path for path in small_disk.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "name", ["two words", 'it\'s "quoted"', "모델 변환", "-dash", "#%?&;$(x)", "a" * 200], ids=str
)
def test_folders_of_any_name(tmp_path, name):
    folder = tmp_path / name
    for version in ("1", "2"):
        with publishing(folder, last="z", overwrite=True) as made:
            (made / "z").write_text(version)
            (made / "p.mlpackage").mkdir()
            (made / "p.mlpackage" / "f").write_text(version)
        with replacing(folder / "[z] *.json") as path:
            path.write_text(version)
    assert {path.name for path in folder.iterdir()} == {"z", "p.mlpackage", "[z] *.json"}
    assert (folder / "p.mlpackage" / "f").read_text() == "2"


def test_links_in_circles_are_refused(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for folder in (tmp_path / "circle", tmp_path / "circle" / "out"):
        with pytest.raises(OutputError, match="cannot be written"):
            publish(folder, "a")
        with pytest.raises(OutputError, match="cannot be written"):
            write_text(folder / "a", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["circle"]


def write_text(path: Path, content: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(content)


@LINUX
def test_a_read_only_folder_is_refused_by_name(tmp_path):
    """As another user than root, whom no permission holds."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "z").write_text("old")
    code = f"""
import os
from pathlib import Path
from evit_edge.errors import OutputError
from evit_edge.files import replacing
from evit_edge.publishing import finish, publishing
os.setuid(65534)
folder = Path({str(folder)!r})
finish(folder)
for place in (folder, folder / "new"):
    try:
        with publishing(place, last="z", overwrite=True):
            raise SystemExit("written")
    except OutputError as exc:
        assert "choose a writable folder" in str(exc) and str(place) in str(exc), exc
try:
    with replacing(folder / "z"):
        raise SystemExit("written")
except OutputError as exc:
    assert str(folder / "z") in str(exc), exc
"""
    for place in (tmp_path, *tmp_path.parents):  # pytest's folders are private
        if place.stat().st_uid == os.geteuid() and place != Path("/") and "pytest" in str(place):
            place.chmod(place.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "z").read_text() == "old"
