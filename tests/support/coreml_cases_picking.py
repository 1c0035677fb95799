"""Cases of operations that pick by index, scatter, sort and reduce."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from coreml_fuzz import Case, Draw, Maker, case

Combine = Callable[[float, float], float]

COMBINE: dict[str, Combine] = {
    "update": lambda old, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new,
    "max": max,
    "min": min,
}

REDUCE: dict[str, Any] = {
    "reduce_sum": np.sum,
    "reduce_mean": np.mean,
    "reduce_prod": np.prod,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_l1_norm": lambda x, **how: np.abs(x).sum(**how),
    "reduce_l2_norm": lambda x, **how: np.sqrt((x * x).sum(**how)),
    "reduce_sum_square": lambda x, **how: (x * x).sum(**how),
    "reduce_log_sum": lambda x, **how: np.log(x.sum(**how)),
    "reduce_log_sum_exp": lambda x, **how: np.log(np.exp(x).sum(**how)),
}


def places(draw: Draw, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Indices of an axis; negative ones where the operation set defines them."""
    return draw.ints(shape, -size if draw.version < 17 else 0, size - 1)


@case("gather")
def gather(draw: Draw) -> Case:
    x = draw.floats(draw.shape(draw.int(1, 4)))
    axis = draw.axis(x.ndim)
    indices = places(draw, draw.shape(draw.int(0, 2)), x.shape[axis])
    expected = x.take(indices, axis)
    if draw.bool() and indices.ndim:
        return Case((x,), lambda mb, v: mb.gather(x=v, indices=indices, axis=axis), (expected,))
    return Case((x, indices), lambda mb, v, i: mb.gather(x=v, indices=i, axis=axis), (expected,))


@case("gather")
def gather_batched(draw: Draw) -> Case | None:
    if draw.version < 16:
        return None
    lead = draw.shape(draw.int(1, 2))
    x = draw.floats(lead + draw.shape(draw.int(1, 2)))
    axis = draw.int(len(lead), x.ndim - 1)
    indices = places(draw, lead + draw.shape(draw.int(0, 2)), x.shape[axis])
    rows = [x[place].take(indices[place], axis - len(lead)) for place in np.ndindex(*lead)]
    expected = np.stack(rows).reshape(*x.shape[:axis], *indices.shape[len(lead) :], *x.shape[axis + 1 :])
    return Case(
        (x, indices), lambda mb, v, i: mb.gather(x=v, indices=i, axis=axis, batch_dims=len(lead)), (expected,)
    )


@case("gather_along_axis")
def gather_along_axis(draw: Draw) -> Case:
    x = draw.floats(draw.shape(draw.int(1, 4)))
    axis = draw.axis(x.ndim)
    sizes = list(x.shape)
    sizes[axis] = draw.int(1, 4)
    indices = places(draw, tuple(sizes), x.shape[axis])
    expected = np.take_along_axis(x, indices, axis)
    return Case((x, indices), lambda mb, v, i: mb.gather_along_axis(x=v, indices=i, axis=axis), (expected,))


def positions(draw: Draw, sizes: tuple[int, ...], lead: tuple[int, ...]) -> np.ndarray:
    """(*lead, D): one index per axis."""
    return np.stack([draw.ints(lead, 0, n - 1) for n in sizes], -1)


@case("gather_nd")
def gather_nd(draw: Draw) -> Case:
    x = draw.floats(draw.shape(draw.int(1, 4)))
    depth = draw.int(1, x.ndim)
    indices = positions(draw, x.shape[:depth], draw.shape(draw.int(1, 2)))
    expected = x[tuple(np.moveaxis(indices, -1, 0))]
    return Case((x, indices), lambda mb, v, i: mb.gather_nd(x=v, indices=i), (expected,), repeats=True)


@case("gather_nd")
def gather_nd_batched(draw: Draw) -> Case | None:
    if draw.version < 16:
        return None
    lead = draw.shape(1)
    x = draw.floats(lead + draw.shape(draw.int(1, 3)))
    depth = draw.int(1, x.ndim - 1)
    indices = positions(draw, x.shape[1 : 1 + depth], lead + draw.shape(1))
    expected = np.stack([row[tuple(np.moveaxis(one, -1, 0))] for row, one in zip(x, indices, strict=True)])
    return Case(
        (x, indices), lambda mb, v, i: mb.gather_nd(x=v, indices=i, batch_dims=1), (expected,), repeats=True
    )


@case("scatter")
def scatter(draw: Draw) -> Case:
    data = draw.floats(draw.shape(draw.int(1, 3), 2, 5))
    axis, mode = draw.axis(data.ndim), draw.of(*COMBINE)
    count = draw.int(1, data.shape[axis])
    indices = draw.rng.permutation(data.shape[axis])[:count].astype(np.int32)
    if mode not in ("update", "div"):  # elsewhere the order of equal indices does not matter
        indices[0] = indices[-1]
    sizes = list(data.shape)
    sizes[axis] = count
    updates = draw.floats(tuple(sizes), 0.5, 4)
    expected = np.moveaxis(data.copy(), axis, 0)
    for i, place in enumerate(indices):
        rows = expected[place], np.moveaxis(updates, axis, 0)[i]
        expected[place] = np.vectorize(COMBINE[mode], otypes=[np.float64])(*rows)
    return Case(
        (data, indices, updates),
        lambda mb, d, i, u: mb.scatter(data=d, indices=i, updates=u, axis=axis, mode=mode),
        (np.moveaxis(expected, 0, axis),),
    )


