from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.errors import ArtefactError, CheckpointError, DataError, RequestError, VerificationError
from evit_edge.golden import Golden, read_golden
from evit_edge.manifest import Quantization, golden_path, manifest_path, read_manifest
from evit_edge.preprocessing import Preprocessing
from evit_edge.verification import Gate, GateStatus, Thresholds, VerificationReport, VerifyRequest, verify
from evit_edge.verification.parity import measure_parity


def statuses(report: VerificationReport) -> dict[str, str]:
    return {gate.name: gate.status.value for gate in report.gates}


def test_a_sound_artefact_passes_every_gate(m0_artefact, m0_checkpoint, photo_folder):
    report = verify(VerifyRequest(m0_artefact, weights=m0_checkpoint, data=(photo_folder,)))
    assert report.passed
    assert set(statuses(report).values()) == {"passed"}
    assert list(statuses(report)) == [
        "sha256",
        "size",
        "input",
        "output",
        "output kind",
        "labels",
        "resize rule",
        "partitions",
        "relative error",
        "weights",
        "golden of weights",
        "top-1 agreement",
    ]
    assert report.figures["golden_relative_error"] < 1e-4
    assert report.figures["photo_top1_agreement"] == 1.0
    report.raise_if_failed()


def test_what_is_not_given_is_skipped_with_a_reason(m0_artefact, photo_folder):
    without_photos = verify(VerifyRequest(m0_artefact)).gates[-1]
    without_weights = verify(VerifyRequest(m0_artefact, data=(photo_folder,))).gates[-1]
    assert without_photos.status is without_weights.status is GateStatus.SKIPPED
    assert "--data" in without_photos.measured
    assert "--weights" in without_weights.measured


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        pytest.param({"sha256": "0" * 64}, "sha256", id="hash"),
        pytest.param({"size_bytes": 1}, "size", id="size"),
        pytest.param({"labels": 4}, "labels", id="labels"),
    ],
)
def test_a_manifest_of_another_file_fails_its_gate(m0_artefact, copy_artefact, tmp_path, changes, gate):
    report = verify(VerifyRequest(copy_artefact(m0_artefact, tmp_path, **changes)))
    assert [failed.name for failed in report.failed] == [gate]
    with pytest.raises(VerificationError, match=f"fails {gate}"):
        report.raise_if_failed()


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        pytest.param(lambda m: replace(m, preprocessing=Preprocessing(image_size=128)), "resize rule", id="rule"),
        pytest.param(
            lambda m: replace(m, artefact=replace(m.artefact, input=replace(m.artefact.input, dtype="int8"))),
            "input",
            id="input type",
        ),
        pytest.param(
            lambda m: replace(m, artefact=replace(m.artefact, output=replace(m.artefact.output, shape=(1, 6)))),
            "output",
            id="output shape",
        ),
        pytest.param(
            lambda m: replace(m, artefact=replace(m.artefact, partitions=0)), "partitions", id="partitions"
        ),
    ],
)
def test_a_manifest_given_in_memory_is_held_against_the_file(m0_artefact, change, gate):
    manifest = change(read_manifest(manifest_path(m0_artefact)))
    report = verify(VerifyRequest(m0_artefact, manifest=manifest))
    assert [failed.name for failed in report.failed] == [gate]


def test_pieces_that_are_not_stated_are_not_compared(m0_artefact):
    manifest = read_manifest(manifest_path(m0_artefact))
    manifest = replace(manifest, artefact=replace(manifest.artefact, partitions=None))
    gates = {gate.name: gate for gate in verify(VerifyRequest(m0_artefact, manifest=manifest)).gates}
    assert gates["partitions"] == Gate.skip("partitions", "the manifest states none", "as stated")


def test_weights_of_another_number_of_classes_are_refused(m0_artefact, m0_checkpoint):
    manifest = read_manifest(manifest_path(m0_artefact))
    manifest = replace(manifest, source=replace(manifest.source, num_classes=7))
    with pytest.raises(RequestError, match=r"has 5 classes and random\.tflite 7; give the weights that it was"):
        verify(VerifyRequest(m0_artefact, manifest=manifest, weights=m0_checkpoint))


