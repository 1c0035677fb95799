"""The main road on a small random network: what it writes, that it proves it, all or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evit_calibration.cache import CalibrationCache
from evit_converters import tflite
from evit_edge.errors import (
    CheckpointError,
    ConversionError,
    DataError,
    OutputError,
    RequestError,
    VerificationError,
)
from evit_edge.golden import read_golden
from evit_edge.manifest import Quantization, golden_path, manifest_path, read_manifest
from evit_edge.models.checkpoints import load_checkpoint, save_checkpoint
from evit_edge.pipeline import (
    ConvertRequest,
    ConvertResult,
    Progress,
    Stage,
    Target,
    Tuning,
    convert,
    needs_ranges,
    road,
)
from evit_edge.runtime import open_runner
from evit_edge.tensors import OutputKind
from evit_edge.verification import Thresholds, VerifyRequest, verify

_EXPORTED: dict[bytes, bytes] = {}


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes most of a conversion: do it once for equal modules, where it is not what is tested."""
    real = tflite.export

    def export(module: torch.nn.Module, example: torch.Tensor) -> bytes:
        state = b"".join(tensor.numpy().tobytes() for tensor in module.state_dict().values())
        key = state + repr(module(example)).encode()
        if key not in _EXPORTED:
            _EXPORTED[key] = real(module, example)
        return _EXPORTED[key]

    monkeypatch.setattr(tflite, "export", export, raising=False)


