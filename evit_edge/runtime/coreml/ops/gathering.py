"""Gathering and scattering. Source: coremltools' definitions ``scatter_gather`` (iOS 15 to 17).

Negative indices count from the end. iOS 17 leaves them undefined; counting from the end is what iOS 15 and 16
define. An index out of range stops the evaluation: the definitions leave the result open.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Call, index, op, positive

_MODES = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
_ALL_MODES = ("update", "add", "sub", "mul", "div", "max", "min")


@op("gather", parameters="x indices axis batch_dims validate_indices", moves=True)
def gather(call: Call) -> Tensor:
    """Slices along an axis; the first ``batch_dims`` axes of data and indices go together."""
    x, indices = call.tensor("x"), index(call.tensor("indices"))
    axis, batch = positive(call.integer("axis", 0), x.ndim), call.integer("batch_dims", 0)
    if batch < 0:
        batch += indices.ndim
    places = _wrapped(indices, x.shape[axis])
    if batch == 0:
        picked = x.index_select(axis, places.reshape(-1))
        return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])
    lead = math.prod(x.shape[:batch])
    rows = x.reshape(lead, *x.shape[batch:])
    axis_in_row = axis - batch
    wanted = places.reshape(lead, -1)  # (lead, K)
    picked = torch.stack([row.index_select(axis_in_row, one) for row, one in zip(rows, wanted, strict=True)])
    return picked.reshape([*x.shape[:axis], *indices.shape[batch:], *x.shape[axis + 1 :]])


@op("gather_along_axis", parameters="x indices axis validate_indices", moves=True)
def gather_along_axis(call: Call) -> Tensor:
    """Per entry of the result, the entry of its own row that the index names."""
    x = call.tensor("x")
    axis = positive(call.integer("axis", 0), x.ndim)
    return x.gather(axis, _wrapped(index(call.tensor("indices")), x.shape[axis]))


@op("gather_nd", parameters="x indices batch_dims validate_indices", moves=True)
def gather_nd(call: Call) -> Tensor:
    """Slices at positions; a position is the last axis of the indices."""
    x, indices = call.tensor("x"), index(call.tensor("indices"))
    batch, depth = call.integer("batch_dims", 0), indices.shape[-1]
    lead, sizes = x.shape[:batch], x.shape[batch : batch + depth]
    rows = x.reshape(math.prod(lead), math.prod(sizes), -1)  # (lead, positions, slice)
    flat = _flat_positions(indices, sizes).reshape(math.prod(lead), -1)  # (lead, K)
    picked = rows.gather(1, flat.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
    return picked.reshape([*indices.shape[:-1], *x.shape[batch + depth :]])


@op("scatter", parameters="data indices updates axis mode validate_indices")
def scatter(call: Call) -> Tensor:
    """Slices of ``data`` along an axis set to, or combined with, those of ``updates``."""
    data, updates = call.tensor("data"), call.tensor("updates")
    axis = positive(call.integer("axis", 0), data.ndim)
    places = _wrapped(index(call.tensor("indices")), data.shape[axis])
    places = places.reshape([-1 if i == axis else 1 for i in range(data.ndim)]).expand(updates.shape)
    return _combined(call, data, axis, places, updates)


@op("scatter_along_axis", parameters="data indices updates axis mode validate_indices")
def scatter_along_axis(call: Call) -> Tensor:
    """Entries of ``data`` set to, or combined with, those of ``updates``, each within its own row."""
    data = call.tensor("data")
    axis = positive(call.integer("axis", 0), data.ndim)
    places = _wrapped(index(call.tensor("indices")), data.shape[axis])
    return _combined(call, data, axis, places, call.tensor("updates"))


@op("scatter_nd", parameters="data indices updates mode validate_indices")
def scatter_nd(call: Call) -> Tensor:
    """Slices at positions set to, or combined with, those of ``updates``."""
    data, indices = call.tensor("data"), index(call.tensor("indices"))
    depth = indices.shape[-1]
    rows = data.reshape(math.prod(data.shape[:depth]), -1)  # (positions, slice)
    flat = _flat_positions(indices, data.shape[:depth]).reshape(-1, 1).expand(-1, rows.shape[1])
    updates = call.tensor("updates").reshape(flat.shape)
    return _combined(call, rows, 0, flat, updates).reshape(data.shape)


def _combined(call: Call, data: Tensor, axis: int, places: Tensor, updates: Tensor) -> Tensor:
    mode = call.choice("mode", _ALL_MODES, "add")
    if mode == "update":
        return data.scatter(axis, places, updates)
    if mode in ("sub", "div"):
        mode, updates = ("add", -updates) if mode == "sub" else ("mul", updates.reciprocal())
    return data.scatter_reduce(axis, places, updates, _MODES[mode], include_self=True)


def _wrapped(indices: Tensor, size: int) -> Tensor:
    return torch.where(indices < 0, indices + size, indices)


def _flat_positions(indices: Tensor, sizes: torch.Size) -> Tensor:
    """Positions (..., D) as row numbers of the D axes laid flat."""
    flat = torch.zeros_like(indices[..., 0])
    for i, size in enumerate(sizes):
        flat = flat * size + _wrapped(indices[..., i], size)
    return flat