def test_noise_on_the_answers_fails_each_kinds_gates(m0_artefact):
    golden = read_golden(golden_path(m0_artefact))
    manifest = read_manifest(manifest_path(m0_artefact))
    spread = golden.logits.std()
    noise = np.random.default_rng(0).normal(0, 0.5 * spread, golden.logits.shape).astype(np.float32)
    failing = {}
    for quantization in Quantization:
        request = VerifyRequest(
            m0_artefact,
            manifest=replace(manifest, quantization=quantization),
            golden=Golden(golden.images, golden.logits + noise),
        )
        failing[quantization] = [gate.name for gate in verify(request).failed]
    assert failing[Quantization.NONE] == failing[Quantization.FP16] == ["relative error"]
    assert "sqnr" in failing[Quantization.INT8]


def test_golden_vectors_of_another_model_fail(m0_artefact):
    golden = read_golden(golden_path(m0_artefact))
    fewer = Golden(golden.images, golden.logits[:, :4].copy())
    smaller = Golden(golden.images[:, :64, :64].copy(), golden.logits)
    for wrong in (fewer, smaller):
        assert [g.name for g in verify(VerifyRequest(m0_artefact, golden=wrong)).failed] == ["golden"]


def test_other_weights_fail_by_hash_and_by_answer(m0_artefact, other_weights, photo_folder):
    report = verify(VerifyRequest(m0_artefact, weights=other_weights, data=(photo_folder,)))
    assert [gate.name for gate in report.failed][:2] == ["weights", "golden of weights"]


@pytest.fixture(scope="module")
def other_weights(m0_checkpoint, tmp_path_factory):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    with safe_open(m0_checkpoint, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors["head.linear.weight"] = tensors["head.linear.weight"].flip(0)
    save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize("missing", ["artefact", "manifest", "golden", "weights", "data", "few photos"])
def test_what_is_missing_is_named(m0_artefact, m0_checkpoint, copy_artefact, tmp_path, missing):
    copy = copy_artefact(m0_artefact, tmp_path)
    request = VerifyRequest(copy, weights=m0_checkpoint)
    match missing:
        case "artefact":
            copy.unlink()
        case "manifest":
            manifest_path(copy).unlink()
        case "golden":
            golden_path(copy).unlink()
        case "weights":
            request = replace(request, weights=tmp_path / "none.safetensors")
        case "data":
            request = replace(request, data=(tmp_path / "none",))
        case "few photos":
            with pytest.raises(RequestError):
                replace(request, samples=0)
            return
    with pytest.raises((ArtefactError, CheckpointError, DataError), match=str(tmp_path)):
        verify(request)


@given(st.floats(1e-6, 1e-1), st.integers(0, 1000))
def test_parity_measures_noise_that_was_put_in(level, seed):
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(6, 50))
    noise = rng.normal(size=(6, 50)) * level
    parity = measure_parity(reference + noise, reference)
    assert parity.sqnr_db == pytest.approx(10 * np.log10((reference**2).sum() / (noise**2).sum()), abs=1e-3)
    assert parity.relative_error == pytest.approx(np.abs(noise).max() / np.abs(reference).max(), rel=1e-6)
    assert 0.9 < parity.min_cosine <= 1 + 1e-12
    assert measure_parity(reference, reference).top1_agreement == 1.0


def test_nan_passes_no_gate():
    thresholds = Thresholds(max_relative_error=1e-4, min_sqnr_db=12, min_cosine=0.9, min_agreement=0.9)
    from evit_edge.verification.parity import _parity_gates

    reference = np.ones((1, 2))
    gates = _parity_gates(measure_parity(np.full((1, 2), np.nan), reference), thresholds)
    assert {gate.status for gate in gates} == {GateStatus.FAILED}
    assert Gate.skip("x", "y", "z").status is GateStatus.SKIPPED


@pytest.mark.parametrize("changes", [{"min_agreement": 1.1}, {"max_relative_error": 0.0}])
def test_impossible_thresholds_are_refused(changes):
    with pytest.raises(RequestError):
        replace(Thresholds.of(Quantization.NONE), **changes)
