"""The artefact's integer kernels against a simulation of the quantized graph in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from integer_reference import simulate
from small_graphs import GraphWriter, run

from evit_converters import tflite
from evit_converters.tflite import Quantization
from evit_converters.tflite.cut import cut, single_operators
from evit_converters.tflite.graph import Graph

RELU, RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6
CONVOLUTIONS = {
    "conv": ("CONV_2D", 3, 0),
    "conv relu6": ("CONV_2D", 1, RELU6),
    "depthwise": ("DEPTHWISE_CONV_2D", 5, 0),
    "large depthwise": ("DEPTHWISE_CONV_2D", 7, RELU),
}
STEPS = [*CONVOLUTIONS, "ADD", "SUB", "MUL", "TANH", "gate", "pool", "join", "transpose"]


class RandomGraph:
    """Grows a graph of planes (1, 6, 6, C) by the operators that a list names."""

    def __init__(self, seed: int, channels: int) -> None:
        self.rng, self.writer = np.random.default_rng(seed), GraphWriter()
        self.shape: tuple[int, ...] = (1, 6, 6, channels)
        self.source = self.writer.input(self.shape)
        self.last = self._convolution("CONV_2D", self.source, 1)

    def _convolution(self, kind: str, source: int, window: int, **options: object) -> int:
        channels = self.shape[-1]
        leading = channels if kind == "CONV_2D" else 1
        kernel = self.rng.standard_normal((leading, window, window, channels)) / window
        bias = self.rng.standard_normal(channels)
        options |= {"padding": schema.Padding.SAME}
        return self.writer.convolution(kind, source, kernel, bias, self.shape, **options)

    def grow(self, step: str) -> None:
        """Add what a step names to the last tensor."""
        last, shape = self.last, self.shape
        if step in CONVOLUTIONS:
            kind, window, function = CONVOLUTIONS[step]
            self.last = self._convolution(kind, last, window, fusedActivationFunction=function)
        elif step in ("ADD", "SUB", "MUL"):
            other = self._convolution("CONV_2D", last, 1)
            self.last = self.writer.add(step, [last, other], shape, fusedActivationFunction=0)
        elif step == "TANH":
            self.last = self.writer.add("TANH", [last], shape)
        else:
            getattr(self, f"_{step}")(last, shape)

    def _gate(self, last: int, shape: tuple[int, ...]) -> None:
        axes = self.writer.stored(np.array([1, 2], np.int32))
        mean = self.writer.add("MEAN", [last, axes], (1, 1, 1, shape[-1]), keepDims=True)
        gate = self.writer.add("LOGISTIC", [mean], (1, 1, 1, shape[-1]))
        self.last = self.writer.add("MUL", [last, gate], shape, fusedActivationFunction=0)

    def _pool(self, last: int, shape: tuple[int, ...]) -> None:
        pads = self.writer.stored(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
        padded = self.writer.add("PAD", [last, pads], (1, shape[1] + 2, shape[2] + 2, shape[3]))
        window = {"filterHeight": 3, "filterWidth": 3, "strideH": 1, "strideW": 1}
        self.last = self.writer.add("MAX_POOL_2D", [padded], shape, padding=schema.Padding.VALID, **window)

    def _join(self, last: int, shape: tuple[int, ...]) -> None:
        self.shape = (*shape[:3], 2 * shape[3])
        other = self.writer.add("TANH", [last], shape)
        self.last = self.writer.add("CONCATENATION", [last, other], self.shape, axis=3)

    def _transpose(self, last: int, shape: tuple[int, ...]) -> None:
        order = self.writer.stored(np.array([0, 2, 1, 3], np.int32))
        self.last = self.writer.add("TRANSPOSE", [last, order], shape)

    def model(self) -> bytes:
        """The graph with a linear layer at its end."""
        tokens = (self.shape[1] * self.shape[2], self.shape[3])
        flat = self.writer.add("RESHAPE", [self.last, self.writer.stored(np.array(tokens, np.int32))], tokens)
        weights = [self.rng.standard_normal((5, tokens[1])), self.rng.standard_normal(5)]
        stored = [self.writer.stored(values) for values in weights]
        return self.writer.model(self.writer.add("FULLY_CONNECTED", [flat, *stored], (tokens[0], 5)))


def quantized(model: bytes, image: np.ndarray) -> bytes:
    values = tflite.activation_runner(model)(image)
    ranges = {name: (float(array.min()), float(array.max())) for name, array in values.items()}
    return tflite.quantize(model, Quantization.INT8, ranges)


def assert_kernels_agree(content: bytes, image: np.ndarray) -> set[str]:
    """Run each operator by itself on what the simulation computed; gives the kinds that were compared."""
    graph, compared = Graph(content), set()
    values = {graph.inputs[0]: image}
    for piece in cut(graph, single_operators(graph)):
        for place in piece.places:
            operator = graph.operators[place]
            values[int(operator.outputs[0])] = simulate(graph, operator, values)
        (measured,) = run(piece.content, *(values[tensor] for tensor in piece.inputs))
        expected = values[piece.outputs[0]]
        if np.issubdtype(expected.dtype, np.integer):
            # A value between two codes may fall to either, by float32's or a fixed-point multiplier's rounding.
            difference = measured.astype(int) - expected.astype(int)
            assert np.abs(difference).max() <= 1, graph.kind(operator)
            assert abs(difference.mean()) < 0.1, graph.kind(operator)
        else:
            np.testing.assert_allclose(measured, expected, rtol=1e-5, atol=1e-5)
        compared.add(graph.kind(operator))
    return compared


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=4),
    channels=st.sampled_from([3, 8, 16]),
    seed=st.integers(0, 2**16),
)
def test_kernels_agree_with_the_simulation(steps: list[str], channels: int, seed: int) -> None:
    grown = RandomGraph(seed, channels)
    for step in steps:
        grown.grow(step)
    image = grown.rng.standard_normal((1, 6, 6, channels)).astype(np.float32)
    content = quantized(grown.model(), image)
    assert tflite.partitions(content).partitions == 1
    assert assert_kernels_agree(content, image) >= {"QUANTIZE", "CONV_2D", "FULLY_CONNECTED", "DEQUANTIZE"}


@pytest.mark.parametrize("step", STEPS)
def test_every_kind_is_integer_and_agrees(step: str) -> None:
    grown = RandomGraph(0, 16)
    grown.grow(step)
    image = grown.rng.standard_normal((1, 6, 6, 16)).astype(np.float32)
    content = quantized(grown.model(), image)
    graph = Graph(content)
    floats = {graph.kind(op) for op in graph.operators if graph.dtype(int(op.outputs[0])) == "FLOAT32"}
    assert floats == {"DEQUANTIZE"}
    assert_kernels_agree(content, image)
