"""What int8-full does to a graph's ends: no digit is lost, names and signatures stay, and floats are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import GraphWriter, run

from evit_converters.errors import QuantizationError
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.integers import bytes_at_both_ends, pixels_as_float

SHAPE = (1, 2, 3, 3)


def kinds(graph: Graph) -> list[str]:
    return [graph.kind(operator) for operator in graph.operators]


def sign(graph: Graph) -> None:
    """One signature with all inputs and outputs."""

    def entries(tensors: list[int]) -> list[Any]:
        made = []
        for tensor in tensors:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = graph.name(tensor).encode(), tensor
            made.append(entry)
        return made

    signature = schema.SignatureDefT()
    signature.inputs, signature.outputs = entries(graph.inputs), entries(graph.outputs)
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    graph.model.signatureDefs = [signature]


def signed(graph: Graph) -> tuple[list[int], list[int]]:
    (signature,) = graph.model.signatureDefs
    return [e.tensorIndex for e in signature.inputs], [e.tensorIndex for e in signature.outputs]


def centred() -> GraphWriter:
    """Two photos, each cast and centred, and a number that is added to both."""
    writer = GraphWriter()
    first, offset, second = writer.input(SHAPE, "uint8"), writer.input((1,)), writer.input(SHAPE, "uint8")
    mean = writer.stored(np.float32([100, 110, 120]))
    centres = [writer.add("SUB", [writer.add("CAST", [photo], SHAPE), mean], SHAPE) for photo in (first, second)]
    writer.outputs = [writer.add("ADD", [centre, offset], SHAPE) for centre in centres]  # type: ignore[attr-defined]
    return writer


def test_pixels_come_as_float_under_the_photos_names() -> None:
    writer = centred()
    content = writer.model(*writer.outputs)  # type: ignore[attr-defined]
    graph = Graph(content)
    sign(graph)
    old, outputs = graph.inputs, graph.outputs
    names = [graph.name(tensor) for tensor in old]
    assert pixels_as_float(graph) == [names[0], names[2]]
    assert [graph.name(tensor) for tensor in graph.inputs] == names
    assert [graph.dtype(tensor) for tensor in graph.inputs] == ["FLOAT32"] * 3
    assert graph.inputs[1] == old[1]
    assert [graph.name(old[place]) for place in (0, 2)] == [f"{names[0]}_bytes", f"{names[2]}_bytes"]
    assert kinds(graph) == ["SUB", "SUB", "ADD", "ADD"]
    assert signed(graph) == (graph.inputs, outputs)
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, SHAPE, np.uint8) for _ in range(2)]
    offset = np.float32([0.5])
    before = run(content, photos[0], offset, photos[1])
    after = run(graph.to_bytes(), photos[0].astype(np.float32), offset, photos[1].astype(np.float32))
    for ours, theirs in zip(after, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def twice_read(writer: GraphWriter) -> int:
    photo = writer.input(SHAPE, "uint8")
    casts = [writer.add("CAST", [photo], SHAPE) for _ in range(2)]
    return writer.add("ADD", casts, SHAPE)


def float_input(writer: GraphWriter) -> int:
    return writer.add("CAST", [writer.input(SHAPE)], SHAPE)


def never_cast(writer: GraphWriter) -> int:
    writer.input(SHAPE, "uint8")
    return writer.add("ADD", [writer.input(SHAPE), writer.stored(np.float32([1]))], SHAPE)


@pytest.mark.parametrize("write", [twice_read, float_input, never_cast])
def test_other_inputs_stay_as_they_are(write: Any) -> None:
    writer = GraphWriter()
    graph = Graph(writer.model(write(writer)))
    before = graph.to_bytes()
    assert pixels_as_float(graph) == []
    assert graph.to_bytes() == before


def test_after_an_input_that_stays_others_are_still_looked_at() -> None:
    writer = GraphWriter()
    first = float_input(writer)
    second = writer.add("CAST", [writer.input(SHAPE, "uint8")], SHAPE)
    graph = Graph(writer.model(writer.add("ADD", [first, second], SHAPE)))
    name = graph.name(graph.inputs[1])
    assert pixels_as_float(graph) == [name]
    assert kinds(graph) == ["CAST", "ADD"]


def quantized(graph: Graph, tensor: int, scale: float, zero_point: int) -> None:
    """Let a tensor be int8."""
    graph.tensors[tensor].type = schema.TensorType.INT8
    graph.tensors[tensor].quantization = parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = np.float32([scale]), np.int64([zero_point])


def integers(zero_points: tuple[int, int] = (-3, 5)) -> Graph:
    """Two int8 inputs with steps of their own, flattened; and one that is int32 already."""
    writer = GraphWriter()
    flat = writer.stored(np.int32([1, 18]))
    inputs = [writer.input(SHAPE), writer.input((1, 4), "int32"), writer.input(SHAPE)]
    pairs = writer.stored(np.int32([2, 2]))
    first, second = (writer.add("RESHAPE", [inputs[place], flat], (1, 18)) for place in (0, 2))
    third = writer.add("RESHAPE", [inputs[1], pairs], (2, 2))
    graph = Graph(writer.model(first, third, second))
    graph.tensors[third].type = schema.TensorType.INT32
    for tensors, scale, zero_point in zip(
        ((inputs[0], first), (inputs[2], second)), (0.5, 0.25), zero_points, strict=True
    ):
        for tensor in tensors:
            quantized(graph, tensor, scale, zero_point)
    sign(graph)
    return graph


def steps(graph: Graph, tensor: int) -> tuple[float, int]:
    parameters = graph.tensors[tensor].quantization
    return float(parameters.scale[0]), int(parameters.zeroPoint[0])


def test_bytes_go_in_and_out_under_the_old_names() -> None:
    before = integers()
    graph = Graph(bytes_at_both_ends(before.to_bytes()))
    for ours, theirs in ((graph.inputs, before.inputs), (graph.outputs, before.outputs)):
        assert [graph.name(tensor) for tensor in ours] == [before.name(tensor) for tensor in theirs]
        assert [graph.dtype(tensor) for tensor in ours] == ["UINT8", "INT32", "UINT8"]
        assert [graph.shape(tensor) for tensor in ours] == [before.shape(tensor) for tensor in theirs]
        assert [steps(graph, ours[place]) for place in (0, 2)] == [(0.5, 125), (0.25, 133)]
        assert [steps(graph, theirs[place]) for place in (0, 2)] == [(0.5, -3), (0.25, 5)]  # inside as before
        assert [graph.name(theirs[place]) for place in (0, 2)] == [
            f"{before.name(theirs[place])}_int8" for place in (0, 2)
        ]
    assert signed(graph) == (graph.inputs, graph.outputs)
    assert kinds(graph) == ["QUANTIZE", "QUANTIZE", "RESHAPE", "RESHAPE", "RESHAPE", "QUANTIZE", "QUANTIZE"]
    for operator in graph.operators[:2] + graph.operators[-2:]:
        assert operator.builtinOptionsType == schema.BuiltinOptions.QuantizeOptions
        assert isinstance(operator.builtinOptions, schema.QuantizeOptionsT)
    assert [graph.tensors[tensor].buffer for tensor in (*graph.inputs, *graph.outputs)] == [0] * 6


@settings(max_examples=20)
@given(zero_points=st.tuples(*[st.integers(-128, 127)] * 2), seed=st.integers(0, 99))
def test_no_digit_is_lost_at_the_ends(zero_points: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    photos = [rng.integers(0, 256, SHAPE, np.uint8) for _ in range(2)]
    numbers = rng.integers(-9, 9, (1, 4), np.int32)
    content = bytes_at_both_ends(integers(zero_points).to_bytes())
    first, second, third = run(content, photos[0], numbers, photos[1])
    np.testing.assert_array_equal(first.reshape(SHAPE), photos[0])
    np.testing.assert_array_equal(second.reshape(1, 4), numbers)
    np.testing.assert_array_equal(third.reshape(SHAPE), photos[1])


def half_float() -> bytes:
    """Int8 that leaves for float and a RESHAPE there; the second RESHAPE and an ADD read float alone."""
    writer = GraphWriter()
    inner = writer.input((1, 4))
    real = writer.add("DEQUANTIZE", [inner], (1, 4))
    square = writer.add("RESHAPE", [real, writer.stored(np.int32([2, 2]))], (2, 2))
    line = writer.add("RESHAPE", [square, writer.stored(np.int32([1, 4]))], (1, 4))
    graph = Graph(writer.model(writer.add("ADD", [line, line], (1, 4))))
    quantized(graph, inner, 0.5, 0)
    return graph.to_bytes()


def test_operators_that_stay_float_are_named() -> None:
    with pytest.raises(QuantizationError) as caught:
        bytes_at_both_ends(half_float())
    assert str(caught.value) == (
        "int8-full cannot make every operator integer: 2 RESHAPE, ADD stay in float, since ai-edge-quantizer does "
        "not write them in int8; use int8"
    )


def test_a_way_to_float_alone_is_named_too() -> None:
    writer = GraphWriter()
    inner = writer.input((1, 4))
    graph = Graph(writer.model(writer.add("DEQUANTIZE", [inner], (1, 4))))
    quantized(graph, inner, 0.5, 0)
    with pytest.raises(QuantizationError, match="integer: DEQUANTIZE stay in float"):
        bytes_at_both_ends(graph.to_bytes())
