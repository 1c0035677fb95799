"""Quantized activations. Source: coremltools' definitions ``quantization_ops`` (iOS 17)."""

from __future__ import annotations

import torch
from torch import Tensor

from evit_edge.runtime.coreml.elements import Element
from evit_edge.runtime.coreml.ops.registry import Batching, Call, op, positive

_RANGES = {Element.INT8: (-128, 127), Element.UINT8: (0, 255)}


@op("quantize", parameters="input zero_point scale axis output_dtype", batching=Batching.POINTWISE)
def quantize(call: Call) -> Tensor:
    """round(input / scale) + zero_point within the type's range; halves go to the even neighbour."""
    x = call.tensor("input")
    element = call.output.element
    if element not in _RANGES:
        raise call.refusal(f"it quantizes to {element}; {', '.join(map(str, _RANGES))} are supported")
    steps = torch.round(x / _along(call, "scale"))
    if call.has("zero_point"):
        steps = steps + _along(call, "zero_point")
    return torch.clamp(steps, *_RANGES[element]).to(torch.int16)


@op("dequantize", parameters="input zero_point scale axis", batching=Batching.POINTWISE)
def dequantize(call: Call) -> Tensor:
    """Scale (input - zero_point)."""
    x, scale = call.tensor("input"), call.tensor("scale")
    steps = x.to(scale.dtype)
    if call.has("zero_point"):
        steps = steps - _along(call, "zero_point").to(scale.dtype)
    return steps * _along(call, "scale")


def _along(call: Call, key: str) -> Tensor:
    """A scalar, or one value per entry of the axis named, shaped to go with the axes behind it."""
    values = call.tensor(key)
    if values.ndim == 0:
        return values
    rank = len(call.output.shape)
    return values.reshape([-1] + [1] * (rank - 1 - positive(call.integer("axis"), rank)))


@op("classify", parameters="probabilities classes")
def classify(call: Call) -> tuple[Tensor, Tensor]:
    """Which class is the likeliest, and all scores in the order of the labels.

    The labels are left to the reader; MIL makes a string and a dictionary of them.
    """
    scores = call.tensor("probabilities").reshape(-1)
    return torch.argmax(scores), scores
