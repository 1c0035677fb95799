"""int8 of the pixels themselves: what stands between a photo and the first integer convolution, with no rounding.

A quantized graph begins with CAST, SUB of the mean, QUANTIZE: the photo is written three times, and what was 256
levels is rounded to others. But a photo is int8 already, with a scale of 1 and a zero point of -128, and a
convolution of x - mean is one of x with another bias::

    conv(x - mean) = conv(x) - sum(weights * mean)

Where the convolution is padded, padding has to be the mean instead of zero. PAD knows one number for all channels,
so rows and columns of the mean, rounded to a pixel's level, are concatenated instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from evit_converters.tflite.graph import Graph

_LOWEST = -128  # of int8: a pixel of 0
_LARGEST_RESCALING = (
    256  # XNNPACK ends the process where a result's steps are finer than that beside its operands'
)


@dataclass(frozen=True)
class _Entrance:
    """The operators from a photo to its first convolution.

    Attributes:
        photo: The uint8 input.
        centre: Subtracts the mean.
        quantize: Makes int8 of it.
        reshapes: Between that and the padding.
        pad: None where nothing is padded.
        conv: The convolution.
        mean: Of each of its input channels, 0 to 255; float64 (C,).
    """

    photo: int
    centre: Any
    quantize: Any
    reshapes: tuple[Any, ...]
    pad: Any | None
    conv: Any
    mean: npt.NDArray[np.float64]


def exact_pixels(model_bytes: bytes) -> bytes:
    """Let the first convolution read pixels instead of rounded differences to a mean.

    Args:
        model_bytes: A quantized model.

    Returns:
        The same model where it does not begin in that way; else one whose uint8 input says that its scale is 1.
    """
    graph = Graph(model_bytes)
    found = [entrance for photo in graph.inputs if (entrance := _entrance(graph, photo))]
    for entrance in found:
        _read_pixels(graph, entrance)
    return graph.to_bytes() if found else model_bytes


def _entrance(graph: Graph, photo: int) -> _Entrance | None:
    """What begins with an input, if it is of that form."""
    consumers = graph.consumers()

    def only(tensor: int, kind: str) -> Any | None:
        readers = consumers.get(tensor, [])
        fits = len(readers) == 1 and graph.kind(readers[0]) == kind and tensor not in graph.outputs
        return readers[0] if fits else None

    cast = only(photo, "CAST") if graph.dtype(photo) == "UINT8" else None
    centre = only(int(cast.outputs[0]), "SUB") if cast else None
    quantize = only(int(centre.outputs[0]), "QUANTIZE") if centre else None
    if quantize is None or centre is None or not graph.is_constant(int(centre.inputs[1])):
        return None
    reshapes, last = [], int(quantize.outputs[0])
    while reshape := only(last, "RESHAPE"):
        reshapes.append(reshape)
        last = int(reshape.outputs[0])
    mean = _mean(graph, centre, graph.shape(photo), graph.shape(last))
    pad = only(last, "PAD")
    conv = only(int(pad.outputs[0]) if pad else last, "CONV_2D")
    if mean is None or conv is None or not (_in_integers(graph, conv) and _pads_planes(graph, pad)):
        return None
    return _Entrance(photo, centre, quantize, tuple(reshapes), pad, conv, mean)


def _mean(graph: Graph, centre: Any, photo: Sequence[int], plane: Sequence[int]) -> npt.NDArray[np.float64] | None:
    """The mean by the channels that the convolution sees, if it depends on them alone."""
    everywhere = np.broadcast_to(graph.constant(int(centre.inputs[1])), photo).reshape(-1, plane[-1])
    return everywhere[0].astype(np.float64) if bool((everywhere == everywhere[0]).all()) else None


def _in_integers(graph: Graph, conv: Any) -> bool:
    tensors = [int(t) for t in conv.inputs]
    stored = len(tensors) == 3 and min(tensors) >= 0 and all(graph.is_constant(t) for t in tensors[1:])
    kinds = stored and [graph.dtype(t) for t in tensors] == ["INT8", "INT8", "INT32"]
    if not kinds or conv.builtinOptions.padding != schema.Padding.VALID:
        return False
    result = graph.tensors[int(conv.outputs[0])].quantization.scale[0]
    return bool(np.max(graph.tensors[tensors[1]].quantization.scale) < _LARGEST_RESCALING * result)


def _pads_planes(graph: Graph, pad: Any | None) -> bool:
    """Whether nothing is padded but height and width."""
    if pad is None:
        return True
    return graph.is_constant(int(pad.inputs[1])) and not graph.constant(int(pad.inputs[1]))[[0, 3]].any()


def _read_pixels(graph: Graph, entrance: _Entrance) -> None:
    quantize, conv = entrance.quantize, entrance.conv
    graph.tensors[entrance.photo].quantization = _steps(1.0, 0)
    widened = _tensor(graph, int(entrance.centre.outputs[0]), "FLOAT32", f"{graph.name(entrance.photo)}_values")
    values = _operator(graph, "DEQUANTIZE", [entrance.photo], widened, version=1)
    quantize.inputs = [widened]
    planes = [quantize, *entrance.reshapes]
    for operator in planes:
        graph.tensors[int(operator.outputs[0])].quantization = _steps(1.0, _LOWEST)
    edges = _edges(graph, entrance)
    _move_mean(graph, conv, entrance.mean)
    dropped = {id(graph.producers()[int(entrance.centre.inputs[0])]), id(entrance.centre), id(entrance.pad)}
    dropped |= {id(operator) for operator in planes}
    rest = [operator for operator in graph.operators if id(operator) not in dropped]
    graph.model.subgraphs[0].operators = [values, *planes, *edges, *rest]


def _edges(graph: Graph, entrance: _Entrance) -> list[Any]:
    """CONCATENATIONs that do what the PAD did, but for rows and columns that the convolution never reads."""
    pad, conv = entrance.pad, entrance.conv
    if pad is None:
        return []
    source, padded = int(pad.inputs[0]), int(pad.outputs[0])
    level = (np.rint(entrance.mean) + _LOWEST).astype(np.int8)  # (C,)
    before = graph.constant(int(pad.inputs[1]))[:, 0]
    made = []
    for axis in (1, 2):
        shape = list(graph.shape(source))
        first, last = int(before[axis]), _read(graph, conv, axis) - shape[axis] - int(before[axis])
        if first == 0 and last <= 0:
            continue
        parts = [
            _stored_level(graph, source, level, [*shape[:axis], size, *shape[axis + 1 :]]) if size > 0 else None
            for size in (first, last)
        ]
        shape[axis] += first + max(last, 0)
        joined = _tensor(graph, source, "INT8", f"{graph.name(padded)}_{axis}")
        graph.tensors[joined].shape = np.array(shape, np.int32)
        inputs = [tensor for tensor in (parts[0], source, parts[1]) if tensor is not None]
        made.append(_operator(graph, "CONCATENATION", inputs, joined, version=2))
        made[-1].builtinOptions.axis = axis
        source = joined
    conv.inputs = [source, *conv.inputs[1:]]
    return made


def _read(graph: Graph, conv: Any, axis: int) -> int:
    """How many rows (axis 1) or columns (axis 2) a convolution without padding reads."""
    options = conv.builtinOptions
    stride = int(options.strideH if axis == 1 else options.strideW)
    dilation = int(options.dilationHFactor if axis == 1 else options.dilationWFactor)
    window = (graph.shape(int(conv.inputs[1]))[axis] - 1) * dilation + 1
    return (graph.shape(int(conv.outputs[0]))[axis] - 1) * stride + window


def _move_mean(graph: Graph, conv: Any, mean: npt.NDArray[np.float64]) -> None:
    """Take the mean into the bias, whose scale becomes that of the weights."""
    weights, bias = int(conv.inputs[1]), int(conv.inputs[2])
    scale = np.asarray(graph.tensors[weights].quantization.scale, np.float64)  # (C',) or (1,)
    kernel = graph.constant(weights) * scale[:, None, None, None]  # (C', k, k, C)
    parameters = graph.tensors[bias].quantization
    real = graph.constant(bias) * np.asarray(parameters.scale, np.float64) - kernel.sum((1, 2)) @ mean  # (C',)
    tensor = graph.tensors[bias] = copy(graph.tensors[bias])
    tensor.buffer = graph.store_buffer(np.rint(real / scale).astype(np.int32))
    tensor.quantization = copy(parameters)
    tensor.quantization.scale = scale.astype(np.float32)


def _stored_level(graph: Graph, like: int, level: npt.NDArray[np.int8], shape: Sequence[int]) -> int:
    """A stored plane of one pixel repeated."""
    number = _tensor(graph, like, "INT8", f"constant_{len(graph.tensors)}")
    graph.tensors[number].shape = np.array(shape, np.int32)
    graph.tensors[number].buffer = graph.store_buffer(np.broadcast_to(level, shape))
    return number


def _tensor(graph: Graph, like: int, dtype: str, name: str) -> int:
    """A new computed tensor of another one's shape."""
    tensor = copy(graph.tensors[like])
    tensor.type, tensor.name = getattr(schema.TensorType, dtype), name.encode()
    tensor.buffer, tensor.shapeSignature = 0, None
    tensor.quantization = _steps(1.0, _LOWEST) if dtype == "INT8" else None
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(graph: Graph, kind: str, inputs: Sequence[int], output: int, *, version: int) -> Any:
    operator, options = schema.OperatorT(), f"{kind.capitalize()}Options"
    operator.inputs, operator.outputs = list(inputs), [output]
    operator.opcodeIndex = graph.opcode(kind, version)
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
    operator.builtinOptions = getattr(schema, f"{options}T")()
    return operator


def _steps(scale: float, zero_point: int) -> Any:
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = np.array([scale], np.float32), np.array([zero_point], np.int64)
    return parameters
