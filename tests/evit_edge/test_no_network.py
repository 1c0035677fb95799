"""No command goes out of the machine that was not asked to: every socket is noted and refused, children's too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from without_network import called, run

# One process, so that torch is imported once; each command ends like the program's own.
COMMANDS = """
import sys
from evit_edge.cli.main import app
for line in sys.argv[1:]:
    print("evit-edge", line, flush=True)
    app(line.split(), standalone_mode=False)
"""


@pytest.fixture
def folder(tmp_path: Path, photo_folder: Path) -> Path:
    """A folder with photos, plain and in class folders that the shipped model knows."""
    shutil.copytree(photo_folder, tmp_path / "photos")
    for label, shown in {"cup": "coffee", "Faces": "astronaut"}.items():
        (tmp_path / "classes" / label).mkdir(parents=True)
        for i in range(3):
            shutil.copy(photo_folder / f"{shown}.jpg", tmp_path / "classes" / label / f"{i}.jpg")
    return tmp_path


LIGHT = (
    "doctor",
    "models",
    "classify everyday-int8 photos/coffee.jpg",
    "verify everyday-int8 --data photos --weights everyday",
    "evaluate everyday everyday-int8 --data classes --threads 1",
    "benchmark everyday-int8 --runs 2 --min-time 0.05 --json report.json",
    "report report.json",
    "profile everyday-int8 --seconds 0.2",
)


def test_commands_that_run_models_stay_on_the_machine(folder: Path) -> None:
    notes = folder / "calls.txt"
    answer = run(notes, COMMANDS, *LIGHT, cwd=folder)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.count("evit-edge ") >= len(LIGHT)
    assert called(notes) == []


@pytest.mark.slow
def test_training_stays_on_the_machine(folder: Path) -> None:
    """Conversions do too: ``test_same_bytes.py`` runs them under the same watch."""
    notes = folder / "calls.txt"
    train = "train classes -o run --epochs 1 --image-size 128 --batch-size 2 --workers 1"
    answer = run(notes, COMMANDS, train, cwd=folder)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert called(notes) == []


def test_what_was_asked_to_go_out_is_seen(folder: Path) -> None:
    """The net that catches nothing above catches what does go out."""
    notes = folder / "calls.txt"
    answer = run(notes, COMMANDS, "convert --weights hf:timm/efficientvit_m0.r224_in1k -o out", cwd=folder)
    assert "could not be downloaded" in answer.stderr
    assert any("socket." in line for line in called(notes))
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    run(notes, child, "import socket; socket.create_connection(('192.0.2.1', 9))", cwd=folder)
    assert "192.0.2.1" in called(notes)[-1]
