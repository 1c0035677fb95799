"""A float model in which single operators have int8 weights and an int8 result, to see what each costs."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from evit_converters.errors import QuantizationError
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.placement import WEIGHTED_INT8

_LEVELS = 255


class Alone:
    """Makes the models, one after the other, from one float model that is parsed once."""

    def __init__(self, model_bytes: bytes, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Parse the model.

        Args:
            model_bytes: A float model.
            ranges: Minimum and maximum of the activations, by tensor name.

        Raises:
            ModelFileError: The bytes are no TFLite model with one subgraph.
        """
        self._graph = Graph(model_bytes)
        self._ranges = ranges
        self._operators = {self._graph.name(int(op.outputs[0])): op for op in self._graph.operators}

    def quantized(self, name: str) -> bytes:
        """The float model, but for one operator with weights and results on the int8 grid.

        Args:
            name: Of its first output tensor.

        Returns:
            A .tflite with the same inputs and outputs. The operator computes in float from rounded weights, and
            QUANTIZE and DEQUANTIZE behind it round its result: what int8 does, up to the accumulator's rounding.

        Raises:
            QuantizationError: There is no such operator, or its range is missing.
        """
        if name not in self._operators or name not in self._ranges:
            raise QuantizationError(f"no operator or no range called {name!r}; names are those of the float model")
        graph, operator = self._graph, self._operators[name]
        subgraph = graph.model.subgraphs[0]
        kept = (list(subgraph.operators), len(subgraph.tensors), len(graph.model.buffers), list(operator.inputs))
        readers = [(reader, list(reader.inputs)) for reader in graph.consumers().get(int(operator.outputs[0]), [])]
        outputs = list(subgraph.outputs)
        try:
            self._round_weights(operator)
            self._round_result(operator, name)
            return graph.to_bytes()
        finally:
            subgraph.operators, operator.inputs, subgraph.outputs = kept[0], kept[3], outputs
            del subgraph.tensors[kept[1] :]
            del graph.model.buffers[kept[2] :]
            for reader, inputs in readers:
                reader.inputs = inputs

    def _round_weights(self, operator: Any) -> None:
        graph = self._graph
        if graph.kind(operator) not in WEIGHTED_INT8 or not graph.is_constant(int(operator.inputs[1])):
            return
        weight = int(operator.inputs[1])
        axis = 3 if graph.kind(operator) == "DEPTHWISE_CONV_2D" else 0
        tensor, buffer = copy(graph.tensors[weight]), schema.BufferT()
        rounded = round_per_channel(graph.constant(weight), axis)
        buffer.data = np.frombuffer(rounded.tobytes(), np.uint8)
        graph.model.buffers.append(buffer)
        tensor.buffer = len(graph.model.buffers) - 1
        graph.tensors.append(tensor)
        operator.inputs = [int(t) for t in operator.inputs]
        operator.inputs[1] = len(graph.tensors) - 1

    def _round_result(self, operator: Any, name: str) -> None:
        graph, result = self._graph, int(operator.outputs[0])
        codes, back = copy(graph.tensors[result]), copy(graph.tensors[result])
        codes.type, codes.quantization = schema.TensorType.INT8, int8_parameters(*self._ranges[name])
        codes.name, back.name = f"{name}_codes".encode(), f"{name}_rounded".encode()
        graph.tensors.extend([codes, back])
        coded, rounded = len(graph.tensors) - 2, len(graph.tensors) - 1
        for reader in graph.consumers().get(result, []):
            reader.inputs = [rounded if int(t) == result else int(t) for t in reader.inputs]
        subgraph = graph.model.subgraphs[0]
        subgraph.outputs = [rounded if int(t) == result else int(t) for t in subgraph.outputs]
        place = next(i for i, other in enumerate(graph.operators) if other is operator) + 1
        added = [self._operator("QUANTIZE", result, coded), self._operator("DEQUANTIZE", coded, rounded)]
        subgraph.operators = [*graph.operators[:place], *added, *graph.operators[place:]]

    def _operator(self, kind: str, source: int, target: int) -> Any:
        operator = schema.OperatorT()
        operator.inputs, operator.outputs, operator.opcodeIndex = [source], [target], self._graph.opcode(kind)
        return operator


def round_per_channel(weight: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    """Weights on the symmetric int8 grid that each channel along ``axis`` has for itself."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest: Any = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(largest == 0, 1, largest / 127).astype(np.float32)
    rounded: npt.NDArray[np.float32] = (np.round(weight / scale) * scale).astype(np.float32)
    return rounded


def int8_parameters(low: float, high: float) -> Any:
    """Scale and zero point of an asymmetric int8 tensor, in the schema's form."""
    parameters = schema.QuantizationParametersT()
    scale = max((high - low) / _LEVELS, float(np.finfo(np.float32).tiny))
    parameters.scale = [np.float32(scale)]
    parameters.zeroPoint = [int(np.clip(round(-128 - low / scale), -128, 127))]
    return parameters
