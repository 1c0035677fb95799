"""Operations that give the same values another shape or order.

Source: coremltools' definitions ``tensor_transformation`` (iOS 15 to 17) and ``tensor_operation``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Batching, Call, op, positive


@op("identity", parameters="x", batching=Batching.POINTWISE, moves=True)
def identity(call: Call) -> Tensor:
    """The input."""
    return call.tensor("x")


@op("shape", parameters="x", batching=Batching.STATIC, moves=True)
def shape(call: Call) -> Tensor:
    """Lengths of the axes."""
    return torch.tensor(call.tensor("x").shape, dtype=torch.int32)


@op("reshape", parameters="x shape", moves=True)
def reshape(call: Call) -> Tensor:
    """The same values row by row in another shape.

    One length may be -1, for what is left. 0 keeps an axis' length; the axes are matched from the end, which for
    equal ranks (all that iOS 15 and 16 allow) is the same as from the front. One that is matched by none becomes
    1.
    """
    x, sizes = call.tensor("x"), call.ints("shape")
    offset = x.ndim - len(sizes)
    kept = [x.shape[i + offset] if i + offset >= 0 else 1 for i in range(len(sizes))]
    return x.reshape([old if new == 0 else new for old, new in zip(kept, sizes, strict=True)])


@op("reshape_like", parameters="x ref_tensors begins ends end_masks", moves=True)
def reshape_like(call: Call) -> Tensor:
    """In a shape joined from parts of other tensors' shapes."""
    sizes: list[int] = []
    bounds = (call.tensors("ref_tensors"), call.tensors("begins"), call.tensors("ends"), call.tensors("end_masks"))
    for reference, begin, end, to_the_end in zip(*bounds, strict=True):
        sizes += reference.shape[int(begin) : None if bool(to_the_end) else int(end)]
    return call.tensor("x").reshape(sizes)


@op("transpose", parameters="x perm", moves=True)
def transpose(call: Call) -> Tensor:
    """Axes in another order."""
    return call.tensor("x").permute(call.ints("perm"))


@op("expand_dims", parameters="x axes", moves=True)
def expand_dims(call: Call) -> Tensor:
    """New axes of length 1, counted in the result."""
    x, axes = call.tensor("x"), call.ints("axes")
    for axis in sorted(positive(axis, x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@op("squeeze", parameters="x axes", moves=True)
def squeeze(call: Call) -> Tensor:
    """Without axes of length 1; a longer axis that is named stays."""
    x = call.tensor("x")
    axes = [positive(axis, x.ndim) for axis in call.ints("axes", list(range(x.ndim)))]
    return x.reshape([n for i, n in enumerate(x.shape) if i not in axes or n != 1])


@op("flatten2d", parameters="x axis", moves=True)
def flatten2d(call: Call) -> Tensor:
    """Two axes: all before the one named, and it with all behind it."""
    x = call.tensor("x")
    axis = positive(call.integer("axis", 1), x.ndim)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@op("reverse", parameters="x axes", moves=True)
def reverse(call: Call) -> Tensor:
    """Axes back to front; all of them if none is named."""
    x = call.tensor("x")
    return x.flip([positive(axis, x.ndim) for axis in call.ints("axes", list(range(x.ndim)))])


@op("reverse_sequence", parameters="x lengths seq_axis batch_axis", moves=True)
def reverse_sequence(call: Call) -> Tensor:
    """The first entries of each sequence back to front, the rest as it is."""
    x, lengths = call.tensor("x"), call.tensor("lengths").to(torch.int64)
    sequence, batch = (positive(call.integer(key, 0), x.ndim) for key in ("seq_axis", "batch_axis"))
    steps = _along(torch.arange(x.shape[sequence]), sequence, x.ndim)
    ends = _along(lengths, batch, x.ndim)
    return x.gather(sequence, torch.where(steps < ends, ends - 1 - steps, steps).expand(x.shape))


@op("pixel_shuffle", parameters="x upscale_factor", moves=True)
def pixel_shuffle(call: Call) -> Tensor:
    """(N, C f^2, H, W) to (N, C, H f, W f), the factors behind the channel."""
    return F.pixel_shuffle(call.tensor("x"), call.integer("upscale_factor"))


@op("pixel_unshuffle", parameters="x downscale_factor", moves=True)
def pixel_unshuffle(call: Call) -> Tensor:
    """(N, C, H f, W f) to (N, C f^2, H, W), the factors behind the channel."""
    return F.pixel_unshuffle(call.tensor("x"), call.integer("downscale_factor"))


@op("depth_to_space", parameters="x block_size", moves=True)
def depth_to_space(call: Call) -> Tensor:
    """(N, b^2 C, H, W) to (N, C, H b, W b), the factors before the channel."""
    x, block = call.tensor("x"), call.integer("block_size")
    n, c, h, w = x.shape
    split = x.reshape(n, block, block, c // block**2, h, w)
    return split.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)


@op("space_to_depth", parameters="x block_size", moves=True)
def space_to_depth(call: Call) -> Tensor:
    """(N, C, H b, W b) to (N, b^2 C, H, W), the factors before the channel."""
    x, block = call.tensor("x"), call.integer("block_size")
    n, c, h, w = x.shape
    split = x.reshape(n, c, h // block, block, w // block, block)
    return split.permute(0, 3, 5, 1, 2, 4).reshape(n, c * block**2, h // block, w // block)


@op("space_to_batch", parameters="x block_shape paddings", moves=True)
def space_to_batch(call: Call) -> Tensor:
    """(N, C, H, W), zeros around it, to (a b N, C, H / a, W / b): the pixels of a block become pictures."""
    (a, b), pads = call.ints("block_shape"), call.ints("paddings")
    x = F.pad(call.tensor("x"), [pads[2], pads[3], pads[0], pads[1]])
    n, c, h, w = x.shape
    split = x.reshape(n, c, h // a, a, w // b, b).permute(3, 5, 0, 1, 2, 4)
    return split.reshape(a * b * n, c, h // a, w // b)


@op("batch_to_space", parameters="x block_shape crops", moves=True)
def batch_to_space(call: Call) -> Tensor:
    """(a b N, C, H, W) to (N, C, H a, W b), then the edges cut off."""
    x, (a, b), crops = call.tensor("x"), call.ints("block_shape"), call.ints("crops")
    n, c, h, w = x.shape
    split = x.reshape(a, b, n // (a * b), c, h, w).permute(2, 3, 4, 0, 5, 1)
    joined = split.reshape(n // (a * b), c, h * a, w * b)
    return joined[:, :, crops[0] : h * a - crops[1], crops[2] : w * b - crops[3]]


def _along(values: Tensor, axis: int, rank: int) -> Tensor:
    """(L,) with its axis moved to where it belongs among ``rank`` axes."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])
