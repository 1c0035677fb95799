"""Shipped files are what they were when they were packed, or are refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evit_edge import zoo
from evit_edge.cli.main import app
from evit_edge.errors import ArtefactError
from evit_edge.files import sha256_of
from evit_edge.models.checkpoints import load_checkpoint
from evit_edge.runtime import open_runner
from evit_edge.verification import VerifyRequest, verify

FOLDER = Path(zoo.__file__).parent
UNLISTED = {"README.md", "SHA256SUMS", "__init__.py"}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped files, which this process takes for them."""
    folder = tmp_path / "zoo"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(zoo, "_HERE", folder)
    return folder


def test_every_shipped_file_is_listed_with_its_sum() -> None:
    files = {
        path.relative_to(FOLDER).as_posix(): sha256_of(path)
        for path in FOLDER.rglob("*")
        if path.is_file() and path.name not in UNLISTED and path.suffix != ".pyc"
    }
    assert zoo.stated_sums() == files


DOORS = {
    "everyday/everyday.safetensors": lambda: load_checkpoint("everyday"),
    "everyday/everyday.tflite.calibration.json": lambda: zoo.calibration_path("everyday", "tflite"),
    "everyday/everyday-int8.tflite": lambda: open_runner("everyday-int8"),
    "everyday/everyday-int8.tflite.json": lambda: zoo.artefact_path("everyday-int8"),
    "golden/rocket.jpg": zoo.golden_photos,
}


@pytest.mark.parametrize(("name", "door"), DOORS.items(), ids=DOORS)
def test_a_changed_file_is_refused_by_name(copied: Path, name: str, door: Callable[[], object]) -> None:
    door()
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(ArtefactError, match=rf"{Path(name).name} is not the file that ships.*--force-reinstall"):
        door()


def test_a_missing_file_or_list_is_refused(copied: Path) -> None:
    (copied / "everyday" / "everyday.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"everyday\.safetensors is missing"):
        zoo.checkpoint_path("everyday")
    assert not zoo.is_shipped_checkpoint(zoo.stated_sums()["everyday/everyday.safetensors"])
    (copied / "SHA256SUMS").write_text("no sums\n")
    with pytest.raises(ArtefactError, match="SHA256SUMS is missing or damaged"):
        zoo.golden_photos()


def test_a_file_that_nobody_listed_is_refused(copied: Path) -> None:
    sums = (copied / "SHA256SUMS").read_text().splitlines(keepends=True)
    (copied / "SHA256SUMS").write_text("".join(line for line in sums if ".safetensors" not in line))
    with pytest.raises(ArtefactError, match=r"none\.\.\. is stated"):
        zoo.checkpoint_path("everyday")


def test_the_command_line_says_so_in_one_line(copied: Path, coffee_jpg: Path) -> None:
    (copied / "everyday" / "everyday-int8.tflite").write_bytes(b"\0" * 100)
    result = CliRunner().invoke(app, ["classify", "everyday-int8", str(coffee_jpg)])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "everyday-int8.tflite is not the file that ships" in result.stderr


def test_the_shipped_int8_file_keeps_its_own_evidence() -> None:
    report = verify(VerifyRequest(Path(zoo.artefact_path("everyday-int8")), weights="everyday"))
    assert report.passed, report.failed
    assert report.figures["golden_sqnr_db"] > 20