@pytest.fixture(scope="module")
def int8(m0_checkpoint: Path, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ConvertResult:
    request = ConvertRequest(
        output=tmp_path_factory.mktemp("int8") / "made by convert",
        weights=str(m0_checkpoint),
        quantization=Quantization.INT8,
        calibration=(photo_folder,),
        command="evit-edge convert",
    )
    return convert(request)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_int8_writes_the_artefact_and_its_evidence(int8: ConvertResult, m0_checkpoint: Path) -> None:
    folder = int8.artefact.parent
    assert names(folder) == {
        "random-int8.tflite",
        "random-int8.tflite.json",
        "random-int8.tflite.golden.npz",
        "random-int8.tflite.calibration.json",
    }
    manifest = read_manifest(manifest_path(int8.artefact))
    assert manifest == int8.manifest
    assert manifest.artefact.partitions == 1
    assert manifest.calibration is not None
    assert manifest.calibration.samples == 5
    assert manifest.parity["golden_sqnr_db"] > 12
    assert manifest.source.sha256 == load_checkpoint(m0_checkpoint).sha256
    assert set(int8.stage_s) == set(Stage) - {Stage.SEARCH}


def test_the_artefact_keeps_its_contract(int8: ConvertResult) -> None:
    info = open_runner(int8.artefact).info
    assert (info.input.shape, info.input.dtype) == ((1, 128, 128, 3), "uint8")
    assert (info.output.shape, info.output.dtype) == ((1, 5), "float32")
    assert info.output_kind is OutputKind.PROBABILITIES
    assert info.labels == ("cup", "cat", "rocket", "astronaut", "camera")
    assert info.preprocessing.crop_fraction == 0.9
    assert info.aliases == {"mug": "cup"}


def test_golden_vectors_are_the_networks_answers(int8: ConvertResult, m0_checkpoint: Path) -> None:
    golden = read_golden(golden_path(int8.artefact))
    again = open_runner(str(m0_checkpoint)).run(golden.images)
    assert np.allclose(again, golden.logits, atol=1e-4)
    assert len(golden.images) == 8
    assert len(np.unique(golden.images.reshape(8, -1), axis=0)) == 8


def test_verify_passes_on_what_was_written(int8: ConvertResult, m0_checkpoint: Path, photo_folder: Path) -> None:
    lenient = Thresholds(max_relative_error=None, min_sqnr_db=12.0, min_cosine=0.95, min_agreement=0.6)
    report = verify(
        VerifyRequest(int8.artefact, weights=str(m0_checkpoint), data=(photo_folder,), thresholds=lenient)
    )
    assert report.passed, report.failed
    assert not [gate for gate in report.gates if gate.status == "skipped"]


def test_the_cache_gives_the_same_bytes(int8: ConvertResult, m0_checkpoint: Path, tmp_path: Path) -> None:
    cache = int8.artefact.parent / "random-int8.tflite.calibration.json"
    request = ConvertRequest(
        output=tmp_path, weights=str(m0_checkpoint), quantization=Quantization.INT8, calibration=(cache,)
    )
    again = convert(request)
    assert again.artefact.read_bytes() == int8.artefact.read_bytes()
    assert "random-int8.tflite.calibration.json" not in names(tmp_path)


def test_a_cache_of_another_model_is_refused(int8: ConvertResult, m0_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(m0_checkpoint)
    with torch.no_grad():
        checkpoint.model.head.linear.bias.add_(1)
    other = tmp_path / "other.safetensors"
    rule = checkpoint.preprocessing
    save_checkpoint(other, checkpoint.model, name="other", labels=checkpoint.labels, preprocessing=rule)
    request = ConvertRequest(
        output=tmp_path / "out",
        weights=str(other),
        quantization=Quantization.INT8,
        calibration=(int8.artefact.parent / "random-int8.tflite.calibration.json",),
    )
    with pytest.raises(DataError, match="belongs to model"):
        convert(request)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [Quantization.NONE, Quantization.FP16])
@pytest.mark.usefixtures("quick_export")
def test_float_artefacts_are_one_partition_and_close(
    kind: Quantization, m0_checkpoint: Path, tmp_path: Path
) -> None:
    request = ConvertRequest(
        output=tmp_path, weights=str(m0_checkpoint), quantization=kind, output_kind=OutputKind.LOGITS
    )
    result = convert(request)
    assert result.manifest.artefact.partitions == 1
    assert open_runner(result.artefact).info.output_kind is OutputKind.LOGITS
    assert result.manifest.parity["golden_relative_error"] < (1e-5 if kind is Quantization.NONE else 1e-2)
    assert result.artefact.name == f"random-{'fp32' if kind is Quantization.NONE else 'fp16'}.tflite"


@pytest.mark.usefixtures("quick_export")
def test_stages_are_told_in_order_with_every_photo(
    m0_checkpoint: Path, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photo_folder.iterdir():
        for i in range(5):
            (folder / f"{i}-{path.name}").write_bytes(path.read_bytes())
    (folder / "broken.jpg").write_bytes(b"no photo")
    request = ConvertRequest(
        output=tmp_path / "out", weights=str(m0_checkpoint), quantization=Quantization.INT8, calibration=(folder,)
    )
    convert(request, told.append)
    assert [p.stage for p in told if p.seconds is not None] == [s for s in Stage if s is not Stage.SEARCH]
    assert max(p.done for p in told) == 25
    assert any(p.remark and "broken.jpg" in p.remark for p in told)


@pytest.mark.usefixtures("quick_export")
def test_a_file_that_fails_its_gates_is_not_written(
    m0_checkpoint: Path, int8: ConvertResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clipped(cache: CalibrationCache) -> dict[str, tuple[float, float]]:
        return {name: (span.minimum / 50, span.maximum / 50) for name, span in cache.ranges.items()}

    monkeypatch.setattr("evit_edge.pipeline.ranges.Calibrated.spans", property(lambda self: clipped(self.cache)))
    request = ConvertRequest(
        output=tmp_path / "out",
        weights=str(m0_checkpoint),
        quantization=Quantization.INT8,
        calibration=(int8.artefact.parent / "random-int8.tflite.calibration.json",),
    )
    with pytest.raises(VerificationError, match="sqnr"):
        convert(request)
    assert not (tmp_path / "out").exists()


def test_existing_files_are_kept_unless_told(int8: ConvertResult, m0_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "random-fp32.tflite").write_text("mine")
    request = ConvertRequest(output=tmp_path, weights=str(m0_checkpoint))
    with pytest.raises(OutputError, match="--overwrite"):
        convert(request)
    assert (tmp_path / "random-fp32.tflite").read_text() == "mine"


@pytest.mark.usefixtures("quick_export")
def test_an_interrupted_conversion_leaves_nothing(
    m0_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(road, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(ConvertRequest(output=tmp_path / "out", weights=str(m0_checkpoint)))
    assert not (tmp_path / "out").exists()


def test_nan_weights_are_named(tmp_path: Path, m0_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(m0_checkpoint)
    with torch.no_grad():
        checkpoint.model.head.linear.bias[1] = float("nan")
    path = tmp_path / "nan.safetensors"
    save_checkpoint(path, checkpoint.model, name="nan", labels=None, preprocessing=checkpoint.preprocessing)
    with pytest.raises(CheckpointError, match=r"head\.linear\.bias"):
        convert(ConvertRequest(output=tmp_path / "out", weights=str(path)))
    assert not (tmp_path / "out").exists()


def test_labels_of_the_wrong_count_are_refused(tmp_path: Path, m0_checkpoint: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="2 labels and the model has 5 classes"):
        convert(ConvertRequest(output=tmp_path / "o", weights=str(m0_checkpoint), labels=tmp_path / "labels.txt"))


def test_int8_without_photos_says_what_it_needs(tmp_path: Path, m0_checkpoint: Path) -> None:
    request = ConvertRequest(output=tmp_path / "o", weights=str(m0_checkpoint), quantization=Quantization.INT8)
    with pytest.raises(RequestError, match="--calibration DIR"):
        convert(request)
    assert not (tmp_path / "o").exists()


def test_tuning_is_for_int8_on_tflite() -> None:
    for wrong in (
        {"quantization": Quantization.FP16},
        {"target": Target.COREML, "quantization": Quantization.INT8},
    ):
        with pytest.raises(RequestError, match="--tune host serves --to tflite --quantize int8"):
            ConvertRequest(Path("out"), tuning=Tuning.HOST, **wrong)


@pytest.mark.parametrize(
    ("quantization", "photos_are_needed"),
    [("int8-full", True), ("int16-act", True), ("int8-dynamic", False), ("int8-weights", False)],
)
def test_tflite_takes_the_mode(quantization: str, photos_are_needed: bool) -> None:
    request = ConvertRequest(Path("out"), quantization=Quantization(quantization))
    assert request.file_name("net") == f"net-{quantization}.tflite"
    assert needs_ranges(Target.TFLITE, request.quantization) == photos_are_needed


@pytest.mark.parametrize("changes", [{"samples": 0}, {"seed": -1}])
def test_a_sample_has_photos_and_a_seed(changes: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="at least 1 and 0 are needed"):
        ConvertRequest(Path("out"), quantization=Quantization.INT8, calibration=(Path("photos"),), **changes)


def test_calibration_without_int8_is_refused(photo_folder: Path) -> None:
    with pytest.raises(RequestError, match="serves integer activations"):
        ConvertRequest(output=Path(), calibration=(photo_folder,))


def test_a_variant_without_shipped_weights_says_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"hf:timm/efficientvit_m3\.r224_in1k"):
        convert(ConvertRequest(output=tmp_path, model="efficientvit_m3"))


def test_the_converters_errors_are_mapped(
    m0_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evit_converters.errors import ExportError

    def refused(*_: object) -> bytes:
        raise ExportError("no such operator")

    monkeypatch.setattr(tflite, "export", refused, raising=False)
    with pytest.raises(ConversionError, match="no such operator") as caught:
        convert(ConvertRequest(output=tmp_path / "o", weights=str(m0_checkpoint)))
    assert isinstance(caught.value.__cause__, ExportError)


def test_the_manifest_is_plain_json(int8: ConvertResult) -> None:
    fields = json.loads(manifest_path(int8.artefact).read_text())
    assert fields["schema"] == 1
    assert fields["artefact"]["sha256"]
    assert fields["versions"]["torch"].startswith(torch.__version__.split("+")[0])
