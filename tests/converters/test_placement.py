"""Placement asks the runtime: wrong guesses are corrected, and what cannot be helped is named."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from small_graphs import GraphWriter, run

from evit_converters import tflite
from evit_converters.tflite import Quantization, placement
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.rewrite import rewrite

RNG = np.random.default_rng(0)
SHAPE = (1, 8, 8, 16)


def pointwise(writer: GraphWriter, source: int) -> int:
    kernel = RNG.standard_normal((16, 1, 1, 16)) / 4
    return writer.convolution("CONV_2D", source, kernel, np.zeros(16), writer.shape(source))


def between_convolutions(kind: str, shape: tuple[int, ...] = SHAPE, **options: object) -> bytes:
    """An operator of one input between two convolutions."""
    writer = GraphWriter()
    middle = writer.add(kind, [pointwise(writer, writer.input(SHAPE))], shape, **options)
    return writer.model(pointwise(writer, middle))


POOLING = {"padding": schema.Padding.VALID, "filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2}


def int8(model: bytes) -> bytes:
    ranges = dict.fromkeys(tflite.activation_names(model), (-6.0, 6.0))
    return tflite.quantize(model, Quantization.INT8, ranges)


@pytest.mark.parametrize(
    "model",
    [
        between_convolutions("SOFTMAX", beta=1.0),
        between_convolutions("RELU"),
        between_convolutions("HARD_SWISH"),
        between_convolutions("GELU"),
        between_convolutions("AVERAGE_POOL_2D", (1, 4, 4, 16), **POOLING),
    ],
    ids=["SOFTMAX", "RELU", "HARD_SWISH", "GELU", "AVERAGE_POOL_2D"],
)
def test_a_wrong_guess_is_corrected(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Believing of a kind that it is taken in int8 costs a build, not a partition."""
    expected = int8(model)
    kind = Graph(model).kind(Graph(model).operators[1])
    monkeypatch.setattr(placement, "PLAIN_INT8", placement.PLAIN_INT8 | {kind})
    guess = placement.float_operators(Graph(model))
    assert 1 not in guess
    assert int8(model) == expected
    assert tflite.partitions(expected).partitions == 1
    graph = Graph(expected)
    dtypes = [graph.dtype(int(op.outputs[0])) for op in graph.operators if graph.kind(op) == kind]
    assert set(dtypes) <= {"FLOAT32"}


def test_a_stored_part_of_a_concatenation_stays_in_float() -> None:
    """As a vision transformer's class token is joined to the others."""
    writer = GraphWriter()
    x = pointwise(writer, writer.input(SHAPE))
    x = writer.add("CONCATENATION", [writer.stored(np.ones((1, 1, 8, 16), np.float32)), x], (1, 9, 8, 16), axis=1)
    model = int8(writer.model(pointwise(writer, x)))
    assert tflite.partitions(model).partitions == 1


def test_what_divides_a_model_is_named() -> None:
    writer = GraphWriter()
    x = pointwise(writer, writer.input(SHAPE))
    steps = [writer.stored(np.array(values, np.int32)) for values in ([0, 1, 0, 0], [1, 8, 8, 16], [1, 2, 1, 1])]
    x = writer.add("STRIDED_SLICE", [x, *steps], (1, 4, 8, 16))
    model = writer.model(pointwise(writer, x))
    for content in (model, int8(model)):
        report = tflite.partitions(content)
        assert report.partitions == 2
        assert [operator.kind for operator in report.at_fault] == ["STRIDED_SLICE"]
    assert report.at_fault[0].name.startswith(f"t{x}")


@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize("strides", [(2, 1), (1, 2), (3, 2)], ids=str)
def test_every_nth_row_is_a_convolution(size: int, strides: tuple[int, int]) -> None:
    writer = GraphWriter()
    x = writer.input((1, size, size, 16))
    shape = (1, -(-size // strides[0]), -(-size // strides[1]), 16)
    bounds = [[0, 0, 0, 0], [1, size, size, 16], [1, *strides, 1]]
    steps = [writer.stored(np.array(values, np.int32)) for values in bounds]
    model = writer.model(writer.add("STRIDED_SLICE", [x, *steps], shape))
    changed = rewrite(model)
    assert [Graph(changed).kind(op) for op in Graph(changed).operators] == ["DEPTHWISE_CONV_2D"]
    image = RNG.standard_normal((1, size, size, 16)).astype(np.float32)
    np.testing.assert_array_equal(run(changed, image)[0], image[:, :: strides[0], :: strides[1]])
    assert tflite.partitions(changed).partitions == 1


def test_a_leading_cast_is_not_at_fault(float_model: bytes) -> None:
    report = tflite.partitions(float_model)
    assert [operator.kind for operator in report.native] == ["CAST"]
    assert report.at_fault == ()


def test_scales_too_far_apart_are_not_joined_in_int8() -> None:
    """XNNPACK refuses to change a scale by more than a factor of 128; concatenation would need that."""
    writer = GraphWriter()
    x = pointwise(writer, writer.input(SHAPE))
    small = writer.add("TANH", [x], SHAPE)
    joined = writer.add("CONCATENATION", [x, small], (1, 8, 8, 32), axis=3)
    kernel = RNG.standard_normal((16, 1, 1, 32))
    model = writer.model(writer.convolution("CONV_2D", joined, kernel, np.zeros(16), SHAPE))
    ranges = dict.fromkeys(tflite.activation_names(model), (-400.0, 400.0)) | {f"t{small}": (-0.5, 0.5)}
    content = tflite.quantize(model, Quantization.INT8, ranges)
    assert tflite.partitions(content).partitions == 1
    graph = Graph(content)
    dtypes = {graph.dtype(int(op.outputs[0])) for op in graph.operators if graph.kind(op) == "CONCATENATION"}
    assert dtypes == {"FLOAT32"}
