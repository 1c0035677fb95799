"""Operations that join, split, repeat, pad or make tensors.

Source: coremltools' definitions ``tensor_operation`` (iOS 15 to 17).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Batching, Call, index, op, positive


@op("concat", parameters="values axis interleave", moves=True)
def concat(call: Call) -> Tensor:
    """One behind the other along an axis, or entry by entry in turn."""
    values = [value.reshape(1) if value.ndim == 0 else value for value in call.tensors("values")]
    axis = positive(call.integer("axis"), values[0].ndim)
    if not call.flag("interleave", False):
        return torch.cat(values, axis)
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


@op("stack", parameters="values axis", moves=True)
def stack(call: Call) -> Tensor:
    """Along a new axis."""
    values = call.tensors("values")
    return torch.stack(values, positive(call.integer("axis"), values[0].ndim + 1))


@op("split", parameters="x axis num_splits split_sizes", moves=True)
def split(call: Call) -> tuple[Tensor, ...]:
    """Parts along an axis, equal ones or of the sizes given."""
    x = call.tensor("x")
    axis = positive(call.integer("axis"), x.ndim)
    if call.has("split_sizes"):
        return torch.split(x, call.ints("split_sizes"), axis)
    parts = call.integer("num_splits")
    if parts < 1 or x.shape[axis] % parts:
        raise call.refusal(f"an axis of {x.shape[axis]} does not split into {parts} equal parts")
    return torch.split(x, x.shape[axis] // parts, axis)


@op("tile", parameters="x reps", moves=True)
def tile(call: Call) -> Tensor:
    """The whole repeated along each axis."""
    return call.tensor("x").repeat(call.ints("reps"))


@op("pad", parameters="x pad mode constant_val", moves=True)
def pad(call: Call) -> Tensor:
    """More entries on both sides of the last axes: a constant, or the input's own entries.

    ``reflect`` mirrors without repeating the edge, ``replicate`` repeats the edge.
    """
    x, flat = call.tensor("x"), call.ints("pad")
    pairs = [(0, 0)] * (x.ndim - len(flat) // 2) + list(zip(flat[::2], flat[1::2], strict=True))
    mode = call.choice("mode", ("constant", "reflect", "replicate"), "constant")
    if mode == "constant":
        value = call.number("constant_val", 0.0)
        return F.pad(x, [entry for pair in reversed(pairs) for entry in pair], value=value)
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            x = x.index_select(axis, _mirrored(call, x.shape[axis], before, after, mode))
    return x


def _mirrored(call: Call, size: int, before: int, after: int, mode: str) -> Tensor:
    places = torch.arange(-before, size + after)
    if mode == "replicate":
        return places.clamp(0, size - 1)
    if max(before, after) >= size:
        raise call.refusal(f"it reflects {max(before, after)} entries of an axis of {size}; fewer are possible")
    places = places.abs()
    return torch.where(places >= size, 2 * (size - 1) - places, places)


@op("fill", parameters="shape value", moves=True)
def fill(call: Call) -> Tensor:
    """One value in the shape given."""
    return _filled(call, call.ints("shape"))


@op("fill_like", parameters="ref_tensor value", batching=Batching.STATIC, moves=True)
def fill_like(call: Call) -> Tensor:
    """One value in another tensor's shape."""
    return _filled(call, list(call.tensor("ref_tensor").shape))


def _filled(call: Call, sizes: list[int]) -> Tensor:
    value = call.optional("value")
    return torch.zeros(sizes) if value is None else value.reshape([1] * len(sizes)).expand(sizes).clone()


@op("range_1d", parameters="start end step", batching=Batching.LOOP, moves=True)
def range_1d(call: Call) -> Tensor:
    """Start, start + step, ... up to the end, which is not reached."""
    start, end, step = (call.tensor(key).reshape(()) for key in ("start", "end", "step"))
    if float(step) == 0:
        raise call.refusal("its step is 0")
    count = max(0, math.ceil((float(end) - float(start)) / float(step)))
    return start + step * torch.arange(count, dtype=start.dtype)


@op("one_hot", parameters="indices one_hot_vector_size axis on_value off_value", moves=True)
def one_hot(call: Call) -> Tensor:
    """A new axis with ``on_value`` where the index says and ``off_value`` elsewhere."""
    indices = index(call.tensor("indices"))
    axis = positive(call.integer("axis", -1), indices.ndim + 1)
    classes = torch.arange(call.integer("one_hot_vector_size"))
    hit = indices.unsqueeze(axis) == classes.reshape([-1 if i == axis else 1 for i in range(indices.ndim + 1)])
    on, off = call.optional("on_value"), call.optional("off_value")
    return torch.where(hit, torch.tensor(1) if on is None else on, torch.tensor(0) if off is None else off)


@op("band_part", parameters="x lower upper", moves=True)
def band_part(call: Call) -> Tensor:
    """The innermost matrices with zeros outside a band around the diagonal."""
    x = call.tensor("x")
    lower, upper = call.integer("lower", -1), call.integer("upper", -1)
    below = torch.arange(x.shape[-2])[:, None] - torch.arange(x.shape[-1])[None]  # (M, N)
    keep = ((below <= lower) | torch.tensor(lower < 0)) & ((-below <= upper) | torch.tensor(upper < 0))
    return torch.where(keep, x, torch.zeros_like(x))
