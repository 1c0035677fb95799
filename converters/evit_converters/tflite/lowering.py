"""Rewrites of a float graph that is about to become int8: forms that the integer kernels run faster.

Each computes what the graph computed, up to the order of additions. Operators keep the names of their results, so
that ranges, exemptions and reports still fit; tensors that are new take their ranges from those that were there.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from evit_converters.tflite.graph import Graph

Ranges = dict[str, tuple[float, float]]

# XNNPACK has depthwise kernels for up to 25 taps; a larger window is computed a channel at a time, six to eight
# times slower than a dense convolution whose other weights are zero (measured for 49 taps and 16 channels).
LARGEST_DEPTHWISE_WINDOW = 25
MOST_DENSE_CHANNELS = 32


def lower(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> Ranges:
    """Rewrite a float graph, in place.

    Args:
        graph: Float, with ranges for its activations.
        ranges: Of the activations, by tensor name.

    Returns:
        Ranges that fit the graph as it is afterwards.
    """
    extended = dict(ranges)
    large_depthwise_to_dense(graph)
    relu_before_concatenation(graph, extended)
    input_scale_to_weights(graph, extended)
    pixel_pairs(graph, extended)
    return extended


def large_depthwise_to_dense(graph: Graph) -> None:
    """DEPTHWISE_CONV_2D with a large window over few channels becomes CONV_2D with a diagonal kernel.

    int8 weights have a scale for each channel, so the quantized result is the same, bit for bit.
    """
    for operator in graph.operators:
        if graph.kind(operator) != "DEPTHWISE_CONV_2D" or not graph.is_constant(int(operator.inputs[1])):
            continue
        kernel = graph.constant(int(operator.inputs[1]))  # (1, k, k, C)
        _, height, width, channels = kernel.shape
        old = operator.builtinOptions
        if (
            height * width <= LARGEST_DEPTHWISE_WINDOW
            or channels > MOST_DENSE_CHANNELS
            or old.depthMultiplier != 1
        ):
            continue
        dense = np.zeros((channels, height, width, channels), kernel.dtype)
        dense[np.arange(channels), :, :, np.arange(channels)] = kernel[0].transpose(2, 0, 1)
        new = schema.Conv2DOptionsT()
        new.padding, new.fusedActivationFunction = old.padding, old.fusedActivationFunction
        new.strideH, new.strideW = old.strideH, old.strideW
        new.dilationHFactor, new.dilationWFactor = old.dilationHFactor, old.dilationWFactor
        operator.inputs = [
            int(operator.inputs[0]),
            _stored(graph, operator.inputs[1], dense),
            *operator.inputs[2:],
        ]
        operator.opcodeIndex = graph.opcode("CONV_2D")
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, new


def relu_before_concatenation(graph: Graph, ranges: Ranges) -> None:
    """RELU of a CONCATENATION becomes the CONCATENATION of RELUs.

    Each part is then quantized by itself, which is its RELU, and int8 is what is concatenated.
    """
    producers, consumers = graph.producers(), graph.consumers()
    operators: list[Any] = []
    for operator in graph.operators:
        joined = producers.get(int(operator.inputs[0])) if graph.kind(operator) == "RELU" else None
        if joined is None or graph.kind(joined) != "CONCATENATION" or not _alone(graph, joined, consumers):
            operators.append(operator)
            continue
        place = next(number for number, other in enumerate(operators) if other is joined)
        result = int(operator.outputs[0])
        relus = [_relu_of(graph, operator, int(part), result, ranges) for part in joined.inputs]
        joined.inputs, joined.outputs = [int(relu.outputs[0]) for relu in relus], [result]
        operators[place : place + 1] = [*relus, joined]
    graph.model.subgraphs[0].operators = operators


def _alone(graph: Graph, operator: Any, consumers: dict[int, list[Any]]) -> bool:
    """Whether an operator's result goes to one reader and nowhere else."""
    result = int(operator.outputs[0])
    return len(consumers[result]) == 1 and result not in graph.outputs


