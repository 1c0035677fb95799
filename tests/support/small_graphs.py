"""Small float graphs, written operator by operator, as the bytes of a .tflite."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
}
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "MEAN": "ReducerOptions",
    "CAST": "CastOptions",
    "CONCATENATION": "ConcatenationOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions",
    "PAD": "PadOptions",
    "SLICE": "SliceOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "SOFTMAX": "SoftmaxOptions",
}


class GraphWriter:
    """Collects tensors and operators; tensors are numbers, and are called ``t`` and their number."""

    def __init__(self) -> None:
        self._model, self._main = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.subgraphs = 3, [self._main]
        self._model.buffers, self._model.operatorCodes = [schema.BufferT()], []
        self._main.tensors, self._main.operators = [], []
        self._main.inputs, self._main.outputs = [], []

    def tensor(self, shape: tuple[int, ...], dtype: str = "float32", values: Any = None) -> int:
        """A tensor, stored if it has values."""
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = np.array(shape, np.int32), TYPES[dtype], 0
        tensor.name = f"t{len(self._main.tensors)}".encode()
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values, dtype).tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        self._main.tensors.append(tensor)
        return len(self._main.tensors) - 1

    def stored(self, values: Any) -> int:
        """A stored tensor of float32, or of int32 if the values are integers."""
        array = np.asarray(values)
        dtype = "int32" if np.issubdtype(array.dtype, np.integer) else "float32"
        return self.tensor(array.shape, dtype, array)

    def input(self, shape: tuple[int, ...], dtype: str = "float32") -> int:
        """A tensor that the caller feeds."""
        self._main.inputs.append(self.tensor(shape, dtype))
        return int(self._main.inputs[-1])

    def add(self, kind: str, inputs: list[int], shape: tuple[int, ...], **options: Any) -> int:
        """An operator; gives the tensor that it writes."""
        operator, result = schema.OperatorT(), self.tensor(shape)
        operator.inputs, operator.outputs, operator.opcodeIndex = inputs, [result], self._opcode(kind)
        if kind in OPTIONS:
            operator.builtinOptions = getattr(schema, f"{OPTIONS[kind]}T")()
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, OPTIONS[kind])
            for key, value in options.items():
                assert hasattr(operator.builtinOptions, key), key
                setattr(operator.builtinOptions, key, value)
        self._main.operators.append(operator)
        return result

    def convolution(
        self, kind: str, source: int, kernel: Any, bias: Any, shape: tuple[int, ...], **options: Any
    ) -> int:
        """CONV_2D or DEPTHWISE_CONV_2D, without padding and of stride 1 unless the options say otherwise."""
        settings = {"padding": schema.Padding.VALID, "strideH": 1, "strideW": 1}
        settings |= {"dilationHFactor": 1, "dilationWFactor": 1}
        settings |= {"depthMultiplier": 1} if kind == "DEPTHWISE_CONV_2D" else {}
        return self.add(kind, [source, self.stored(kernel), self.stored(bias)], shape, **settings | options)

    def model(self, *outputs: int) -> bytes:
        """The .tflite."""
        self._main.outputs = list(outputs)
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Of a tensor."""
        return tuple(int(size) for size in self._main.tensors[tensor].shape)

    def _opcode(self, kind: str) -> int:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1


def run(model: bytes, *values: Any) -> list[Any]:
    """All outputs of a model for its inputs, with XNNPACK."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]
