"""Poolings. Source: coremltools' definitions ``pool`` (iOS 15) and ``_utils.spatial_dimensions_out_shape``.

A window is looked at as one more axis per spatial axis, after padding by hand, so that uneven padding, ``same``
and ``ceil_mode`` need no special case.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evit_edge.runtime.coreml.ops.padding import before_and_after, for_torch
from evit_edge.runtime.coreml.ops.registry import Call, op

_PARAMETERS = "x kernel_sizes strides pad_type pad ceil_mode"


@op("max_pool", parameters=_PARAMETERS, moves=True)
def max_pool(call: Call) -> Tensor:
    """The largest of each window; padding never is."""
    x = call.tensor("x")
    if call.flag("ceil_mode", False):
        _counts(call, x, 0.0)
    return _windows(call, x, float("-inf")).amax(_window_axes(call))


@op("avg_pool", parameters=_PARAMETERS + " exclude_padding_from_average")
def avg_pool(call: Call) -> Tensor:
    """The mean of each window, padding counted as zeros or not counted.

    What ``ceil_mode`` adds behind the padding is never counted, as in torch.
    """
    x = call.tensor("x")
    total = _windows(call, x, 0.0).sum(_window_axes(call))
    return total / _counts(call, x, 0.0 if call.flag("exclude_padding_from_average", False) else 1.0)


@op("l2_pool", parameters=_PARAMETERS)
def l2_pool(call: Call) -> Tensor:
    """Square root of the sum of squares of each window."""
    return _windows(call, call.tensor("x").square(), 0.0).sum(_window_axes(call)).sqrt()


def _counts(call: Call, x: Tensor, padding: float) -> Tensor:
    """(1, 1, *out): entries that each window covers, those of the padding if it counts 1.

    The count depends on shapes alone, so one plane of ones serves all pictures and channels.
    """
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    counts = _windows(call, ones, padding, beyond=0.0).sum(_window_axes(call))
    if bool((counts == 0).any()):
        raise call.refusal("one of its windows lies outside the input, for which its definition has no result")
    return counts


def _window_axes(call: Call) -> tuple[int, ...]:
    return tuple(range(-len(call.ints("kernel_sizes")), 0))


def _windows(call: Call, x: Tensor, padding: float, beyond: float | None = None) -> Tensor:
    """(N, C, *out, *kernel): all windows of (N, C, *in).

    Args:
        call: With the pooling's parameters.
        x: (N, C, *in).
        padding: Value of the padding that the file asks for.
        beyond: Value of what ``ceil_mode`` adds behind it; None for the same.
    """
    sizes = list(x.shape[2:])
    kernel = call.ints("kernel_sizes")
    strides = call.ints("strides", [1] * len(sizes))
    if not len(kernel) == len(strides) == len(sizes):
        raise call.refusal(f"its window {kernel} with strides {strides} does not fit an input of {x.ndim} axes")
    pads = before_and_after(call, tuple(sizes), kernel, strides, None)
    x = F.pad(x, for_torch(pads), value=padding)
    if call.flag("ceil_mode", False):
        missing = [
            max(0, (_ceil_length(n, k, s, p) - 1) * s + k - n - sum(p))
            for n, k, s, p in zip(sizes, kernel, strides, pads, strict=True)
        ]
        x = F.pad(x, for_torch([(0, n) for n in missing]), value=padding if beyond is None else beyond)
    for axis, (k, s) in enumerate(zip(kernel, strides, strict=True), start=2):
        x = x.unfold(axis, k, s)
    return x


def _ceil_length(size: int, kernel: int, stride: int, pad: tuple[int, int]) -> int:
    """Windows along an axis when the last may hang over; it must not start behind the input."""
    length = math.ceil((size + sum(pad) - kernel) / stride) + 1
    if sum(pad) > 0 and (length - 1) * stride >= size + pad[0]:
        length -= 1
    return length
