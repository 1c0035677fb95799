"""Reductions, sums along an axis, sorting.

Source: coremltools' definitions ``reduction`` and ``tensor_operation`` (iOS 15 to 17).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Batching, Call, op, positive

_Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


_REDUCTIONS: dict[str, _Reduce] = {
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "reduce_prod": _product,
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
}
_EXTREMES: dict[str, _Reduce] = {
    "reduce_max": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keepdim=keep),
}


def _register() -> None:
    for table, moves in ((_REDUCTIONS, False), (_EXTREMES, True)):
        for name, reduce in table.items():
            op(name, parameters="x axes keep_dims", moves=moves)(_over_axes(reduce))


def _over_axes(reduce: _Reduce) -> Callable[[Call], Tensor]:
    def apply(call: Call) -> Tensor:
        x = call.tensor("x")
        axes = [positive(axis, x.ndim) for axis in call.ints("axes", list(range(x.ndim)))]
        if not axes:
            return x
        return reduce(x, axes, call.flag("keep_dims", False))

    return apply


_register()


@op("reduce_argmax", "reduce_argmin", parameters="x axis keep_dims output_dtype", moves=True)
def reduce_arg(call: Call) -> Tensor:
    """Where the largest or smallest entry is; the first of equal ones (MIL leaves that open)."""
    x = call.tensor("x")
    find = torch.argmax if call.operation.type == "reduce_argmax" else torch.argmin
    return find(x, call.integer("axis", -1), keepdim=call.flag("keep_dims", False)).to(torch.int32)


@op("cumsum", parameters="x axis exclusive reverse")
def cumsum(call: Call) -> Tensor:
    """Running sum along an axis, from either end, each entry's own value in it or not."""
    x = call.tensor("x")
    axis = positive(call.integer("axis", 0), x.ndim)
    reverse = call.flag("reverse", False)
    values = x.flip(axis) if reverse else x
    sums = values.cumsum(axis, dtype=x.dtype)
    if call.flag("exclusive", False):
        sums = torch.cat(
            [torch.zeros_like(sums.narrow(axis, 0, 1)), sums.narrow(axis, 0, x.shape[axis] - 1)], axis
        )
    return sums.flip(axis) if reverse else sums


@op("argsort", parameters="x axis ascending output_dtype", moves=True)
def argsort(call: Call) -> Tensor:
    """Order of the entries along an axis, the largest first unless ascending."""
    x = call.tensor("x")
    _, order = torch.sort(
        x, dim=call.integer("axis", -1), descending=not call.flag("ascending", False), stable=True
    )
    return order.to(torch.int32)


@op("topk", parameters="x k axis ascending sort return_indices output_indices_dtype", moves=True)
def topk(call: Call) -> tuple[Tensor, ...]:
    """The k largest (or smallest) entries along an axis, and where they are."""
    x = call.tensor("x")
    axis, ascending = positive(call.integer("axis", -1), x.ndim), call.flag("ascending", False)
    values, places = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    k = call.integer("k", 1) if call.integer("k", 1) >= 0 else x.shape[axis]
    picked = values.narrow(axis, 0, k), places.narrow(axis, 0, k).to(torch.int32)
    return picked if call.flag("return_indices", True) else picked[:1]


@op("non_zero", parameters="x", batching=Batching.LOOP, moves=True)
def non_zero(call: Call) -> Tensor:
    """Indices of the entries that are not 0: (N, rank)."""
    return torch.nonzero(call.tensor("x")).to(torch.int32)