@case("scatter_along_axis")
def scatter_along_axis(draw: Draw) -> Case:
    data = draw.floats(draw.shape(draw.int(1, 3), 2, 5))
    axis, mode = draw.axis(data.ndim), draw.of(*COMBINE)
    indices = draw.rng.permuted(np.indices(data.shape)[axis], axis=axis).astype(np.int32)
    updates = draw.floats(data.shape, 0.5, 4)
    expected = data.copy()
    for place in np.ndindex(*data.shape):
        target = list(place)
        target[axis] = indices[place]
        expected[tuple(target)] = COMBINE[mode](expected[tuple(target)], updates[place])
    return Case(
        (data, indices, updates),
        lambda mb, d, i, u: mb.scatter_along_axis(data=d, indices=i, updates=u, axis=axis, mode=mode),
        (expected,),
    )


@case("scatter_nd")
def scatter_nd(draw: Draw) -> Case:
    data, mode = draw.floats(draw.shape(draw.int(1, 3), 2, 4)), draw.of(*COMBINE)
    depth = draw.int(1, data.ndim)
    every = list(itertools.product(*(range(n) for n in data.shape[:depth])))
    chosen = draw.rng.permutation(len(every))[: draw.int(1, len(every))]
    indices = np.array([every[i] for i in chosen], np.int32)
    updates = draw.floats((len(indices), *data.shape[depth:]), 0.5, 4)
    expected = data.copy()
    for place, update in zip(indices, updates, strict=True):
        old = expected[tuple(place)]
        expected[tuple(place)] = np.vectorize(COMBINE[mode], otypes=[np.float64])(old, update)
    return Case(
        (data, indices, updates),
        lambda mb, d, i, u: mb.scatter_nd(data=d, indices=i, updates=u, mode=mode),
        (expected,),
        repeats=True,
    )


@case("non_zero")
def non_zero(draw: Draw) -> Case:
    x = draw.ints(draw.shape(draw.int(1, 3)), -1, 1).astype(np.float64)
    x.flat[0] = 1
    return Case((x,), lambda mb, v: mb.non_zero(x=v), (np.argwhere(x),), repeats=True)


def distinct(draw: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """No two entries alike, so that their order is certain."""
    return draw.rng.permutation(int(np.prod(shape))).reshape(shape) / 8 - 4


@case("reduce_argmax", "reduce_argmin")
def reduce_arg(draw: Draw) -> Case:
    x = distinct(draw, draw.shape())
    axis, keep, op = draw.axis(x.ndim), draw.bool(), draw.of("reduce_argmax", "reduce_argmin")
    find = np.argmax if op == "reduce_argmax" else np.argmin
    kind = {"output_dtype": draw.of("int32", "uint16")} if draw.version >= 17 else {}
    expected = find(x, axis, keepdims=keep)
    return Case((x,), lambda mb, v: getattr(mb, op)(x=v, axis=axis, keep_dims=keep, **kind), (expected,))


@case("argsort")
def argsort(draw: Draw) -> Case:
    x = distinct(draw, draw.shape())
    axis, ascending = draw.axis(x.ndim), draw.bool()
    expected = np.argsort(x if ascending else -x, axis)
    return Case((x,), lambda mb, v: mb.argsort(x=v, axis=axis, ascending=ascending), (expected,))


@case("topk")
def topk(draw: Draw) -> Case:
    x = distinct(draw, draw.shape(draw.int(1, 3), 2, 5))
    axis, ascending = draw.axis(x.ndim), draw.bool()
    k = draw.int(1, x.shape[axis])
    order = np.argsort(x if ascending else -x, axis).take(range(k), axis)
    values = np.take_along_axis(x, order, axis)
    extra: dict[str, Any] = {}
    if draw.version >= 17 and draw.bool():
        extra["output_indices_dtype"] = "uint16"
    elif draw.version >= 16 and draw.bool():
        extra["return_indices"] = False
    expected = (values,) if "return_indices" in extra else (values, order)
    return Case((x,), lambda mb, v: mb.topk(x=v, k=k, axis=axis, ascending=ascending, **extra), expected)


@case("cumsum")
def cumsum(draw: Draw) -> Case:
    x = draw.floats(draw.shape())
    axis, exclusive, reverse = draw.int(0, x.ndim - 1), draw.bool(), draw.bool()
    lines = np.moveaxis(x, axis, 0)
    expected = np.zeros_like(x)
    for i in range(len(lines)):
        part = lines[i + exclusive :] if reverse else lines[: i + 1 - exclusive]
        np.moveaxis(expected, axis, 0)[i] = part.sum(0)
    return Case((x,), lambda mb, v: mb.cumsum(x=v, axis=axis, exclusive=exclusive, reverse=reverse), (expected,))


def _reduction(op: str) -> Maker:
    def make(draw: Draw) -> Case:
        low = 0.25 if op == "reduce_log_sum" else -2
        x = draw.floats(draw.shape(high=4), low, 2)
        keep = draw.bool()
        if draw.int(0, 3) == 0:
            expected = REDUCE[op](x, axis=None, keepdims=keep)
            return Case((x,), lambda mb, v: getattr(mb, op)(x=v, keep_dims=keep), (expected,))
        axes = draw.rng.permutation(x.ndim)[: draw.int(1, x.ndim)].tolist()
        stated = [axis - x.ndim * draw.int(0, 1) for axis in axes]
        expected = REDUCE[op](x, axis=tuple(axes), keepdims=keep)
        return Case((x,), lambda mb, v: getattr(mb, op)(x=v, axes=stated, keep_dims=keep), (expected,))

    return make


def _register() -> None:
    for op in REDUCE:
        case(op)(_reduction(op))


_register()
