"""The same inputs give the same bytes, whatever the hash seed, threads, locale and order of the photo folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from without_network import called, run

from evit_edge.files import files_of
from evit_edge.models.checkpoints import load_checkpoint, save_checkpoint

LABELS = ("컵", "Kätzchen", "İstanbul", "astronaut", "camera")

CONVERSIONS = """
import locale, sys, torch
torch.set_num_threads(int(sys.argv[1]))
for name in ("de_DE.UTF-8", "tr_TR.UTF-8", "fr_FR.UTF-8", "") if sys.argv[2] == "foreign" else ("C",):
    try:
        locale.setlocale(locale.LC_ALL, name)
        break
    except locale.Error:
        pass
from evit_edge.cli.main import app
common = ["convert", "--weights", "../random.safetensors", "--calibration", "photos", "-o", "out"]
sys.argv[1:] = ["convert"]
for target, quantization in (("tflite", "int8"), ("onnx", "int8"), ("coreml", "int8-full")):
    app([*common, "--to", target, "--quantize", quantization], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def weights(m0_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random M0 with labels beyond ASCII."""
    checkpoint = load_checkpoint(m0_checkpoint)
    path = tmp_path_factory.mktemp("twice") / "random.safetensors"
    save_checkpoint(path, checkpoint.model, name="random", labels=LABELS, preprocessing=checkpoint.preprocessing)
    return path


def converted(
    folder: Path, photos: Mapping[str, np.ndarray], *, threads: int, locale: str, environment: Mapping[str, str]
) -> dict[str, bytes]:
    """What three conversions write, by name. The photos are made in the order given, and nothing goes out."""
    (folder / "photos").mkdir(parents=True)
    for name, image in photos.items():
        Image.fromarray(image).save(folder / "photos" / f"{name}.png")
    notes = folder / "calls.txt"
    answer = run(notes, CONVERSIONS, str(threads), locale, cwd=folder, environment=environment)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert called(notes) == []
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files_of(folder / "out")}


def manifests(files: Mapping[str, bytes]) -> dict[str, dict[str, object]]:
    """The manifests without the one field that is a time."""
    found = {name: json.loads(content) for name, content in files.items() if is_manifest(name)}
    assert all(manifest.pop("created") for manifest in found.values())
    return found


def is_manifest(name: str) -> bool:
    return name.endswith((".tflite.json", ".onnx.json", ".mlpackage.json"))


@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_two_processes_write_the_same_bytes(weights: Path, photos: dict[str, np.ndarray]) -> None:
    pytest.importorskip("coremltools")
    pytest.importorskip("onnxscript")
    one = converted(
        weights.parent / "one",
        photos,
        threads=1,
        locale="plain",
        environment={"PYTHONHASHSEED": "1", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "TZ": "UTC"},
    )
    # PYTHONUTF8=0 with the C locale makes ASCII what Python takes for text that nobody named an encoding for.
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Seoul"}
    two = converted(
        weights.parent / "two",
        dict(reversed(photos.items())),
        threads=2,
        locale="foreign",
        environment={"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "2", **ascii_only},
    )
    assert one.keys() == two.keys()
    assert {Path(name).parts[1] for name in one} >= {
        "random-int8.tflite",
        "random-int8.onnx",
        "random-int8-full.mlpackage",
    }
    assert manifests(one) == manifests(two)
    differing = [name for name in one if one[name] != two[name] and not is_manifest(name)]
    assert differing == []
