"""Convolutions. Source: coremltools' definitions ``conv`` (iOS 15 and 17)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from evit_edge.runtime.coreml.ops.padding import before_and_after, for_torch
from evit_edge.runtime.coreml.ops.registry import Call, op

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@op("conv", parameters="x weight bias strides pad_type pad dilations groups")
def conv(call: Call) -> Tensor:
    """Convolution over 1 to 3 axes: x (N, C, ...), weight (C_out, C / groups, ...)."""
    x, weight = call.tensor("x"), call.tensor("weight")
    axes = _spatial_axes(call, x)
    strides, dilations = call.ints("strides", [1] * axes), call.ints("dilations", [1] * axes)
    extent = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pads = before_and_after(call, tuple(x.shape[2:]), extent, strides, "valid")
    if all(before == after for before, after in pads):
        padding = [before for before, _ in pads]
    else:
        x, padding = F.pad(x, for_torch(pads)), [0] * axes
    groups = call.integer("groups", 1)
    return _CONVOLVE[axes](x, weight, call.optional("bias"), strides, padding, dilations, groups)


@op("conv_transpose", parameters="x weight bias pad output_shape pad_type strides dilations groups")
def conv_transpose(call: Call) -> Tensor:
    """Transposed convolution: x (N, C, ...), weight (C, C_out / groups, ...).

    The whole result is computed and the padding cut off it. Where the file states ``output_shape``, that counts;
    what the padding then leaves over at the end is cut or, if too little is there, filled up with the bias.
    """
    x, weight, bias = call.tensor("x"), call.tensor("weight"), call.optional("bias")
    axes = _spatial_axes(call, x)
    strides, dilations = call.ints("strides", [1] * axes), call.ints("dilations", [1] * axes)
    groups = call.integer("groups", 1)
    full = _TRANSPOSED[axes](x, weight, None, strides, 0, 0, groups, dilations)
    before, sizes = _window(call, x, full, strides)
    full = F.pad(full, for_torch([(-b, s + b - n) for b, s, n in zip(before, sizes, full.shape[2:], strict=True)]))
    return full if bias is None else full + bias.reshape(1, -1, *[1] * axes)


def _window(call: Call, x: Tensor, full: Tensor, strides: list[int]) -> tuple[list[int], list[int]]:
    """Which part of the whole result is kept: how much is cut in front, and how long it is, per spatial axis."""
    kind = call.choice("pad_type", ("valid", "same", "custom"), "valid")
    whole = list(full.shape[2:])
    stated = call.ints("output_shape")[2:] if call.has("output_shape") else None
    if kind == "custom":
        pad = call.ints("pad", [0] * (2 * len(whole)))
        kept = [n - a - b for n, a, b in zip(whole, pad[::2], pad[1::2], strict=True)]
        return pad[::2], stated or kept
    if kind == "valid":
        return [0] * len(whole), stated or whole
    sizes = stated or [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    return [max(0, n - s) // 2 for n, s in zip(whole, sizes, strict=True)], sizes


def _spatial_axes(call: Call, x: Tensor) -> int:
    axes = x.ndim - 2
    if axes not in _CONVOLVE:
        raise call.refusal(f"its input has {x.ndim} axes; 3 to 5 are supported")
    return axes
