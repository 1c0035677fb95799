"""``verify`` on a .mlpackage: manifest, golden vectors, weights, photos; and the folder that a phone replays."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from evit_calibration.cache import CalibrationCache  # noqa: E402
from evit_calibration.ranges import Estimator, RangeRule, TensorRange  # noqa: E402
from evit_edge.cli.main import app  # noqa: E402
from evit_edge.errors import ArtefactError, OutputError, RequestError  # noqa: E402
from evit_edge.files import sha256_of, size_of  # noqa: E402
from evit_edge.golden import Golden, write_golden  # noqa: E402
from evit_edge.manifest import (  # noqa: E402
    ArtefactEntry,
    CalibrationEntry,
    Manifest,
    Quantization,
    SourceEntry,
    calibration_path,
    golden_path,
    manifest_path,
    read_manifest,
    write_manifest,
)
from evit_edge.models.checkpoints import Checkpoint  # noqa: E402
from evit_edge.preprocessing import Preprocessing  # noqa: E402
from evit_edge.runtime import open_runner  # noqa: E402
from evit_edge.tensors import OutputKind  # noqa: E402
from evit_edge.verification import VerifyRequest, verify, write_replay  # noqa: E402

RULE = Preprocessing(image_size=128, crop_fraction=0.9)
REMARK = "evaluated by the reference evaluator, not on Apple hardware"


@pytest.fixture(scope="module")
def tiny_checkpoint(tiny, tiny_labels) -> Checkpoint:
    return Checkpoint(tiny, tiny_labels, RULE, sha256="1" * 64, name="tiny")


@pytest.fixture
def artefact(tiny_package, tiny_network, tiny_checkpoint, pictures, tmp_path):
    """Function: a package of a kind with manifest and golden vectors beside it."""

    def described(kind: str = "fp16", source: Path | None = None) -> Path:
        path = tmp_path / f"tiny-{kind}.mlpackage"
        shutil.copytree(source or tiny_package(kind), path)
        logits = tiny_network.logits(pictures, torch.float32).float().numpy()
        write_golden(golden_path(path), Golden(pictures, logits))
        info = open_runner(path, preprocessing=RULE).info
        manifest = Manifest(
            tool_version="0",
            command="evit-edge convert",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            source=SourceEntry("tiny", "tiny", 5, 128, "tiny.safetensors", tiny_checkpoint.sha256),
            artefact=ArtefactEntry(
                file=path.name,
                format="coreml",
                sha256=sha256_of(path),
                size_bytes=size_of(path),
                input=info.input,
                output=info.output,
                output_kind=OutputKind.PROBABILITIES,
                labels=5,
                partitions=None,
                deployment_target="iOS17",
            ),
            quantization=Quantization(kind),
            calibration=None,
            preprocessing=RULE,
            versions={"numpy": np.__version__},
        )
        write_manifest(manifest_path(path), manifest)
        return path

    return described


def statuses(report) -> dict[str, str]:
    return {gate.name: gate.status.value for gate in report.gates}


def test_with_the_checkpoint_everything_but_photos_is_proved(artefact, tiny_checkpoint):
    report = verify(VerifyRequest(artefact(), checkpoint=tiny_checkpoint))
    assert report.passed
    skipped = [name for name, status in statuses(report).items() if status == "skipped"]
    assert skipped == ["resize rule", "cosine on photos", "top-1 agreement"]
    assert {"sha256", "golden of weights", "stored weights", "graph", "rounding"} <= statuses(report).keys()
    assert report.remarks == (REMARK,)


@pytest.mark.parametrize("kind", ["none", "fp16", "int8"])
def test_without_weights_what_cannot_be_said_is_skipped_with_the_reason(
    artefact, tiny_package, tiny, tiny_labels, tmp_path, kind
):
    source = tiny_package(kind) if kind != "none" else float32_package(tiny, tiny_labels, tmp_path)
    report = verify(VerifyRequest(artefact(kind, source)))
    assert report.passed
    skipped = {gate.name: gate.measured for gate in report.gates if gate.status.value == "skipped"}
    assert {"stored weights", "converted form", "graph", "rounding", "top-1 agreement"} <= skipped.keys()
    assert all("--weights" in skipped[name] for name in ("stored weights", "graph", "rounding"))
    assert {"golden", "output kind", "labels", "bias"} <= statuses(report).keys()
    assert report.figures["golden_error"] < (0.1 if kind == "int8" else 4 * report.figures["own_rounding_error"])


def float32_package(tiny, labels, folder: Path) -> Path:
    from evit_converters import coreml
    from evit_edge.models.neural_engine import neural_engine

    interface = coreml.Interface(image_size=128, mean=RULE.mean, std=RULE.std, labels=labels, name="tiny")
    precision, target = coreml.ComputePrecision.FLOAT32, coreml.DeploymentTarget.IOS17
    coreml.save(
        coreml.export(neural_engine(tiny), interface, precision=precision, target=target), folder / "f.mlpackage"
    )
    return folder / "f.mlpackage"


def test_without_weights_a_damaged_weight_still_fails_by_hash_and_answer(artefact, edited, tiny_package):
    package = edited(tiny_package("fp16"))
    package.array("p_module_head_weight_to_fp16")[2] *= np.float16(1.125)
    path = artefact()
    shutil.rmtree(path)
    shutil.copytree(package.save(), path)
    assert {gate.name for gate in verify(VerifyRequest(path)).failed} == {"sha256", "golden"}


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        pytest.param({"sha256": "0" * 64}, "sha256", id="hash"),
        pytest.param({"size_bytes": 1}, "size", id="size"),
        pytest.param({"deployment_target": "iOS15"}, "specification", id="target"),
        pytest.param({"output_kind": OutputKind.LOGITS}, "output kind", id="output kind"),
    ],
)
def test_a_manifest_of_another_package_fails_its_gate(artefact, tiny_checkpoint, change, gate):
    path = artefact()
    manifest = read_manifest(manifest_path(path))
    manifest = replace(manifest, artefact=replace(manifest.artefact, **change))
    report = verify(VerifyRequest(path, manifest=manifest, checkpoint=tiny_checkpoint))
    assert [failed.name for failed in report.failed] == [gate]


def test_other_weights_fail_by_hash_golden_and_value(artefact, tiny, tiny_checkpoint):
    import copy

    other = copy.deepcopy(tiny)
    other.head.linear.weight.data = other.head.linear.weight.data.flip(0)
    report = verify(VerifyRequest(artefact(), checkpoint=replace(tiny_checkpoint, model=other, sha256="2" * 64)))
    assert {"weights", "golden of weights", "stored weights"} <= {gate.name for gate in report.failed}
    assert "head" in next(gate.measured for gate in report.failed if gate.name == "stored weights")


def test_the_shipped_weights_are_found_by_the_hash_that_the_manifest_states(artefact, tmp_path):
    from evit_edge.verification.sources import source_weights
    from evit_edge.zoo import EVERYDAY, checkpoint_path

    path = artefact()
    manifest = read_manifest(manifest_path(path))
    shipped = replace(manifest.source, sha256=sha256_of(checkpoint_path(EVERYDAY)))
    assert source_weights(VerifyRequest(path), replace(manifest, source=shipped)) == EVERYDAY
    assert source_weights(VerifyRequest(path), manifest) is None
    assert source_weights(VerifyRequest(path, weights=tmp_path), manifest) == str(tmp_path)


def test_a_converted_model_is_verified_on_photos_and_replayed(m0_checkpoint, photo_folder, tmp_path):
    from evit_edge.pipeline import ConvertRequest, Target, convert

    request = ConvertRequest(
        tmp_path, weights=str(m0_checkpoint), target=Target.COREML, quantization=Quantization.FP16
    )
    result = convert(request)
    command = ["verify", str(result.artefact), "--weights", str(m0_checkpoint), "--data", str(photo_folder)]
    outcome = CliRunner().invoke(app, [*command, "--golden", str(tmp_path / "golden"), "--json"])
    assert outcome.exit_code == 0, outcome.output
    document = json.loads(outcome.stdout)
    assert document["passed"]
    assert document["remarks"] == [REMARK]
    assert {gate["status"] for gate in document["gates"]} == {"passed"}
    assert document["figures"]["photo_top1_agreement"] == 1
    assert document["figures"]["photo_min_cosine"] > 0.9999
    assert (tmp_path / "golden" / "expected.json").is_file()


def test_a_phone_gets_pictures_answers_and_a_tolerance(artefact, pictures, tiny_labels, tmp_path):
    path = artefact("int8")
    assert write_replay(path, tmp_path / "golden") == len(pictures)
    expected = json.loads((tmp_path / "golden" / "expected.json").read_text(encoding="utf-8"))
    for entry, picture in zip(expected["pictures"], pictures, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "golden" / entry["file"])), picture)
    scores = np.array([entry["scores"] for entry in expected["pictures"]])
    declared = open_runner(path).run(pictures)
    errors = np.abs(declared - scores)
    assert errors.max() == pytest.approx(expected["largest_rounding_error"], rel=1e-3)
    assert 0 < expected["tolerance"] == pytest.approx(8 * expected["largest_rounding_error"])
    assert expected["tolerance"] < 0.05, "a tolerance that everything passes is none"
    assert expected["labels"] == list(tiny_labels)
    assert [entry["top1"] for entry in expected["pictures"]] == [tiny_labels[i] for i in scores.argmax(axis=1)]
    assert expected["remark"].endswith(REMARK)
    assert (expected["input"], expected["scores"]) == ("image", "classLabel_probs")
    swift = (tmp_path / "golden" / "GoldenReplay.swift").read_text(encoding="utf-8")
    assert "NOT COMPILED" in swift
    for key in expected["pictures"][0].keys() | {"tolerance", "pictures", "labels", "input", "scores"}:
        assert f"let {key}:" in swift, "the test decodes what the folder holds"


def test_what_cannot_be_replayed_is_refused(artefact, tmp_path):
    path = artefact()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match="not empty"):
        write_replay(path, tmp_path / "full")
    with pytest.raises(RequestError, match="mlpackage"):
        write_replay(path.with_suffix(".tflite"), tmp_path / "golden")
    golden_path(path).unlink()
    with pytest.raises(ArtefactError, match="golden vectors"):
        write_replay(path, tmp_path / "golden")
    assert not (tmp_path / "golden").exists()


def test_a_table_says_who_answered(artefact, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    outcome = CliRunner().invoke(app, ["verify", str(artefact())])
    assert outcome.exit_code == 0, outcome.output
    assert REMARK in outcome.stdout


@pytest.mark.parametrize("checked", ["alone", "with weights", "replayed"])
def test_golden_vectors_of_another_size_or_number_of_classes(
    artefact, tiny_checkpoint, pictures, tmp_path, checked
):
    path = artefact()
    small, logits = np.ascontiguousarray(pictures[:, ::2, ::2]), np.zeros((len(pictures), 7), np.float32)
    if checked == "alone":
        report = verify(VerifyRequest(path, golden=Golden(small, logits)))
        assert {gate.name: gate.measured for gate in report.failed} == {"golden": "64 px"}
        report = verify(VerifyRequest(path, golden=Golden(pictures, logits)))
        assert {gate.name: gate.measured for gate in report.failed} == {"golden": "(4, 5) answers, or not finite"}
    elif checked == "with weights":
        report = verify(VerifyRequest(path, golden=Golden(pictures, logits), checkpoint=tiny_checkpoint))
        assert {gate.name: gate.measured for gate in report.failed} == {"golden of weights": "7 classes"}
    else:
        write_golden(golden_path(path), Golden(small, logits))
        with pytest.raises(ArtefactError, match=r"takes no pictures of \(64, 64\), as its golden vectors hold"):
            write_replay(path, tmp_path / "golden")


@pytest.mark.parametrize("beside", ["nothing", "its ranges", "other ranges", "damage"])
def test_the_ranges_beside_a_package_are_those_of_its_manifest(artefact, tiny_checkpoint, tiny_ranges, beside):
    path = artefact()
    cache = CalibrationCache(
        model_sha256="1" * 64,
        photos_sha256="2" * 64,
        samples=4,
        seed=0,
        rule=RangeRule(Estimator.MINMAX),
        ranges={name: TensorRange(low, high) for name, (low, high) in tiny_ranges.items()},
        tool_version="0",
    )
    sha256 = hashlib.sha256(cache.to_json().encode()).hexdigest()
    manifest = read_manifest(manifest_path(path))
    manifest = replace(manifest, calibration=CalibrationEntry(sha256, 4, 0, "minmax"))
    match beside:
        case "its ranges":
            cache.save(calibration_path(path))
        case "other ranges":
            replace(cache, samples=5).save(calibration_path(path))
        case "damage":
            calibration_path(path).write_text("{")
    request = VerifyRequest(path, manifest=manifest, checkpoint=tiny_checkpoint)
    if beside == "damage":
        with pytest.raises(ArtefactError, match=r"calibration.*cannot be read"):
            verify(request)
    else:
        wanted = {"nothing": "skipped", "its ranges": "passed", "other ranges": "failed"}[beside]
        assert statuses(verify(request))["calibration"] == wanted
