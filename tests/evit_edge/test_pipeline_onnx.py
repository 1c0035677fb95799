"""The road to ONNX: what is written, that it is proved, and that every command takes it."""

import json

import numpy as np
import onnx as reference
import pytest

from evit_converters import onnx
from evit_edge.errors import ConversionError, RequestError, VerificationError
from evit_edge.files import sha256_of
from evit_edge.manifest import Quantization, manifest_path
from evit_edge.pipeline import ConvertRequest, Target, convert
from evit_edge.runtime import open_runner
from evit_edge.runtime.info import RuleSource
from evit_edge.tensors import OutputKind
from evit_edge.verification import VerifyRequest, verify
from evit_edge.verification.gates import GateStatus

EXPORTED = {}


@pytest.fixture(scope="module", autouse=True)
def exported_once():
    """Exporting takes most of a conversion: once for all that differ in quantization alone."""
    real = onnx.export

    def export(module, example, *, output_name):
        key = (type(module).__name__, output_name, repr(module(example)))
        if key not in EXPORTED:
            EXPORTED[key] = real(module, example, output_name=output_name)
        return EXPORTED[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "export", export, raising=False)
        yield


@pytest.fixture(scope="module")
def made(m0_checkpoint, photo_folder, tmp_path_factory):
    """Function: the random M0 as ONNX in one quantization."""
    folder = tmp_path_factory.mktemp("onnx")
    results = {}

    def call(quantization):
        if quantization not in results:
            photos = (photo_folder,) if quantization is Quantization.INT8 else ()
            results[quantization] = convert(
                ConvertRequest(
                    folder,
                    weights=str(m0_checkpoint),
                    target=Target.ONNX,
                    quantization=quantization,
                    calibration=photos,
                    license="MIT",
                )
            )
        return results[quantization]

    return call


@pytest.mark.parametrize("quantization", [Quantization.NONE, Quantization.FP16, Quantization.INT8])
def test_a_checkpoint_becomes_a_proved_file(made, quantization, m0_checkpoint, photo_folder):
    result = made(quantization)
    assert result.report.passed
    assert "onnx.checker" in {gate.name for gate in result.report.gates}
    info = open_runner(result.artefact).info
    assert info.labels == ("cup", "cat", "rocket", "astronaut", "camera")
    assert info.aliases == {"mug": "cup"}
    assert info.preprocessing_source is RuleSource.FILE
    assert info.preprocessing.crop_fraction == 0.9
    assert info.output_kind is OutputKind.PROBABILITIES
    assert result.manifest.artefact.sha256 == sha256_of(result.artefact)
    assert {"onnx", "onnxruntime", "onnxscript", "torch"} <= set(result.manifest.versions)
    again = verify(VerifyRequest(result.artefact, weights=str(m0_checkpoint), data=(photo_folder,)))
    assert again.passed
    assert all(gate.status is GateStatus.PASSED for gate in again.gates)


def test_what_the_file_says_is_there_for_any_program(made):
    model = reference.load(made(Quantization.INT8).artefact)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["labels"]) == ["cup", "cat", "rocket", "astronaut", "camera"]
    assert (told["name"], told["license"], model.producer_name) == ("random", "MIT", "evit-edge")


def test_quantization_makes_it_smaller(made):
    sizes = [made(q).size_bytes for q in (Quantization.NONE, Quantization.FP16, Quantization.INT8)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < 0.6 * sizes[0]


def test_a_batch_is_scored_like_its_pictures(made):
    onnxruntime = pytest.importorskip("onnxruntime")
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3)).astype(np.uint8)
    artefact = made(Quantization.NONE).artefact
    session = onnxruntime.InferenceSession(str(artefact), providers=["CPUExecutionProvider"])
    together = session.run(["probabilities"], {"image": images})[0]
    np.testing.assert_allclose(together, open_runner(artefact).run(images), atol=1e-5)


def test_a_changed_weight_is_found(made, copy_artefact, tmp_path):
    artefact = copy_artefact(made(Quantization.NONE).artefact, tmp_path)
    model = reference.load(artefact)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    values = reference.numpy_helper.to_array(tensor).copy()
    values[0] += 1
    tensor.CopyFrom(reference.numpy_helper.from_array(values, tensor.name))
    reference.save(model, artefact)
    failed = {gate.name for gate in verify(VerifyRequest(artefact)).failed}
    assert {"sha256", "relative error"} <= failed


def test_what_only_the_checker_refuses_is_found(made, copy_artefact, tmp_path):
    artefact = copy_artefact(made(Quantization.NONE).artefact, tmp_path)
    model = reference.load(artefact)
    nodes = list(model.graph.node)  # ONNX asks for nodes in the order of execution; ONNX Runtime does not
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    reference.save(model, artefact)
    failed = {gate.name for gate in verify(VerifyRequest(artefact)).failed}
    assert "onnx.checker" in failed
    assert "relative error" not in failed


def test_an_unsound_conversion_leaves_nothing(m0_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(
        onnx, "quantize", lambda content, *_: onnx.describe(content, version="", description="", metadata={})
    )
    monkeypatch.setattr(onnx, "describe", lambda *_, **__: b"no model")
    with pytest.raises((ConversionError, VerificationError)):
        convert(ConvertRequest(tmp_path / "out", weights=str(m0_checkpoint), target=Target.ONNX))
    assert not list((tmp_path / "out").glob("*"))


def test_what_onnx_cannot_be_is_said(tmp_path):
    with pytest.raises(RequestError, match="palette4 given; none, fp16, int8 are accepted with --to onnx"):
        ConvertRequest(tmp_path, target=Target.ONNX, quantization=Quantization.PALETTE4)


def test_a_manifest_lies_beside_it(made):
    assert manifest_path(made(Quantization.FP16).artefact).name == "random-fp16.onnx.json"
