"""Models of a few hundred bytes, made by hand, so that a test can bend any part of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

COLOURS = ("red", "green", "blue")
SIDE = 32
SCALE = 1 / 25.5  # a full channel is a logit of 10


def tensor(name: str, shape: Sequence[int], kind: int, buffer: int = 0, scale: float | None = None) -> Any:
    """A tensor of a .tflite."""
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = name, list(shape), kind, buffer
    if scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [scale], [0]
    return made


def constant(values: np.ndarray) -> Any:
    """A buffer."""
    made = schema.BufferT()
    made.data = np.frombuffer(values.tobytes(), np.uint8)
    return made


def operator(code: int, inputs: Sequence[int], outputs: Sequence[int], kind: int = 0, options: Any = None) -> Any:
    """An operator that uses the model's operator code ``code``."""
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, list(inputs), list(outputs)
    made.builtinOptionsType, made.builtinOptions = kind, options
    return made


def operator_code(builtin: int, version: int = 1) -> Any:
    """An operator code."""
    made = schema.OperatorCodeT()
    made.builtinCode, made.deprecatedBuiltinCode, made.version = builtin, min(builtin, 127), version
    return made


def mean_model() -> Any:
    """Names the strongest channel: uint8 (1, 32, 32, 3) to uint8 (1, 3), by one operator, MEAN."""
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors = [
        tensor("image", (1, SIDE, SIDE, 3), schema.TensorType.UINT8, 0, SCALE),
        tensor("axes", (2,), schema.TensorType.INT32, 1),
        tensor("scores", (1, 3), schema.TensorType.UINT8, 0, SCALE),
    ]
    graph.inputs, graph.outputs = [0], [2]
    options = schema.ReducerOptionsT()
    options.keepDims = False
    graph.operators = [operator(0, [0, 1], [2], schema.BuiltinOptions.ReducerOptions, options)]
    model.version, model.subgraphs = 3, [graph]
    model.operatorCodes = [operator_code(schema.BuiltinOperator.MEAN, 2)]
    model.buffers = [schema.BufferT(), constant(np.array([1, 2], np.int32))]
    return model


def packed(model: Any) -> bytes:
    """The file."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def write_tflite(path: Path, bend: Callable[[Any], None] = lambda _model: None) -> Path:
    """Write the mean model with labels, bent as asked for."""
    model = mean_model()
    bend(model)
    path.write_bytes(packed(model))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "\n".join(COLOURS))
    return path


# Bends: what makes a model dangerous.


def floats(model: Any) -> None:
    """Takes and gives float32: the mean of each channel as it comes."""
    for number in (0, 2):
        one = model.subgraphs[0].tensors[number]
        one.type, one.quantization = schema.TensorType.FLOAT32, None


def constant_input(model: Any) -> None:
    """Its input is a constant: who writes a picture into it writes into the file's read-only memory."""
    model.subgraphs[0].tensors[0].buffer = len(model.buffers)
    model.buffers.append(constant(np.zeros(SIDE * SIDE * 3, np.uint8)))


def _added(model: Any, builtin: int, kind: int, options: Any, inputs: Sequence[np.ndarray], output: Any) -> None:
    """Add an operator on constants whose result nobody reads."""
    graph = model.subgraphs[0]
    numbers = []
    for values in inputs:
        graph.tensors.append(tensor("constant", values.shape, _KINDS[values.dtype.name], len(model.buffers)))
        model.buffers.append(constant(values))
        numbers.append(len(graph.tensors) - 1)
    graph.tensors.append(output)
    model.operatorCodes.append(operator_code(builtin))
    graph.operators.append(
        operator(len(model.operatorCodes) - 1, numbers, [len(graph.tensors) - 1], kind, options)
    )


_KINDS = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}


def wild_radius(model: Any) -> None:
    """Sound as far as numbers and sizes go, and its operator reads 400 MB before its tensor."""
    options = schema.LocalResponseNormalizationOptionsT()
    options.radius = -100_000_000
    output = tensor("normalised", (1, 2, 2, 4), schema.TensorType.FLOAT32)
    inputs = [np.ones((1, 2, 2, 4), np.float32)]
    builtin = schema.BuiltinOperator.LOCAL_RESPONSE_NORMALIZATION
    _added(model, builtin, schema.BuiltinOptions.LocalResponseNormalizationOptions, options, inputs, output)


def fills_100_gib(model: Any) -> None:
    """Declares nothing large, and its operator then fills 100 GiB."""
    shape, value = np.array([1, 163840, 163840], np.int32), np.array(1, np.float32)
    output = tensor("filled", (), schema.TensorType.FLOAT32)
    options = schema.FillOptionsT()
    _added(model, schema.BuiltinOperator.FILL, schema.BuiltinOptions.FillOptions, options, [shape, value], output)


def declares_100_gib(model: Any) -> None:
    """Has a value of 100 GiB between its input and its output."""
    graph = model.subgraphs[0]
    graph.tensors.append(tensor("wide", (1, 185364, 193088, 3), schema.TensorType.UINT8, 0, SCALE))
    graph.operators.insert(0, operator(0, [0, 1], [3]))


def _graph(outputs: Sequence[int], *more: Any) -> Any:
    made = schema.SubGraphT()
    made.tensors = [tensor("x", (1, SIDE, SIDE, 3), schema.TensorType.UINT8, 0, SCALE), *more]
    made.inputs, made.outputs, made.operators = [0], list(outputs), []
    return made


def endless(model: Any) -> None:
    """A loop whose condition is always true comes first."""
    graph, options = model.subgraphs[0], schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    always = tensor("always", (1,), schema.TensorType.BOOL, len(model.buffers))
    model.buffers.append(constant(np.array([True])))
    model.subgraphs += [_graph([1], always), _graph([0])]
    graph.tensors.append(tensor("copy", (1, SIDE, SIDE, 3), schema.TensorType.UINT8, 0, SCALE))
    model.operatorCodes.append(operator_code(schema.BuiltinOperator.WHILE))
    graph.operators[0].inputs = [3, 1]
    graph.operators.insert(0, operator(1, [0], [3], schema.BuiltinOptions.WhileOptions, options))


def calls_itself(model: Any) -> None:
    """The same, and the loop's body is the graph that the loop stands in."""
    endless(model)
    model.subgraphs[0].operators[0].builtinOptions.bodySubgraphIndex = 0
