"""The main road to Core ML on a small random network: what it writes, that it proves it, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from evit_converters.coreml import DeploymentTarget
from evit_edge.errors import OutputError, RequestError, VerificationError
from evit_edge.files import sha256_of, size_of
from evit_edge.manifest import Quantization, manifest_path, read_manifest
from evit_edge.pipeline import ConvertRequest, ConvertResult, Progress, Target, convert, road
from evit_edge.runtime import open_runner
from evit_edge.runtime.coreml.description import distinct_labels
from evit_edge.tensors import OutputKind
from evit_edge.verification import VerificationReport, VerifyRequest
from evit_edge.verification.gates import Gate


@pytest.fixture(scope="module")
def int8(m0_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ConvertResult, list[Progress]]:
    told: list[Progress] = []
    request = ConvertRequest(
        output=tmp_path_factory.mktemp("coreml"),
        weights=str(m0_checkpoint),
        target=Target.COREML,
        quantization=Quantization.INT8,
        author="a founder",
        license="MIT",
    )
    return convert(request, told.append), told


def test_it_writes_a_package_and_its_evidence(int8: tuple[ConvertResult, list[Progress]]) -> None:
    result, told = int8
    assert {path.name for path in result.artefact.parent.iterdir()} == {
        "random-int8.mlpackage",
        "random-int8.mlpackage.json",
        "random-int8.mlpackage.golden.npz",
    }
    entry = read_manifest(manifest_path(result.artefact)).artefact
    assert entry.sha256 == sha256_of(result.artefact)
    assert entry.size_bytes == size_of(result.artefact) > 2_000_000
    assert (entry.format, entry.deployment_target, entry.partitions) == ("coreml", "iOS16", None)
    remarks = [progress.remark or "" for progress in told]
    assert any("iOS16" in remark for remark in remarks)
    assert any("transpose 0" in remark and "no A13 was measured" in remark for remark in remarks)


def test_it_is_proved_against_the_checkpoint(int8: tuple[ConvertResult, list[Progress]]) -> None:
    report = int8[0].report
    assert report.passed
    assert {"graph", "rounding", "stored weights", "scale", "bias", "labels"} <= {
        gate.name for gate in report.gates
    }
    assert report.figures["graph_error"] < report.figures["torch_float32_error"]


def test_its_runner_keeps_the_contract(int8: tuple[ConvertResult, list[Progress]]) -> None:
    info = open_runner(int8[0].artefact).info
    assert info.labels == ("cup", "cat", "rocket", "astronaut", "camera")
    assert info.output_kind is OutputKind.PROBABILITIES
    assert info.preprocessing.crop_fraction == 0.9
    assert info.aliases == {"mug": "cup"}
    assert info.remark == "evaluated by the reference evaluator, not on Apple hardware"


def test_overwriting_replaces_the_whole_package(m0_checkpoint: Path, tmp_path: Path) -> None:
    stale = tmp_path / "random-fp16.mlpackage" / "Data" / "stale.bin"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    request = {"output": tmp_path, "weights": str(m0_checkpoint), "target": Target.COREML}
    with pytest.raises(OutputError, match="--overwrite"):
        convert(ConvertRequest(**request, quantization=Quantization.FP16))  # type: ignore[arg-type]
    assert stale.exists()
    result = convert(ConvertRequest(**request, quantization=Quantization.FP16, overwrite=True))  # type: ignore[arg-type]
    assert not stale.exists()
    assert (result.artefact / "Manifest.json").is_file()


def test_integer_activations_are_calibrated_on_photos(
    m0_checkpoint: Path, photo_folder: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    request = ConvertRequest(
        output=tmp_path,
        weights=str(m0_checkpoint),
        target=Target.COREML,
        quantization=Quantization.INT8_FULL,
        calibration=(photo_folder,),
        output_kind=OutputKind.LOGITS,
    )
    result = convert(request, told.append)
    assert (tmp_path / "random-int8-full.mlpackage.calibration.json").is_file()
    assert result.manifest.artefact.output_kind is OutputKind.LOGITS
    assert result.manifest.calibration is not None
    assert result.manifest.calibration.samples == 5
    assert any("A13" in (progress.remark or "") for progress in told)


def test_a_package_that_fails_is_not_written(
    m0_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(request: VerifyRequest) -> VerificationReport:
        return VerificationReport(request.artefact, "test", (Gate.check("graph", False, "wrong", "right"),))

    monkeypatch.setattr(road, "verify", failing)
    with pytest.raises(VerificationError, match="graph"):
        convert(ConvertRequest(output=tmp_path / "out", weights=str(m0_checkpoint), target=Target.COREML))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"quantization": Quantization.INT8, "deployment_target": DeploymentTarget.IOS15}, "iOS16"),
        ({"quantization": Quantization.INT8_FULL, "deployment_target": DeploymentTarget.IOS16}, "iOS17"),
        ({"quantization": Quantization.INT8, "calibration": (Path("photos"),)}, "int8-full"),
        ({"target": Target.TFLITE, "deployment_target": DeploymentTarget.IOS16}, "coreml"),
        ({"target": Target.TFLITE, "quantization": Quantization.PALETTE4}, "int8"),
    ],
    ids=["int8 on iOS15", "int8-full on iOS16", "needless photos", "target of a tflite", "palette in a tflite"],
)
def test_what_cannot_be_honoured_is_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        ConvertRequest(**{"output": Path("out"), "target": Target.COREML, **options})  # type: ignore[arg-type]


def test_repeated_labels_become_distinct() -> None:
    assert distinct_labels(("crane", "cup", "crane")) == ("crane", "cup", "crane (class 2)")


def test_photos_are_asked_for(m0_checkpoint: Path, tmp_path: Path) -> None:
    request = ConvertRequest(
        output=tmp_path,
        weights=str(m0_checkpoint),
        target=Target.COREML,
        quantization=Quantization.INT8_FULL,
    )
    with pytest.raises(RequestError, match="--calibration"):
        convert(request)
