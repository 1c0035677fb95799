"""A quantized stem reads a photo's own 256 levels, at the border too."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_reference import simulate
from small_graphs import GraphWriter, run

from evit_converters import tflite
from evit_converters.tflite import Precision, Quantization
from evit_converters.tflite.graph import Graph

MEAN = np.array([123.675, 116.28, 103.53])
STD = np.array([58.395, 57.12, 57.375])
HEIGHT, WIDTH = 9, 10
SEED = 1  # of the photos that ranges are collected from; the first of them is one that is measured on


def stem(
    *,
    kernel: int = 3,
    stride: int = 2,
    pads: tuple[int, int] = (1, 1),
    scaled: bool = False,
    same: bool = False,
    offset: np.ndarray = MEAN,
    width: int = WIDTH,
    seed: int = 0,
) -> bytes:
    """uint8 photo, CAST, SUB, MUL where it is scaled, PAD and a convolution."""
    rng, writer, shape = np.random.default_rng(seed), GraphWriter(), (1, HEIGHT, width, 3)
    x = writer.add("CAST", [writer.input(shape, "uint8")], shape)
    row = np.broadcast_to(offset, (1, 1, width, 3)) if offset.ndim == 1 else offset
    x = writer.add("SUB", [x, writer.stored(row)], shape, fusedActivationFunction=0)
    if scaled:
        x = writer.add("MUL", [x, writer.stored(np.broadcast_to(1 / STD, (1, 1, width, 3)))], shape)
    if any(pads) and not same:
        table = np.array([[0, 0], pads, pads, [0, 0]], np.int32)
        shape = (1, HEIGHT + sum(pads), width + sum(pads), 3)
        x = writer.add("PAD", [x, writer.stored(table)], shape)
    weights = rng.standard_normal((8, kernel, kernel, 3)) / (1 if scaled else STD)
    steps = [-(-size // stride) if same else (size - kernel) // stride + 1 for size in shape[1:3]]
    padding = schema.Padding.SAME if same else schema.Padding.VALID
    options = {"strideH": stride, "strideW": stride, "padding": padding}
    return writer.model(writer.convolution("CONV_2D", x, weights, np.arange(8.0), (1, *steps, 8), **options))


def quantized(model: bytes, **exempt: Precision) -> bytes:
    rng = np.random.default_rng(SEED)
    shape = Graph(model).shape(Graph(model).inputs[0])
    photos = [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)]
    photos += [rng.integers(0, 256, shape, np.uint8) for _ in range(8)]
    found = [tflite.activation_runner(model)(photo) for photo in photos]
    ranges = {
        name: (min(float(f[name].min()) for f in found), max(float(f[name].max()) for f in found))
        for name in tflite.activation_names(model)
    }
    return tflite.quantize(model, Quantization.INT8, ranges, exempt=exempt)


def kinds(model: bytes) -> list[str]:
    graph = Graph(model)
    return [graph.kind(operator) for operator in graph.operators]


def output_scale(content: bytes) -> float:
    graph = Graph(content)
    conv = next(operator for operator in graph.operators if graph.kind(operator) == "CONV_2D")
    return float(graph.tensors[int(conv.outputs[0])].quantization.scale[0])


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.integers(2, 5),
    stride=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    scaled=st.booleans(),
    width=st.integers(7, 10),
    level=st.sampled_from([0, 255, None]),
)
def test_the_stem_rounds_its_result_and_its_weights_alone(
    kernel: int, stride: int, pads: tuple[int, int], scaled: bool, width: int, level: int | None
) -> None:
    model = stem(kernel=kernel, stride=stride, pads=pads, scaled=scaled, width=width)
    content = quantized(model)
    assert {"CAST", "SUB", "MUL", "PAD"}.isdisjoint(kinds(content))
    assert tflite.partitions(content).native_ops == ()
    shape = (1, HEIGHT, width, 3)
    photo = np.random.default_rng(SEED).integers(0, 256, shape, np.uint8)
    photo = photo if level is None else np.full(shape, level, np.uint8)
    # What 1/254 of a kernel's largest weight, on every tap, and half a level of the mean can make; and one step.
    largest = 3.5 / (1 if scaled else STD.min()) / 254
    taps = largest * kernel**2 * 3 * (255 if not scaled else 2.7)
    np.testing.assert_allclose(
        run(content, photo)[0], run(model, photo)[0], rtol=0, atol=output_scale(content) + 0.1 * taps
    )


@pytest.mark.parametrize("scaled", [False, True], ids=["centred", "centred and scaled"])
def test_the_kernel_agrees_with_the_simulation_at_every_pixel(scaled: bool) -> None:
    content = quantized(stem(scaled=scaled))
    graph, values = Graph(content), {}
    photo = np.random.default_rng(SEED).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    values[graph.inputs[0]] = photo
    for operator in graph.operators:
        values[int(operator.outputs[0])] = simulate(graph, operator, values)
    pixels = values[int(graph.operators[1].outputs[0])]
    np.testing.assert_array_equal(pixels.astype(int) + 128, photo)
    difference = run(content, photo)[0] - values[graph.outputs[0]]
    assert np.abs(difference).max() <= 1.001 * output_scale(content)


@pytest.mark.parametrize("level", [0, 255], ids=["black", "white"])
def test_border_is_the_mean_and_not_zero(level: int) -> None:
    """With the levels' own zero at the border, black photos would have none, and white ones a strong one."""
    model = stem(kernel=3, stride=1)
    content, photo = quantized(model), np.full((1, HEIGHT, WIDTH, 3), level, np.uint8)
    measured, expected = run(content, photo)[0], run(model, photo)[0]
    edge = np.s_[:, [0, -1]]
    contrast = np.abs(expected[edge] - expected[:, 4:5]).max()
    assert np.abs(measured[edge] - expected[edge]).max() < 0.02 * contrast


NOT_FOR_IT = {
    "padding in the convolution": {"same": True, "stride": 1},
    "a mean that is not the same everywhere": {
        "offset": np.random.default_rng(0).uniform(90, 130, (1, 1, WIDTH, 3))
    },
}


@pytest.mark.parametrize("form", NOT_FOR_IT.values(), ids=NOT_FOR_IT.keys())
def test_other_stems_stay(form: dict[str, object]) -> None:
    content = quantized(stem(**form))  # type: ignore[arg-type]
    assert kinds(content)[:3] == ["CAST", "SUB", "QUANTIZE"]


def test_a_convolution_in_float_stays() -> None:
    model = stem()
    graph = Graph(model)
    conv = graph.name(int(graph.operators[-1].outputs[0]))
    assert kinds(quantized(model, **{conv: Precision.FLOAT}))[:2] == ["CAST", "SUB"]