def _relu_of(graph: Graph, relu: Any, part: int, result: int, ranges: Ranges) -> Any:
    """A RELU like the given one on another tensor, with the range of what the given one wrote."""
    twin = copy(relu)
    twin.inputs = [part]
    twin.outputs = [_twin(graph, part, f"{graph.name(part)}_relu", graph.shape(part))]
    ranges[f"{graph.name(part)}_relu"] = ranges[graph.name(result)]
    return twin


def input_scale_to_weights(graph: Graph, ranges: Ranges) -> None:
    """MUL by a factor for each channel before the first convolution becomes part of that convolution's weights.

    Centred pixels are then what is quantized, and :mod:`~evit_converters.tflite.pixels` can do without rounding.
    """
    producers, consumers = graph.producers(), graph.consumers()
    for scaling in [operator for operator in graph.operators if graph.kind(operator) == "MUL"]:
        source, result = (int(tensor) for tensor in (scaling.inputs[0], scaling.outputs[0]))
        centring, readers = producers.get(source), consumers.get(result, [])
        padding = readers[0] if len(readers) == 1 and graph.kind(readers[0]) == "PAD" else None
        convs = consumers.get(int(padding.outputs[0]), []) if padding else readers
        factors = _by_channel(graph, scaling)
        if centring is None or graph.kind(centring) != "SUB" or not _alone(graph, centring, consumers):
            continue
        whole = [graph.kind(conv) for conv in convs] == ["CONV_2D"] and graph.is_constant(int(convs[0].inputs[1]))
        if factors is None or not whole or {result, *(padding.outputs if padding else ())} & {*graph.outputs}:
            continue
        conv = convs[0]
        kernel = graph.constant(int(conv.inputs[1])) * factors  # (C', k, k, C)
        conv.inputs = [int(conv.inputs[0]), _stored(graph, conv.inputs[1], kernel), *conv.inputs[2:]]
        readers[0].inputs = [source, *readers[0].inputs[1:]]
        if padding is not None:
            ranges[graph.name(int(padding.outputs[0]))] = ranges[graph.name(source)]
        graph.model.subgraphs[0].operators = [other for other in graph.operators if other is not scaling]


def _by_channel(graph: Graph, operator: Any) -> npt.NDArray[Any] | None:
    """The stored operand of elementwise arithmetic, if it is one number for each channel; (C,)."""
    factor = int(operator.inputs[1])
    channels = graph.shape(int(operator.outputs[0]))[-1]
    if not graph.is_constant(factor) or operator.builtinOptions.fusedActivationFunction:
        return None
    values = np.broadcast_to(graph.constant(factor), (*graph.shape(factor)[:-1], channels)).reshape(-1, channels)
    return values[0] if bool((values == values[0]).all()) else None


def pixel_pairs(graph: Graph, ranges: Ranges) -> None:
    """A convolution of stride 2 on three channels reads pairs of pixels as one of six channels.

    Integer kernels take channels in groups of eight: three fill them badly, six better. The pair's kernel has half
    the width, rounded up, and zeros where it reads a pixel that the original does not.
    """
    producers, consumers = graph.producers(), graph.consumers()
    operators: list[Any] = []
    for operator in graph.operators:
        padding = producers.get(int(operator.inputs[0])) if graph.kind(operator) == "CONV_2D" else None
        if padding is not None and _takes_pairs(graph, operator, padding, consumers):
            operators.remove(padding)
            operators += [_in_pairs(graph, operator, padding, ranges), padding]
        operators.append(operator)
    graph.model.subgraphs[0].operators = operators


def _takes_pairs(graph: Graph, conv: Any, padding: Any, consumers: dict[int, list[Any]]) -> bool:
    """PAD by an odd number of columns on the left, then a 3-channel convolution of stride 2 without padding."""
    options = conv.builtinOptions
    if graph.kind(padding) != "PAD" or not _alone(graph, padding, consumers):
        return False
    if not all(graph.is_constant(int(t)) for t in (padding.inputs[1], conv.inputs[1])):
        return False
    _, _, width, channels = graph.shape(int(padding.inputs[0]))
    strides = (options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor)
    valid = options.padding == schema.Padding.VALID
    return valid and strides == (2, 2, 1, 1) and channels == 3 and width % 2 == 0


