"""What int8 asks of a float graph before it is quantized keeps what the graph computes."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import GraphWriter, run

from evit_converters import tflite
from evit_converters.tflite import Precision, Quantization
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.lowering import lower

RNG = np.random.default_rng(0)


def lowered(model: bytes) -> tuple[bytes, dict[str, tuple[float, float]]]:
    graph = Graph(model)
    before = {graph.name(tensor): (-1.0, 2.0) for tensor in graph.activations()}
    ranges = lower(graph, before)
    assert set(ranges) >= {graph.name(tensor) for tensor in graph.activations()}
    return graph.to_bytes(), ranges


def kinds(model: bytes) -> list[str]:
    graph = Graph(model)
    return [graph.kind(operator) for operator in graph.operators]


def image_convolution(width: int, kernel: int, left: int, right: int, batch: int = 1) -> bytes:
    """A stem: PAD and a convolution of stride 2 on three channels."""
    writer, height = GraphWriter(), 10
    pads = np.array([[0, 0], [1, 1], [left, right], [0, 0]], np.int32)
    padded = (batch, height + 2, width + left + right, 3)
    steps = [(size - kernel) // 2 + 1 for size in padded[1:3]]
    x = writer.add("PAD", [writer.input((batch, height, width, 3)), writer.stored(pads)], padded)
    weights = RNG.standard_normal((8, kernel, kernel, 3))
    shape = (batch, *steps, 8)
    return writer.model(writer.convolution("CONV_2D", x, weights, np.arange(8.0), shape, strideH=2, strideW=2))


@settings(max_examples=40, deadline=None)
@given(
    half=st.integers(4, 9),
    kernel=st.integers(1, 7),
    left=st.integers(0, 3),
    right=st.integers(0, 3),
    batch=st.integers(1, 2),
)
def test_pairs_of_pixels_compute_the_same(half: int, kernel: int, left: int, right: int, batch: int) -> None:
    model = image_convolution(2 * half, kernel, left, right, batch)
    changed, _ = lowered(model)
    assert kinds(changed) == ["RESHAPE", "PAD", "CONV_2D"]
    image = RNG.standard_normal((batch, 10, 2 * half, 3)).astype(np.float32)
    np.testing.assert_allclose(run(changed, image)[0], run(model, image)[0], rtol=1e-4, atol=1e-4)


def test_an_odd_width_stays() -> None:
    assert kinds(lowered(image_convolution(9, 3, 1, 0))[0]) == ["PAD", "CONV_2D"]


def depthwise(kernel: int, channels: int, *, stride: int = 1) -> bytes:
    writer, side = GraphWriter(), 9
    steps = -(-side // stride)
    x = writer.input((1, side, side, channels))
    weights, shape = RNG.standard_normal((1, kernel, kernel, channels)), (1, steps, steps, channels)
    same = {"padding": schema.Padding.SAME, "strideH": stride, "strideW": stride}
    return writer.model(
        writer.convolution("DEPTHWISE_CONV_2D", x, weights, np.arange(1.0 * channels), shape, **same)
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_large_depthwise_becomes_dense(stride: int) -> None:
    model = depthwise(7, 16, stride=stride)
    changed, _ = lowered(model)
    assert kinds(changed) == ["CONV_2D"]
    image = RNG.standard_normal((1, 9, 9, 16)).astype(np.float32)
    np.testing.assert_allclose(run(changed, image)[0], run(model, image)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kernel", "channels"), [(5, 16), (7, 64)], ids=["small window", "many channels"])
def test_other_depthwise_stay(kernel: int, channels: int) -> None:
    assert kinds(lowered(depthwise(kernel, channels))[0]) == ["DEPTHWISE_CONV_2D"]


def joined_heads(*, read_twice: bool = False) -> bytes:
    writer = GraphWriter()
    parts = [writer.add("SOFTMAX", [writer.input((1, 4, 4, 8))], (1, 4, 4, 8), beta=1.0) for _ in range(3)]
    joined = writer.add("CONCATENATION", parts, (1, 4, 4, 24), axis=3)
    result = writer.add("RELU", [joined], (1, 4, 4, 24))
    return writer.model(result, *([joined] if read_twice else []))


def test_relu_moves_before_concatenation() -> None:
    model = joined_heads()
    changed, ranges = lowered(model)
    assert sorted(kinds(changed)) == ["CONCATENATION", *["RELU"] * 3, *["SOFTMAX"] * 3]
    images = [RNG.standard_normal((1, 4, 4, 8)).astype(np.float32) for _ in range(3)]
    np.testing.assert_array_equal(run(changed, *images)[0], run(model, *images)[0])
    assert len(ranges) == 3 + 3 + 2 + 3


def test_relu_stays_where_others_read_the_concatenation() -> None:
    assert kinds(lowered(joined_heads(read_twice=True))[0]).count("RELU") == 1


def test_exemptions_reach_rewritten_operators() -> None:
    model = depthwise(7, 16)
    name = tflite.quantizable_operators(model)[0].name
    ranges = dict.fromkeys(tflite.activation_names(model), (-20.0, 20.0))
    int8 = tflite.quantize(model, Quantization.INT8, ranges)
    exempt = tflite.quantize(model, Quantization.INT8, ranges, exempt={name: Precision.FLOAT})
    assert len(int8) < len(exempt)
    image = RNG.standard_normal((1, 9, 9, 16)).astype(np.float32)
    np.testing.assert_allclose(run(exempt, image)[0], run(model, image)[0], rtol=1e-4, atol=1e-4)
