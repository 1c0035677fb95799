"""Quantized models: small, close to float, int8 where it pays, one partition, reproducible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from evit_converters import tflite
from evit_converters.errors import ModelFileError, QuantizationError
from evit_converters.tflite import Precision, Quantization
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.placement import float_operators

Answer = Callable[[bytes, np.ndarray], np.ndarray]
Ranges = dict[str, tuple[float, float]]


def sqnr_db(expected: np.ndarray, actual: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(expected) / np.linalg.norm(expected - actual)))


def test_none_returns_the_model(float_model: bytes) -> None:
    assert tflite.quantize(float_model, Quantization.NONE) == float_model


@pytest.mark.parametrize(("mode", "native"), [("fp16_model", ("CAST",)), ("int8_model", ())])
def test_one_partition(mode: str, native: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    report = tflite.partitions(request.getfixturevalue(mode))
    assert (report.partitions, report.native_ops) == (1, native)


@pytest.mark.parametrize(("mode", "least_db"), [("fp16_model", 60), ("int8_model", 30)])
def test_answers_are_close_to_float(
    mode: str,
    least_db: float,
    request: pytest.FixtureRequest,
    float_model: bytes,
    thumbnails: list[np.ndarray],
    answer: Answer,
) -> None:
    model = request.getfixturevalue(mode)
    for image in thumbnails:
        assert sqnr_db(answer(float_model, image), answer(model, image)) > least_db


@pytest.mark.parametrize(("mode", "dtype"), [("fp16_model", "FLOAT16"), ("int8_model", "INT8")])
def test_no_float_weight_is_left(mode: str, dtype: str, request: pytest.FixtureRequest) -> None:
    graph = Graph(request.getfixturevalue(mode))
    stored = {
        graph.dtype(t) for t in range(len(graph.tensors)) if graph.is_constant(t) and len(graph.shape(t)) == 4
    }
    assert stored == {dtype}


def test_int8_weights_have_a_scale_for_each_channel(int8_model: bytes) -> None:
    graph = Graph(int8_model)
    channels = {}
    for operator in graph.operators:
        if graph.kind(operator) == "CONV_2D":
            weight = int(operator.inputs[1])
            channels[graph.shape(weight)[0]] = len(graph.tensors[weight].quantization.scale)
    assert channels == {16: 16}


def test_int8_model_keeps_its_contract(int8_model: bytes) -> None:
    graph = Graph(int8_model)
    assert [graph.dtype(t) for t in graph.inputs + graph.outputs] == ["UINT8", "FLOAT32"]
    assert graph.shape(graph.inputs[0]) == (1, 32, 32, 3)


def test_attention_and_centring_stay_in_float_convolutions_do_not(float_model: bytes) -> None:
    graph = Graph(float_model)
    stay = {graph.kind(graph.operators[place]) for place in float_operators(graph)}
    assert {"SOFTMAX", "BATCH_MATMUL", "SUB", "RELU"} <= stay
    assert not stay & {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC"}


def test_scores_between_the_two_products_are_never_converted(int8_model: bytes) -> None:
    graph = Graph(int8_model)
    shapes = [graph.shape(int(o.outputs[0])) for o in graph.operators if "QUANTIZE" in graph.kind(o)]
    assert shapes
    assert not [shape for shape in shapes if shape[-2:] == (64, 64)]


def test_clamped_relu_is_gone(float_model: bytes, int8_model: bytes) -> None:
    def lone_relus(model: bytes) -> int:
        graph = Graph(model)
        return sum(graph.kind(operator) == "RELU" for operator in graph.operators)

    assert lone_relus(float_model) == 1
    assert lone_relus(int8_model) == 0


def test_same_ranges_same_bytes(float_model: bytes, ranges: Ranges, int8_model: bytes) -> None:
    shuffled = dict(reversed(ranges.items()))
    assert tflite.quantize(float_model, Quantization.INT8, shuffled) == int8_model


def test_quantizers_are_silent(float_model: bytes, ranges: Ranges, capfd: pytest.CaptureFixture[str]) -> None:
    tflite.quantize(float_model, Quantization.INT8, ranges)
    tflite.quantize(float_model, Quantization.FP16)
    assert capfd.readouterr() == ("", "")


def test_dead_activations_are_quantized(float_model: bytes, ranges: Ranges, answer: Answer) -> None:
    dead = dict.fromkeys(ranges, (0.0, 0.0))
    model = tflite.quantize(float_model, Quantization.INT8, dead)
    assert np.isfinite(answer(model, np.zeros((1, 32, 32, 3), np.uint8))).all()


@pytest.mark.parametrize("mode", [Quantization.INT8, Quantization.INT8_FULL])
def test_a_layer_that_is_dead_on_all_photos_ends_no_process(
    mode: Quantization, float_model: bytes, ranges: Ranges, thumbnails: list[np.ndarray], answer: Answer
) -> None:
    """Its range is nothing; a scale to match would be finer than XNNPACK can multiply by."""
    for operator in tflite.quantizable_operators(float_model):
        model = tflite.quantize(float_model, mode, {**ranges, operator.name: (0.0, 0.0)})
        assert np.isfinite(answer(model, thumbnails[0])).all(), operator


def test_activation_names_are_what_int8_wants(float_model: bytes, ranges: Ranges) -> None:
    assert set(tflite.activation_names(float_model)) == set(ranges)


def without_first(ranges: Ranges) -> Ranges:
    return dict(list(ranges.items())[1:])


def with_first(ranges: Ranges, bounds: tuple[float, float]) -> Ranges:
    return {**ranges, next(iter(ranges)): bounds}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ranges: None, "none were given"),
        (without_first, "ranges are missing for 1 of"),
        (lambda ranges: {**ranges, "conv_9999": (0.0, 1.0)}, "1 tensors that the model does not have.*conv_9999"),
        (lambda ranges: with_first(ranges, (2.0, 1.0)), "2.0 to 1.0; finite, ascending"),
        (lambda ranges: with_first(ranges, (float("nan"), 1.0)), "nan to 1.0; finite, ascending"),
        (lambda ranges: with_first(ranges, (0.0, float("inf"))), "0.0 to inf; finite, ascending"),
    ],
    ids=["none", "missing", "unknown", "descending", "nan", "infinite"],
)
def test_impossible_ranges_are_refused(
    change: Callable[[Ranges], Ranges | None], message: str, float_model: bytes, ranges: Ranges
) -> None:
    with pytest.raises(QuantizationError, match=message):
        tflite.quantize(float_model, Quantization.INT8, change(ranges))


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x18\x00\x00\x00TFL3" + bytes(40)])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFileError):
        tflite.quantize(content, Quantization.FP16)
    with pytest.raises(ModelFileError):
        tflite.partitions(content)


def test_runner_refuses_another_shape(float_model: bytes) -> None:
    run = tflite.activation_runner(float_model)
    with pytest.raises(
        ModelFileError, match=r"uint8 \(1, 16, 16, 3\) given; the model takes uint8 \(1, 32, 32, 3\)"
    ):
        run(np.zeros((1, 16, 16, 3), np.uint8))


def test_runner_shows_the_models_answer(float_model: bytes, thumbnails: list[np.ndarray], answer: Answer) -> None:
    run = tflite.activation_runner(float_model)
    first, second = run(thumbnails[0]), run(thumbnails[1])
    np.testing.assert_allclose(first["output_0"], answer(float_model, thumbnails[0]), rtol=1e-4, atol=1e-6)
    assert not np.array_equal(first["output_0"], second["output_0"])
    assert {v.dtype for v in first.values()} == {np.dtype(np.float32)}


def types_of(model: bytes, name: str) -> set[str]:
    """Types of the tensors whose name begins with ``name``."""
    graph = Graph(model)
    return {graph.dtype(t) for t in range(len(graph.tensors)) if graph.name(t).startswith(name)}


@pytest.mark.parametrize(("precision", "dtype"), [(Precision.FLOAT, "FLOAT32"), (Precision.INT16, "INT16")])
def test_exempted_operators_leave_int8(
    precision: Precision, dtype: str, float_model: bytes, ranges: Ranges, int8_model: bytes
) -> None:
    conv = next(op for op in tflite.quantizable_operators(float_model) if op.kind == "CONV_2D")
    model = tflite.quantize(float_model, Quantization.INT8, ranges, exempt={conv.name: precision})
    assert "INT8" in types_of(int8_model, conv.name)
    assert dtype in types_of(model, conv.name)
    assert types_of(int8_model, conv.name) != types_of(model, conv.name)


def test_a_model_with_everything_exempted_is_float(
    float_model: bytes, ranges: Ranges, thumbnails: list[np.ndarray], answer: Answer
) -> None:
    every = {operator.name: Precision.FLOAT for operator in tflite.quantizable_operators(float_model)}
    model = tflite.quantize(float_model, Quantization.INT8, ranges, exempt=every)
    np.testing.assert_allclose(answer(model, thumbnails[0]), answer(float_model, thumbnails[0]), rtol=1e-5)


def test_quantizable_operators_are_named_by_their_results(float_model: bytes, ranges: Ranges) -> None:
    operators = tflite.quantizable_operators(float_model)
    assert {operator.name for operator in operators} <= set(ranges)
    assert [operator.place for operator in operators] == sorted(operator.place for operator in operators)
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"} <= {operator.kind for operator in operators}
    assert not {"SOFTMAX", "RESHAPE", "PAD"} & {operator.kind for operator in operators}


@pytest.mark.parametrize(
    ("mode", "name", "message"),
    [
        (Quantization.INT8, "conv_9999", "'conv_9999' is to be exempted, but no operator"),
        (Quantization.FP16, "conv_2d_4", "exemptions are for int8"),
    ],
    ids=["unknown", "mode"],
)
def test_impossible_exemptions_are_refused(
    mode: Quantization, name: str, message: str, float_model: bytes, ranges: Ranges
) -> None:
    with pytest.raises(QuantizationError, match=message):
        tflite.quantize(float_model, mode, ranges, exempt={name: Precision.FLOAT})
