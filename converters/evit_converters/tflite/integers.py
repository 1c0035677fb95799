"""Models without a float: what ``INT8_FULL`` does before and after quantizing.

A photo comes in as uint8, as in all other files of this project, and scores come out as uint8; inside all is
int8. The change of type at both ends is a QUANTIZE that moves the zero point by 128 and nothing else, so that no
digit is lost.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from evit_converters.errors import QuantizationError
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.partitioning import counted

PIXELS = (0.0, 255.0)
_SHIFT = 128  # from int8 to uint8


def pixels_as_float(graph: Graph) -> list[str]:
    """Make the graph take as float what it takes as uint8 and casts, in place.

    Returns:
        Names of the tensors that now are inputs; their values are those of pixels, :data:`PIXELS`.
    """
    main = graph.model.subgraphs[0]
    consumers, names = graph.consumers(), []
    for number, entrance in enumerate(graph.inputs):
        casts = consumers.get(entrance, [])
        if graph.dtype(entrance) != "UINT8" or [graph.kind(operator) for operator in casts] != ["CAST"]:
            continue
        pixels = int(casts[0].outputs[0])
        main.operators = [operator for operator in graph.operators if operator is not casts[0]]
        main.inputs = [pixels if place == number else tensor for place, tensor in enumerate(graph.inputs)]
        graph.tensors[pixels].name = graph.name(entrance).encode()
        graph.tensors[entrance].name = f"{graph.name(entrance)}_bytes".encode()
        _redirect(graph, entrance, pixels)
        names.append(graph.name(pixels))
    return names


def bytes_at_both_ends(model_bytes: bytes) -> bytes:
    """Turn int8 inputs and outputs to uint8.

    Args:
        model_bytes: A quantized model.

    Raises:
        QuantizationError: A tensor in it is float.
    """
    graph = Graph(model_bytes)
    _require_integers(graph)
    main = graph.model.subgraphs[0]
    first, last = [], []
    for entrance in [t for t in graph.inputs if graph.dtype(t) == "INT8"]:
        first.append(_requantize(graph, entrance, inwards=True))
        main.inputs = [int(first[-1].inputs[0]) if t == entrance else t for t in graph.inputs]
    for exit_ in [t for t in graph.outputs if graph.dtype(t) == "INT8"]:
        last.append(_requantize(graph, exit_, inwards=False))
        main.outputs = [int(last[-1].outputs[0]) if t == exit_ else t for t in graph.outputs]
    main.operators = [*first, *graph.operators, *last]
    return graph.to_bytes()


def _require_integers(graph: Graph) -> None:
    kinds = tuple(
        graph.kind(operator)
        for operator in graph.operators
        if any(graph.dtype(int(t)) == "FLOAT32" for t in (*operator.inputs, *operator.outputs) if t >= 0)
    )
    kinds = tuple(kind for kind in kinds if kind not in {"QUANTIZE", "DEQUANTIZE"}) or kinds
    if kinds:
        raise QuantizationError(
            f"int8-full cannot make every operator integer: {counted(kinds)} stay in float, since "
            "ai-edge-quantizer does not write them in int8; use int8"
        )


def _requantize(graph: Graph, inner: int, *, inwards: bool) -> Any:
    """A QUANTIZE between an int8 tensor and a new uint8 one of the same values."""
    outer = copy(graph.tensors[inner])
    outer.type, outer.buffer = schema.TensorType.UINT8, 0
    outer.quantization = copy(outer.quantization)
    outer.quantization.zeroPoint = np.asarray(outer.quantization.zeroPoint, np.int64) + _SHIFT
    graph.tensors.append(outer)
    number = len(graph.tensors) - 1
    graph.tensors[inner].name = f"{graph.name(inner)}_int8".encode()
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = ([number], [inner]) if inwards else ([inner], [number])
    operator.opcodeIndex = graph.opcode("QUANTIZE")
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    _redirect(graph, inner, number)
    return operator


def _redirect(graph: Graph, old: int, new: int) -> None:
    """Let the signatures name another tensor."""
    for signature in graph.model.signatureDefs:
        for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
            if entry.tensorIndex == old:
                entry.tensorIndex = new
