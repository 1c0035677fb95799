"""Quantized activations. Source: coremltools' definitions ``quantization_ops`` (iOS 17)."""

from __future__ import annotations

import torch
from torch import Tensor

from evit_edge.runtime.coreml.elements import Element
from evit_edge.runtime.coreml.ops.registry import Call, op, positive

_RANGES = {Element.INT8: (-128, 127), Element.UINT8: (0, 255)}


@op("quantize", parameters="input zero_point scale axis output_dtype")
def quantize(call: Call) -> Tensor:
    """round(input / scale) + zero_point within the type's range; halves go to the even neighbour."""
    x = call.tensor("input")
    element = call.output.element
    if element not in _RANGES:
        raise call.refusal(f"it quantizes to {element}; {', '.join(map(str, _RANGES))} are supported")
    steps = torch.round(x / _along(call, "scale", x))
    if call.has("zero_point"):
        steps = steps + _along(call, "zero_point", x)
    return torch.clamp(steps, *_RANGES[element]).to(torch.int16)


@op("dequantize", parameters="input zero_point scale axis")
def dequantize(call: Call) -> Tensor:
    """Scale (input - zero_point)."""
    x, scale = call.tensor("input"), call.tensor("scale")
    steps = x.to(scale.dtype)
    if call.has("zero_point"):
        steps = steps - _along(call, "zero_point", x).to(scale.dtype)
    return steps * _along(call, "scale", x)


def _along(call: Call, key: str, x: Tensor) -> Tensor:
    """A scalar, or one value per entry of the axis named."""
    values = call.tensor(key)
    if values.ndim == 0:
        return values
    axis = positive(call.integer("axis"), x.ndim)
    return values.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


@op("classify", parameters="probabilities classes")
def classify(call: Call) -> tuple[Tensor, Tensor]:
    """Which class is the likeliest, and all scores in the order of the labels.

    The labels are left to the reader; MIL makes a string and a dictionary of them.
    """
    scores = call.tensor("probabilities").reshape(-1)
    return torch.argmax(scores), scores
