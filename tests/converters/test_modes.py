"""The modes beside int8: what is stored, what is computed, what goes in and comes out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_graphs import GraphWriter, run

from evit_converters import tflite
from evit_converters.errors import QuantizationError
from evit_converters.tflite import Precision, Quantization
from evit_converters.tflite.graph import Graph

Answer = Callable[[bytes, np.ndarray], np.ndarray]
Ranges = dict[str, tuple[float, float]]


def sqnr_db(expected: np.ndarray, actual: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(expected) / np.linalg.norm(expected - actual)))


def stored_dtypes(model: bytes) -> set[str]:
    """Types of the stored kernels of convolutions and linear layers, also of those that are widened at loading."""
    graph = Graph(model)
    return {
        graph.dtype(t)
        for t in range(len(graph.tensors))
        if graph.is_constant(t) and len(graph.shape(t)) in (2, 4) and graph.dtype(t) in {"FLOAT32", "INT8"}
        if np.prod(graph.shape(t)) >= 64
    }


@pytest.mark.parametrize(
    ("mode", "least_db"),
    [(Quantization.INT8_DYNAMIC, 40), (Quantization.INT8_WEIGHTS, 40), (Quantization.INT16_ACT, 40)],
)
def test_modes_answer_like_float(
    mode: Quantization,
    least_db: float,
    float_model: bytes,
    ranges: Ranges,
    thumbnails: list[np.ndarray],
    answer: Answer,
) -> None:
    model = tflite.quantize(float_model, mode, ranges)
    assert stored_dtypes(model) == {"INT8"}
    for image in thumbnails:
        assert sqnr_db(answer(float_model, image), answer(model, image)) > least_db


@pytest.mark.parametrize("mode", [Quantization.INT8_DYNAMIC, Quantization.INT8_WEIGHTS])
def test_stored_weights_keep_one_partition(mode: Quantization, float_model: bytes) -> None:
    report = tflite.partitions(tflite.quantize(float_model, mode))
    assert (report.partitions, report.native_ops) == (1, ("CAST",))


def test_int16_activations_are_16_bits(float_model: bytes, ranges: Ranges) -> None:
    graph = Graph(tflite.quantize(float_model, Quantization.INT16_ACT, ranges))
    convolutions = [op for op in graph.operators if "CONV" in graph.kind(op)]
    assert {graph.dtype(int(op.outputs[0])) for op in convolutions} == {"INT16"}


@pytest.fixture(scope="module")
def full(float_model: bytes, ranges: Ranges) -> bytes:
    return tflite.quantize(float_model, Quantization.INT8_FULL, ranges)


def test_int8_full_holds_no_float(full: bytes) -> None:
    graph = Graph(full)
    used = {int(t) for op in graph.operators for t in (*op.inputs, *op.outputs) if t >= 0}
    assert {graph.dtype(t) for t in used} == {"UINT8", "INT8", "INT32"}
    assert [graph.dtype(t) for t in graph.inputs + graph.outputs] == ["UINT8", "UINT8"]
    assert [graph.name(t) for t in graph.inputs + graph.outputs] == ["input_0", "output_0"]


def test_int8_full_takes_pixels_as_they_are(full: bytes) -> None:
    quantization = Graph(full).tensors[Graph(full).inputs[0]].quantization
    assert (list(quantization.scale), list(quantization.zeroPoint)) == ([1.0], [0])


def test_int8_full_answers_like_float(
    full: bytes, float_model: bytes, thumbnails: list[np.ndarray], answer: Answer
) -> None:
    for image in thumbnails:
        expected, steps = answer(float_model, image), answer(full, image)
        assert steps.dtype == np.uint8
        np.testing.assert_allclose(steps / 256, expected, atol=0.02)


def test_int8_full_names_what_cannot_be_integer() -> None:
    writer = GraphWriter()
    x = writer.input((1, 4, 4, 16))
    kernel = np.ones((16, 1, 1, 16))
    x = writer.add("FLOOR", [writer.convolution("CONV_2D", x, kernel, np.zeros(16), (1, 4, 4, 16))], (1, 4, 4, 16))
    model = writer.model(writer.convolution("CONV_2D", x, kernel, np.zeros(16), (1, 4, 4, 16)))
    ranges = dict.fromkeys(tflite.activation_names(model), (-1.0, 1.0))
    with pytest.raises(QuantizationError, match="FLOOR stay in float"):
        tflite.quantize(model, Quantization.INT8_FULL, ranges)


@pytest.mark.parametrize("mode", [Quantization.INT8_FULL, Quantization.INT16_ACT])
def test_integer_activations_need_ranges(mode: Quantization, float_model: bytes) -> None:
    with pytest.raises(QuantizationError, match="needs the value ranges"):
        tflite.quantize(float_model, mode)


def test_tuning_exempts_whole_kinds() -> None:
    """Which kinds is the machine's affair; that the result can be built and answers is not."""
    writer, rng = GraphWriter(), np.random.default_rng(0)
    x = writer.input((1, 12, 12, 32))
    for _ in range(2):
        kernel = rng.standard_normal((32, 1, 1, 32)) / 6
        x = writer.convolution("CONV_2D", x, kernel, np.zeros(32), (1, 12, 12, 32))
        x = writer.add("LOGISTIC", [x], (1, 12, 12, 32))
    model = writer.model(x)
    ranges = dict.fromkeys(tflite.activation_names(model), (-3.0, 3.0))
    operators = tflite.quantizable_operators(model)
    first = {operators[0].name: Precision.FLOAT}
    exempt = tflite.faster_in_float(model, ranges, exempt=first)
    assert first.items() <= exempt.items()
    kinds = {operator.kind for operator in operators if operator.name in exempt.keys() - first.keys()}
    assert exempt.keys() - first.keys() <= {operator.name for operator in operators if operator.kind in kinds}
    image = rng.uniform(-2, 2, (1, 12, 12, 32)).astype(np.float32)
    tuned = tflite.quantize(model, Quantization.INT8, ranges, exempt=exempt)
    np.testing.assert_allclose(run(tuned, image)[0], run(model, image)[0], atol=0.05)
