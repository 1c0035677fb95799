"""Cases of operations that move, join, cut, pick and make values."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from coreml_fuzz import Case, Draw, case


def numbers(draw: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """Real, or now and then whole."""
    return draw.floats(shape) if draw.int(0, 3) else draw.ints(shape, -9, 9)


def factors(draw: Draw, total: int, rank: int) -> list[int]:
    """A random shape of so many entries."""
    sizes = []
    for _ in range(rank - 1):
        divisors = [n for n in range(1, total + 1) if total % n == 0]
        sizes.append(draw.of(*divisors))
        total //= sizes[-1]
    return [*sizes, total]


@case("reshape")
def reshape(draw: Draw) -> Case:
    x = numbers(draw, draw.shape())
    sizes = factors(draw, x.size, draw.int(1, 5))
    expected = x.reshape(sizes)
    if draw.bool():
        sizes[draw.int(0, len(sizes) - 1)] = -1
    return Case((x,), lambda mb, v: mb.reshape(x=v, shape=np.array(sizes, np.int32)), (expected,))


@case("reshape")
def reshape_keeping(draw: Draw) -> Case:
    x = numbers(draw, draw.shape(3))
    swapped = (0, x.shape[2], x.shape[1]) if draw.bool() else (x.shape[1], x.shape[0], 0)
    expected = x.reshape([n or x.shape[i] for i, n in enumerate(swapped)])
    return Case((x,), lambda mb, v: mb.reshape(x=v, shape=np.array(swapped, np.int32)), (expected,))


@case("reshape_like")
def reshape_like(draw: Draw) -> Case | None:
    if draw.version < 16:
        return None
    x, a, b = draw.floats((2, 12, 5)), draw.floats((2, 3, 7)), draw.floats((9, 4, 5))

    def build(mb: Any, v: Any, w: Any, u: Any) -> Any:
        return mb.reshape_like(x=v, ref_tensors=(w, u), begins=(0, 1), ends=(2, 0), end_masks=(False, True))

    return Case((x, a, b), build, (x.reshape(2, 3, 4, 5),))


@case("transpose")
def transpose(draw: Draw) -> Case:
    x = numbers(draw, draw.shape())
    order = draw.rng.permutation(x.ndim).tolist()
    stated = [axis - x.ndim * draw.int(0, 1) for axis in order]
    return Case((x,), lambda mb, v: mb.transpose(x=v, perm=stated), (x.transpose(order),))


@case("expand_dims")
def expand_dims(draw: Draw) -> Case:
    x = numbers(draw, draw.shape(draw.int(1, 3)))
    rank = x.ndim + draw.int(1, 2)
    axes = sorted(draw.rng.permutation(rank)[: rank - x.ndim].tolist())
    sizes = iter(x.shape)
    expected = x.reshape([1 if i in axes else next(sizes) for i in range(rank)])
    stated = [axis - rank * draw.int(0, 1) for axis in axes]
    return Case((x,), lambda mb, v: mb.expand_dims(x=v, axes=stated), (expected,))


@case("squeeze")
def squeeze(draw: Draw) -> Case:
    shape = tuple(n if draw.bool() else 1 for n in draw.shape(4, 2))
    x = numbers(draw, (*shape, 3))
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    if not ones or draw.bool():
        return Case((x,), lambda mb, v: mb.squeeze(x=v), (x.squeeze(),))
    axis = draw.of(*ones)
    return Case((x,), lambda mb, v: mb.squeeze(x=v, axes=[axis - 5 * draw.int(0, 1)]), (x.squeeze(axis),))


@case("flatten2d")
def flatten2d(draw: Draw) -> Case:
    x = numbers(draw, draw.shape(draw.int(2, 5)))
    axis = draw.int(1, x.ndim - 1)
    expected = x.reshape(math.prod(x.shape[:axis]), -1)
    return Case((x,), lambda mb, v: mb.flatten2d(x=v, axis=axis), (expected,))


@case("shape")
def shape(draw: Draw) -> Case:
    x = draw.floats(draw.shape())
    return Case((x,), lambda mb, v: mb.shape(x=v), (np.array(x.shape),))


@case("reverse")
def reverse(draw: Draw) -> Case:
    x = numbers(draw, draw.shape())
    axes = draw.rng.permutation(x.ndim)[: draw.int(1, x.ndim)].tolist()
    if draw.int(0, 3) == 0:
        return Case((x,), lambda mb, v: mb.reverse(x=v), (np.flip(x),))
    return Case((x,), lambda mb, v: mb.reverse(x=v, axes=axes), (np.flip(x, axes),))


@case("reverse_sequence")
def reverse_sequence(draw: Draw) -> Case:
    x = numbers(draw, (4, 6, 3))
    seq, batch = draw.of((1, 0), (0, 1), (2, 0))
    lengths = draw.ints((x.shape[batch],), 0, x.shape[seq])
    expected = x.copy()
    for i, n in enumerate(lengths):
        row = np.take(expected, i, batch)
        inner = seq if seq < batch else seq - 1
        row = np.concatenate(
            [np.flip(row.take(range(n), inner), inner), row.take(range(n, x.shape[seq]), inner)], inner
        )
        np.moveaxis(expected, batch, 0)[i] = row
    return Case(
        (x, lengths),
        lambda mb, v, n: mb.reverse_sequence(x=v, lengths=n, seq_axis=seq, batch_axis=batch),
        (expected,),
    )


@case("pixel_shuffle", "pixel_unshuffle", "depth_to_space", "space_to_depth")
def blocks(draw: Draw) -> Case | None:
    """Entry by entry, where each one goes: f rows and columns of a block, and the order of factor and channel."""
    f, n, c, h, w = draw.int(2, 3), draw.int(1, 2), draw.int(1, 3), draw.int(1, 3), draw.int(1, 3)
    op = draw.of("pixel_shuffle", "pixel_unshuffle", "depth_to_space", "space_to_depth")
    if op == "pixel_unshuffle" and draw.version < 16:
        return None
    wide, deep = draw.floats((n, c, h * f, w * f)), np.zeros((n, c * f * f, h, w))
    for b, k, i, j, p, q in itertools.product(range(n), range(c), range(h), range(w), range(f), range(f)):
        place = (k * f + p) * f + q if op.startswith("pixel") else (p * f + q) * c + k
        deep[b, place, i, j] = wide[b, k, i * f + p, j * f + q]
    if op == "pixel_shuffle":
        return Case((deep,), lambda mb, v: mb.pixel_shuffle(x=v, upscale_factor=f), (wide,))
    if op == "depth_to_space":
        return Case((deep,), lambda mb, v: mb.depth_to_space(x=v, block_size=f), (wide,))
    if op == "space_to_depth":
        return Case((wide,), lambda mb, v: mb.space_to_depth(x=v, block_size=f), (deep,))
    return Case((wide,), lambda mb, v: mb.pixel_unshuffle(x=v, downscale_factor=np.uint32(f)), (deep,))


@case("space_to_batch", "batch_to_space")
def batches(draw: Draw) -> Case:
    a, b, n, c = draw.int(1, 3), draw.int(1, 3), draw.int(1, 2), draw.int(1, 2)
    h, w = a * draw.int(2, 3), b * draw.int(2, 3)
    pads = [[draw.int(0, 1), 0], [0, draw.int(0, 1)]]
    inner = draw.floats((n, c, h - sum(pads[0]), w - sum(pads[1])))
    padded = np.pad(inner, [(0, 0), (0, 0), *pads])
    split = np.zeros((a * b * n, c, h // a, w // b))
    for i, j, k in itertools.product(range(a), range(b), range(n)):
        split[(i * b + j) * n + k] = padded[k, :, i::a, j::b]
    if draw.bool():
        return Case(
            (inner,), lambda mb, v: mb.space_to_batch(x=v, block_shape=[a, b], paddings=np.array(pads)), (split,)
        )
    return Case((split,), lambda mb, v: mb.batch_to_space(x=v, block_shape=[a, b], crops=np.array(pads)), (inner,))


@case("concat")
def concat(draw: Draw) -> Case:
    sizes = list(draw.shape(draw.int(1, 4)))
    axis, interleave = draw.axis(len(sizes)), draw.int(0, 2) == 0
    parts = []
    for _ in range(draw.int(2, 4)):
        if not interleave:
            sizes[axis] = draw.int(1, 4)
        parts.append(draw.floats(tuple(sizes)))
    if interleave:
        where = axis % len(sizes)
        expected = np.stack(parts, where + 1).reshape(*sizes[:where], -1, *sizes[where + 1 :])
    else:
        expected = np.concatenate(parts, axis)
    return Case(tuple(parts), lambda mb, *v: mb.concat(values=v, axis=axis, interleave=interleave), (expected,))


@case("stack")
def stack(draw: Draw) -> Case:
    sizes = draw.shape(draw.int(1, 3))
    parts = tuple(draw.floats(sizes) for _ in range(draw.int(1, 3)))
    axis = draw.axis(len(sizes) + 1)
    return Case(parts, lambda mb, *v: mb.stack(values=v, axis=axis), (np.stack(parts, axis),))


@case("split")
def split(draw: Draw) -> Case:
    sizes, axis = list(draw.shape(draw.int(1, 4))), 0
    axis = draw.axis(len(sizes))
    if draw.bool():
        parts = draw.int(2, 3)
        sizes[axis] = parts * draw.int(1, 3)
        x = numbers(draw, tuple(sizes))
        return Case(
            (x,), lambda mb, v: mb.split(x=v, num_splits=parts, axis=axis), tuple(np.split(x, parts, axis))
        )
    lengths = [draw.int(1, 3) for _ in range(draw.int(2, 3))]
    sizes[axis] = sum(lengths)
    x = numbers(draw, tuple(sizes))
    expected = np.split(x, np.cumsum(lengths)[:-1], axis)
    return Case((x,), lambda mb, v: mb.split(x=v, split_sizes=lengths, axis=axis), tuple(expected))


@case("tile")
def tile(draw: Draw) -> Case:
    x = numbers(draw, draw.shape(draw.int(1, 4), high=3))
    reps = [draw.int(1, 3) for _ in range(x.ndim)]
    return Case((x,), lambda mb, v: mb.tile(x=v, reps=np.array(reps, np.int32)), (np.tile(x, reps),))


@case("pad")
def pad(draw: Draw) -> Case:
    x, mode = draw.floats(draw.shape(4, 2, 5)), draw.of("constant", "reflect", "replicate")
    axes = draw.int(1, 4) if mode == "constant" else draw.int(1, 2)
    pads = [(draw.int(0, 1), draw.int(0, 1)) for _ in range(axes)]
    full = [(0, 0)] * (4 - axes) + pads
    value = draw.number() if mode == "constant" else 0.0
    extra = {"constant_values": value} if mode == "constant" else {}
    expected = np.pad(x, full, {"replicate": "edge"}.get(mode, mode), **extra)
    flat = np.array(pads, np.int32).reshape(-1)
    return Case((x,), lambda mb, v: mb.pad(x=v, pad=flat, mode=mode, constant_val=draw.const(value)), (expected,))


@case("fill_like")
def fill_like(draw: Draw) -> Case | None:
    if draw.version < 16:
        return None
    x, value = draw.floats(draw.shape()), draw.number()
    expected = np.full(x.shape, value)
    return Case((x,), lambda mb, v: mb.fill_like(ref_tensor=v, value=draw.const(value)), (expected,))


@case("fill")
def fill(draw: Draw) -> Case:
    """In the shape of another tensor, since coremltools works out constant ones itself."""
    x, value = draw.floats((2, 3)), draw.number()
    sizes = draw.ints((2,), 1, 4)
    return Case(
        (x, sizes),
        lambda mb, v, s: mb.fill(shape=s, value=draw.const(value)),
        (np.full(sizes, value),),
        repeats=True,
    )


@case("range_1d")
def range_1d(draw: Draw) -> Case:
    start, step = draw.ints((), -5, 5), draw.ints((), 1, 3) * draw.of(1, -1)
    end = start + step * draw.int(0, 6) + np.sign(step) * draw.int(1, 2)
    bounds = [np.array(n, np.int32) for n in (start, end, step)]
    return Case(
        tuple(bounds), lambda mb, s, e, t: mb.range_1d(start=s, end=e, step=t), (np.arange(*bounds),), repeats=True
    )


@case("one_hot")
def one_hot(draw: Draw) -> Case:
    size = draw.int(2, 5)
    indices = draw.ints(draw.shape(draw.int(1, 2)), 0, size - 1)
    axis, on, off = draw.int(-indices.ndim - 1, indices.ndim), draw.number(), draw.number()
    expected = np.moveaxis(np.where(np.eye(size)[indices] == 1, on, off), -1, axis)

    def build(mb: Any, v: Any) -> Any:
        return mb.one_hot(
            indices=v, one_hot_vector_size=size, axis=axis, on_value=draw.const(on), off_value=draw.const(off)
        )

    return Case((indices,), build, (expected,))


@case("band_part")
def band_part(draw: Draw) -> Case:
    x, lower, upper = draw.floats(draw.shape(draw.int(2, 4), 2, 6)), draw.int(-1, 3), draw.int(-1, 3)
    expected = x.copy()
    for m, n in itertools.product(range(x.shape[-2]), range(x.shape[-1])):
        if (0 <= lower < m - n) or (0 <= upper < n - m):
            expected[..., m, n] = 0
    return Case((x,), lambda mb, v: mb.band_part(x=v, lower=lower, upper=upper), (expected,))


def bounds(draw: Draw, sizes: tuple[int, ...]) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Parameters of slice_by_index, and the same as Python slices; no axis comes out empty."""
    stated: dict[str, list[Any]] = {key: [] for key in ("begin", "end", "stride", "begin_mask", "end_mask")}
    squeeze, python = [], []
    for n in sizes:
        stride, first = draw.of(1, 1, 2, -1), draw.int(0, n - 1)
        count = draw.int(1, (n - 1 - first) // stride + 1) if stride > 0 else first + 1
        last = first + stride * count
        masks = draw.int(0, 3) == 0, draw.int(0, 3) == 0 or last < 0
        cut = draw.int(0, 4) == 0
        stated["begin"].append(first - n if draw.bool() else first)
        stated["end"].append(0 if last < 0 else last)
        stated["stride"].append(1 if cut else stride)
        stated["begin_mask"].append(masks[0] and not cut)
        stated["end_mask"].append(masks[1] and not cut)
        squeeze.append(cut)
        part = slice(None if masks[0] else first, None if masks[1] else last, stride)
        python.append(first if cut else part)
    if all(squeeze):
        squeeze[0], python[0] = False, slice(None)
        stated["begin_mask"][0] = stated["end_mask"][0] = True
    parameters = {
        key: np.array(value, bool if key.endswith("mask") else np.int32) for key, value in stated.items()
    }
    return parameters | {"squeeze_mask": np.array(squeeze)}, tuple(python)


@case("slice_by_index", "slice_by_index")
def slice_by_index(draw: Draw) -> Case:
    x = numbers(draw, draw.shape(draw.int(1, 4), 2, 6))
    parameters, python = bounds(draw, x.shape)
    return Case((x,), lambda mb, v: mb.slice_by_index(x=v, **parameters), (x[python],))


@case("slice_update")
def slice_update(draw: Draw) -> Case | None:
    if draw.version < 18:
        return None
    x = draw.floats(draw.shape(draw.int(1, 4), 2, 6))
    parameters, python = bounds(draw, x.shape)
    update = draw.floats(x[python].shape)
    expected = x.copy()
    expected[python] = update
    return Case((x, update), lambda mb, v, u: mb.slice_update(x=v, update=u, **parameters), (expected,))


@case("slice_by_size")
def slice_by_size(draw: Draw) -> Case:
    x = numbers(draw, draw.shape(draw.int(1, 4), 2, 6))
    begin = [draw.int(0, n - 1) for n in x.shape]
    size = [draw.of(-1, draw.int(1, n - b)) for n, b in zip(x.shape, begin, strict=True)]
    python = tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin, size, strict=True))
    return Case(
        (x,), lambda mb, v: mb.slice_by_size(x=v, begin=np.array(begin), size=np.array(size)), (x[python],)
    )


@case("crop")
def crop(draw: Draw) -> Case:
    x = draw.floats(draw.shape(4, 4, 6))
    (a, b), (c, d) = ((draw.int(0, 1), draw.int(0, 2)) for _ in range(2))
    expected = x[:, :, a : x.shape[2] - b, c : x.shape[3] - d]
    return Case((x,), lambda mb, v: mb.crop(x=v, crop_height=[a, b], crop_width=[c, d]), (expected,))


@case("sliding_windows")
def sliding_windows(draw: Draw) -> Case:
    x = draw.floats(draw.shape(draw.int(1, 3), 3, 6))
    axis, size, stride = draw.axis(x.ndim), draw.int(1, 3), draw.int(1, 2)
    starts = range(0, x.shape[axis] - size + 1, stride)
    where = axis % x.ndim
    expected = np.stack([x.take(range(s, s + size), where) for s in starts], where)
    return Case((x,), lambda mb, v: mb.sliding_windows(x=v, axis=axis, size=size, stride=stride), (expected,))
