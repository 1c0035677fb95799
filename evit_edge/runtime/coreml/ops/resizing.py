"""Resampling of the last two axes. Source: coremltools' definitions ``image_resizing`` (iOS 15 to 17).

Each output pixel of an axis has a place on the input's axis; how places are spread is the sampling mode.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Call, op

_MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")


@op("resize_bilinear", parameters="x target_size_height target_size_width sampling_mode")
def resize_bilinear(call: Call) -> Tensor:
    """To a size, linearly between neighbours."""
    size = call.integer("target_size_height", 1), call.integer("target_size_width", 1)
    return _linear(call.tensor("x"), size, call.choice("sampling_mode", _MODES, "DEFAULT"))


@op("upsample_bilinear", parameters="x scale_factor_height scale_factor_width align_corners half_pixel_centers")
def upsample_bilinear(call: Call) -> Tensor:
    """By factors, linearly between neighbours; the factors are worked out anew from the whole-number sizes."""
    x = call.tensor("x")
    align = call.flag("align_corners", True)
    half = call.flag("half_pixel_centers", not align)
    if align and half:
        raise call.refusal("it asks for aligned corners and half-pixel centres at once")
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half else "DEFAULT"
    return _linear(x, _scaled_size(call, x), mode)


@op("resize_nearest_neighbor", parameters="x target_size_height target_size_width", moves=True)
def resize_nearest_neighbor(call: Call) -> Tensor:
    """To a size, from the pixel at or before each place."""
    return _nearest(call.tensor("x"), (call.integer("target_size_height"), call.integer("target_size_width")))


@op("upsample_nearest_neighbor", parameters="x scale_factor_height scale_factor_width", moves=True)
def upsample_nearest_neighbor(call: Call) -> Tensor:
    """By factors, from the pixel at or before each place."""
    x = call.tensor("x")
    return _nearest(x, _scaled_size(call, x))


@op("resize", parameters="x shape resized_dims interpolation_mode sampling_mode")
def resize(call: Call) -> Tensor:
    """The last axes to sizes; 0 keeps a size."""
    x, dims = call.tensor("x"), call.integer("resized_dims")
    if dims not in (1, 2):
        raise call.refusal(f"it resizes {dims} axes; 1 and 2 are supported")
    wanted = call.ints("shape")[-dims:]
    size = tuple(new or old for new, old in zip(wanted, x.shape[-dims:], strict=True))
    mode = call.choice("sampling_mode", _MODES, "DEFAULT")
    if call.choice("interpolation_mode", ("LINEAR", "NEAREST_NEIGHBOR"), "LINEAR") == "LINEAR":
        return _linear(x, size, mode)
    if mode != "DEFAULT" and any(new % old for new, old in zip(size, x.shape[-dims:], strict=True)):
        raise call.refusal(f"its definition leaves open which neighbour is the nearest for sampling mode {mode}")
    return _nearest(x, size)


def _scaled_size(call: Call, x: Tensor) -> tuple[int, int]:
    factors = call.number("scale_factor_height", 1.0), call.number("scale_factor_width", 1.0)
    return math.floor(x.shape[-2] * factors[0]), math.floor(x.shape[-1] * factors[1])


def _nearest(x: Tensor, size: tuple[int, ...]) -> Tensor:
    for axis, new in enumerate(size, start=-len(size)):
        old = x.shape[axis]
        x = x.index_select(axis, torch.arange(new) * old // new)
    return x


def _linear(x: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    """The last axes to the sizes given, linearly between neighbours."""
    for axis, new in enumerate(size, start=-len(size)):
        places = _grid(x.shape[axis], new, mode)
        before = places.floor().to(torch.int64)
        after = torch.clamp(before + 1, max=x.shape[axis] - 1)
        share = (places - before).to(x.dtype)
        if axis == -2:
            share = share[:, None]
        x = x.index_select(axis, before) * (1 - share) + x.index_select(axis, after) * share
    return x


def _grid(old: int, new: int, mode: str) -> Tensor:
    """float64 (new,): place on the input's axis for each output pixel."""
    steps = torch.arange(new, dtype=torch.float64)
    match mode:
        case "UNALIGN_CORNERS":
            places = (steps + 0.5) * (old / new) - 0.5
        case "OFFSET_CORNERS":
            places = (steps + 0.5) * (max(1, old - 1) / new)
        case "DEFAULT":
            places = steps * (old / new)
        case "ALIGN_CORNERS" if new == 1:
            places = steps + (old - 1) / 2
        case _:
            places = steps * ((old - 1) / max(1, new - 1))
    return places.clamp(0, old - 1)