def _in_pairs(graph: Graph, conv: Any, padding: Any, ranges: Ranges) -> Any:
    """Turn PAD and CONV_2D to pairs; give the RESHAPE that has to stand before them."""
    source = int(padding.inputs[0])
    _, _, width, channels = graph.shape(source)
    pads = graph.constant(int(padding.inputs[1]))  # (4, 2)
    kernel = graph.constant(int(conv.inputs[1]))  # (C', k, k, 3)
    steps = graph.shape(int(conv.outputs[0]))[2]
    # Column 2 * i - left is the first that output i reads: the pairs begin one pixel earlier if left is odd.
    skipped = int(pads[2, 0]) % 2
    taps = -(-(kernel.shape[2] + skipped) // 2)
    wide = np.zeros((*kernel.shape[:2], 2 * taps, channels), kernel.dtype)
    wide[:, :, skipped : skipped + kernel.shape[2]] = kernel
    left = (int(pads[2, 0]) + skipped) // 2
    right = steps + taps - 1 - left - width // 2
    pads = np.array([[0, 0], pads[1], [left, right], [0, 0]], pads.dtype)
    return _rewire(graph, conv, padding, wide.reshape(*kernel.shape[:2], taps, 2 * channels), pads, ranges)


def _rewire(
    graph: Graph, conv: Any, padding: Any, kernel: npt.NDArray[Any], pads: npt.NDArray[Any], ranges: Ranges
) -> Any:
    source, padded = int(padding.inputs[0]), int(padding.outputs[0])
    batch, height, width, channels = graph.shape(source)
    shape = (batch, height, width // 2, 2 * channels)
    name = f"{graph.name(source)}_pairs"
    ranges[name] = ranges[graph.name(source)]
    paired = _twin(graph, source, name, shape)
    padding.inputs = [paired, _stored(graph, padding.inputs[1], pads)]
    graph.tensors[padded].shape = np.array(
        [size + int(before) + int(after) for size, (before, after) in zip(shape, pads, strict=True)], np.int32
    )
    conv.inputs = [int(conv.inputs[0]), _stored(graph, conv.inputs[1], kernel), *conv.inputs[2:]]
    options, reshape = schema.ReshapeOptionsT(), schema.OperatorT()
    options.newShape = np.array(shape, np.int32)
    conv.builtinOptions.strideW = 1
    target = graph.store(np.array(shape, np.int32))
    reshape.inputs, reshape.outputs, reshape.opcodeIndex = [source, target], [paired], graph.opcode("RESHAPE")
    reshape.builtinOptionsType, reshape.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
    return reshape


def _twin(graph: Graph, tensor: int, name: str, shape: tuple[int, ...]) -> int:
    """A new computed tensor like another one, with a name and a shape of its own."""
    twin = copy(graph.tensors[int(tensor)])
    twin.name, twin.shape, twin.buffer, twin.shapeSignature = name.encode(), np.array(shape, np.int32), 0, None
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _stored(graph: Graph, old: int, values: npt.NDArray[Any]) -> int:
    """A stored tensor with other values: the old one where only one operator reads it, else a new one."""
    tensor = int(old)
    if len(graph.consumers()[tensor]) > 1 or tensor in graph.outputs:
        tensor = _twin(graph, tensor, f"constant_{len(graph.tensors)}", values.shape)
    elif sum(other.buffer == graph.tensors[tensor].buffer for other in graph.tensors) == 1:
        graph.model.buffers[graph.tensors[tensor].buffer].data = None
    changed = graph.tensors[tensor]
    changed.buffer, changed.shape = graph.store_buffer(values), np.array(values.shape, np.int32)
    changed.shapeSignature = None
    return tensor
