"""The shipped model: converts offline as the README says, keeps its answers in int8, knows a cup of coffee."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evit_edge.images import read_rgb
from evit_edge.manifest import Quantization, manifest_path, read_manifest
from evit_edge.models.checkpoints import load_checkpoint
from evit_edge.pipeline import ConvertRequest, ConvertResult, Target, convert
from evit_edge.runtime import open_runner
from evit_edge.zoo import EVERYDAY, EVERYDAY_INT8, artefact_path, calibration_path, checkpoint_path


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> ConvertResult:
    """What ``evit-edge convert --quantize int8`` writes, with no other argument."""
    return convert(ConvertRequest(output=tmp_path_factory.mktemp("everyday"), quantization=Quantization.INT8))


def test_the_checkpoint_is_complete_and_small() -> None:
    checkpoint = load_checkpoint(EVERYDAY)
    assert checkpoint.config.name == "efficientvit_m0"
    assert checkpoint.labels is not None
    assert len(set(checkpoint.labels)) == checkpoint.config.num_classes == 104
    assert checkpoint.aliases == {"Faces_easy": "Faces", "sunflowers": "sunflower"}
    assert checkpoint_path(EVERYDAY).stat().st_size < 12e6
    assert (checkpoint_path(EVERYDAY).parent / "README.md").is_file()


def test_it_converts_offline_with_its_own_calibration(int8: ConvertResult) -> None:
    assert int8.artefact.name == "everyday-int8.tflite"
    assert int8.size_bytes < 3.2e6
    assert int8.manifest.artefact.partitions == 1
    assert int8.manifest.calibration is not None
    assert int8.manifest.calibration.samples >= 200
    assert calibration_path(EVERYDAY, "tflite").stat().st_size < 100_000


def test_the_shipped_int8_file_is_what_this_version_converts(int8: ConvertResult) -> None:
    shipped = Path(artefact_path(EVERYDAY_INT8))
    stated = read_manifest(manifest_path(shipped))
    if stated.versions != int8.manifest.versions:
        pytest.skip("it was converted with other versions of the converters; make zoo converts it anew")
    assert int8.artefact.read_bytes() == shipped.read_bytes(), "make zoo ships what is converted now"
    # Float kernels round otherwise on other processors, so the measured agreement differs in its last digits.
    assert stated.parity == pytest.approx(int8.manifest.parity, rel=1e-3)
    beside = {"created": "", "command": "", "parity": {}}
    assert replace(stated, **beside) == replace(int8.manifest, **beside)


def test_onnx_has_a_calibration_of_its_own(tmp_path: Path) -> None:
    request = ConvertRequest(tmp_path, target=Target.ONNX, quantization=Quantization.INT8)
    result = convert(request)
    assert result.size_bytes < 3.2e6
    assert result.manifest.calibration is not None
    assert result.manifest.calibration.samples >= 200
    assert calibration_path(EVERYDAY, "onnx").stat().st_size < 100_000


def test_int8_ranks_like_float_on_real_photos(int8: ConvertResult, photos: dict[str, np.ndarray]) -> None:
    float_model, quantized = open_runner(EVERYDAY), open_runner(int8.artefact)
    rule = float_model.info.preprocessing
    images = np.stack([rule.apply(image) for image in photos.values()])
    same = float_model.run(images).argmax(1) == quantized.run(images).argmax(1)
    assert same.mean() >= 0.8


@pytest.mark.shared
@pytest.mark.slow
def test_int8_keeps_the_accuracy_on_the_held_out_photos(int8: ConvertResult, shared: Path) -> None:
    from evit_edge.evaluation.dataset import label_photos
    from evit_edge.evaluation.prediction import predict

    runners = [open_runner(EVERYDAY, threads=2), open_runner(int8.artefact, threads=2)]
    folders = [shared / "data" / name / "val" for name in ("caltech101", "flowers")]
    run = predict(runners, label_photos(folders, [runner.info for runner in runners], {}))
    float_answers, int8_answers = run.models
    assert len(float_answers.truth) == 1615
    assert float_answers.top1.mean() >= 0.72
    assert int8_answers.top1.mean() >= float_answers.top1.mean() - 0.01
    assert (float_answers.ranked[:, 0] == int8_answers.ranked[:, 0]).mean() >= 0.94


def test_the_readers_square_is_what_the_model_was_trained_on() -> None:
    checkpoint = load_checkpoint(EVERYDAY)
    golden = Path(__file__).parents[2] / "evit_edge" / "zoo" / "golden" / "coffee.jpg"
    assert checkpoint.preprocessing.apply(read_rgb(golden)).shape == (224, 224, 3)
