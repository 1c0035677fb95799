"""A model of pointwise convolutions and nothing else: what an engine's best kernels reach on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from evit_edge.errors import require

CHANNELS, SIDE, LAYERS = 256, 16, 4
MACS = LAYERS * SIDE * SIDE * CHANNELS * CHANNELS
_VERSION, _IDENTIFIER = 3, b"TFL3"
_CONV_VERSION = {"float32": 1, "int8": 3}


def peak_model(number_type: str) -> bytes:
    """A ``.tflite`` of ``LAYERS`` convolutions, 1x1, over ``SIDE`` x ``SIDE`` positions of ``CHANNELS`` channels.

    Its weights (256 KB as float32 a layer) fit the second-level cache of most cores.

    Args:
        number_type: ``float32`` or ``int8``.

    Raises:
        MissingExtraError: ai-edge-litert, whose schema this needs, is not installed.
    """
    schema: Any = require("ai_edge_litert.schema_py_generated", extra="convert")
    flatbuffers: Any = require("flatbuffers", extra="convert")
    graph = _Graph(schema, number_type)
    builder = flatbuffers.Builder(0)
    builder.Finish(graph.model().Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


class _Graph:
    """Collects tensors, buffers and operators in the schema's own objects."""

    def __init__(self, schema: Any, number_type: str) -> None:
        self._schema, self._type = schema, number_type
        self._buffers: list[Any] = [schema.BufferT()]
        self._tensors: list[Any] = []
        self._random = np.random.default_rng(0)

    def model(self) -> Any:
        schema = self._schema
        shape = (1, SIDE, SIDE, CHANNELS)
        first = last = self._tensor(shape)
        operators = []
        for _ in range(LAYERS):
            source, last = last, self._tensor(shape)
            operators.append(self._convolution(source, last))
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
        code.version = _CONV_VERSION[self._type]
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self._tensors, operators, [first], [last]
        model = schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs, model.buffers = (
            _VERSION,
            [code],
            [graph],
            self._buffers,
        )
        return model

    def _convolution(self, source: int, target: int) -> Any:
        kernel, bias = (CHANNELS, 1, 1, CHANNELS), (CHANNELS,)
        if self._type == "int8":
            weights = self._tensor(kernel, self._random.integers(-127, 128, kernel).astype(np.int8), channels=True)
            biases = self._tensor(bias, np.zeros(bias, np.int32), channels=True)
        else:
            weights = self._tensor(kernel, (self._random.standard_normal(kernel) / 16).astype(np.float32))
            biases = self._tensor(bias, np.zeros(bias, np.float32))
        options = self._schema.Conv2DOptionsT()
        options.strideW = options.strideH = 1
        operator = self._schema.OperatorT()
        operator.inputs, operator.outputs = [source, weights, biases], [target]
        operator.builtinOptionsType, operator.builtinOptions = self._schema.BuiltinOptions.Conv2DOptions, options
        return operator

    def _tensor(self, shape: tuple[int, ...], values: Any = None, *, channels: bool = False) -> int:
        """Add a tensor, constant where values are given; its index."""
        types = self._schema.TensorType
        tensor = self._schema.TensorT()
        tensor.shape, tensor.name = list(shape), f"tensor{len(self._tensors)}"
        tensor.type = types.FLOAT32
        if self._type == "int8":
            tensor.type = types.INT8 if values is None or values.dtype == np.int8 else types.INT32
            tensor.quantization = self._quantization(channels, values)
        if values is not None:
            buffer = self._schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self._buffers.append(buffer)
            tensor.buffer = len(self._buffers) - 1
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _quantization(self, channels: bool, values: Any) -> Any:
        """Scales with which random weights neither vanish nor saturate."""
        activation, weight = 0.05, 0.001
        scale = activation if values is None else weight * (activation if values.dtype == np.int32 else 1.0)
        quantization = self._schema.QuantizationParametersT()
        count = CHANNELS if channels else 1
        quantization.scale, quantization.zeroPoint = [scale] * count, [0] * count
        return quantization
