"""Parts of tensors.

Source: coremltools' definitions ``tensor_transformation`` (iOS 15 to 18) and ``image_resizing.crop``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Call, op, positive

_SLICE = "begin end stride begin_mask end_mask squeeze_mask"


@op("slice_by_index", parameters="x " + _SLICE, moves=True)
def slice_by_index(call: Call) -> Tensor:
    """``x[begin:end:stride]`` per axis, as numpy does it; ``squeeze_mask`` drops axes from the result."""
    x = call.tensor("x")
    for axis, places in enumerate(_places(call, x)):
        if len(places) != x.shape[axis] or places.step != 1:
            x = _picked(x, axis, places)
    squeezed = call.flags("squeeze_mask", x.ndim)
    return x.reshape([n for n, gone in zip(x.shape, squeezed, strict=True) if not gone])


@op("slice_update", parameters="x update " + _SLICE, moves=True)
def slice_update(call: Call) -> Tensor:
    """The input with the part that ``slice_by_index`` would take replaced by another tensor."""
    x, update = call.tensor("x"), call.tensor("update")
    places = _places(call, x)
    part = update.reshape([len(p) for p in places])
    for axis in reversed(range(x.ndim)):
        below = _part(x, places[:axis])
        part = below.index_copy(axis, torch.tensor(places[axis], dtype=torch.int64), part)
    return part


@op("slice_by_size", parameters="x begin size", moves=True)
def slice_by_size(call: Call) -> Tensor:
    """So many entries of each axis from ``begin`` on; -1 for all that follow."""
    x = call.tensor("x")
    for axis, (start, size) in enumerate(zip(call.ints("begin"), call.ints("size"), strict=True)):
        first = positive(start, x.shape[axis])
        length = x.shape[axis] - first if size == -1 else size
        if not 0 <= first <= first + length <= x.shape[axis]:
            raise call.refusal(f"it takes {length} entries from {first} on of an axis of {x.shape[axis]}")
        x = x.narrow(axis, first, length)
    return x


@op("crop", parameters="x crop_height crop_width", moves=True)
def crop(call: Call) -> Tensor:
    """The last two axes without their edges."""
    x = call.tensor("x")
    for axis, key in ((-2, "crop_height"), (-1, "crop_width")):
        before, after = call.ints(key)
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


@op("sliding_windows", parameters="x axis size stride", moves=True)
def sliding_windows(call: Call) -> Tensor:
    """All windows of an axis, each as a new axis behind it."""
    x = call.tensor("x")
    axis = positive(call.integer("axis"), x.ndim)
    windows = x.unfold(axis, call.integer("size"), call.integer("stride", 1))  # (..., windows, ..., size)
    return windows.movedim(-1, axis + 1)


def _places(call: Call, x: Tensor) -> list[range]:
    """Which entries of each axis are taken."""
    begin, end = call.ints("begin"), call.ints("end")
    stride = call.ints("stride", [1] * x.ndim)
    masks = [call.flags(key, x.ndim) for key in ("begin_mask", "end_mask", "squeeze_mask")]
    if {len(begin), len(end), len(stride), *map(len, masks)} != {x.ndim}:
        raise call.refusal(f"its bounds do not have one entry for each of {x.ndim} axes")
    places = []
    for axis, size in enumerate(x.shape):
        no_begin, no_end, squeeze = (mask[axis] for mask in masks)
        if squeeze:
            first = positive(0 if no_begin else begin[axis], size)
            if not 0 <= first < size:
                raise call.refusal(f"it takes entry {begin[axis]} of an axis of {size}")
            places.append(range(first, first + 1))
        else:
            bounds = slice(None if no_begin else begin[axis], None if no_end else end[axis], stride[axis])
            places.append(range(*bounds.indices(size)))
    return places


def _part(x: Tensor, places: list[range]) -> Tensor:
    for axis, wanted in enumerate(places):
        x = _picked(x, axis, wanted)
    return x


def _picked(x: Tensor, axis: int, places: range) -> Tensor:
    if places.step == 1:
        return x.narrow(axis, places.start, len(places))
    return x.index_select(axis, torch.tensor(places, dtype=torch.int64))
