"""Compressed constants: affine, blockwise, palettes, sparse, and combinations of them.

All arithmetic is float64 and exact for what the encodings can hold, so that rounding to the declared type happens
once, where a reader wants it. Source: coremltools' definitions ``constexpr_ops`` (iOS 16) and ``compression``
(iOS 18).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml.elements import Array, Element, decode, packed_size
from evit_edge.runtime.coreml.program import Literal, Operation, TensorType

Float64Array = npt.NDArray[np.float64]


class Encoding(StrEnum):
    """How a weight is stored; of a combination the last step."""

    RAW = "raw"
    AFFINE = "affine"
    BLOCKWISE = "blockwise"
    PALETTE = "palette"
    SPARSE = "sparse"
    CAST = "cast"


@dataclass(frozen=True)
class Constant:
    """A constant value of a program.

    Attributes:
        value: Decoded numbers are float64; raw ones have their own type; strings are objects.
        element: Declared type.
        encoding: How it is stored.
        half_step: As in :class:`DecodedWeight`.
    """

    value: Array
    element: Element
    encoding: Encoding = Encoding.RAW
    half_step: Float64Array = field(default_factory=lambda: np.zeros(()))


def decode_constexpr(operation: Operation, known: Mapping[str, Constant]) -> dict[str, Constant]:
    """Outputs of a ``constexpr_`` operation by name.

    Args:
        operation: The operation.
        known: Constants decoded before it.

    Raises:
        ArtefactError: The encoding is unknown or contradicts itself; the message names the operation.
    """
    decoder = DECODERS.get(operation.type)
    if decoder is None:
        raise ArtefactError(f"the encoding {operation.title} is unknown; {', '.join(DECODERS)} are supported")
    try:
        constants = decoder(_Encoded(operation, known))
    except (ValueError, IndexError, TypeError, OverflowError) as exc:
        raise ArtefactError(f"the weight {operation.title} cannot be decoded: {exc}") from exc
    for constant, output in zip(constants, operation.outputs, strict=True):
        declared = output.type
        if not isinstance(declared, TensorType) or constant.value.shape != declared.shape:
            raise ArtefactError(
                f"the weight {operation.title} decodes to {constant.value.shape}, declared {declared}"
            )
    return {output.name: constant for output, constant in zip(operation.outputs, constants, strict=True)}


@dataclass(frozen=True)
class _Encoded:
    """A ``constexpr_`` operation; iOS 16 keeps its parameters as attributes, iOS 18 as inputs."""

    operation: Operation
    known: Mapping[str, Constant]

    def constant(self, key: str) -> Constant:
        found = self.optional(key)
        if found is None:
            raise ValueError(f"it lacks {key!r}")
        return found

    def optional(self, key: str) -> Constant | None:
        bindings = self.operation.inputs.get(key, ())
        bound = bindings[0] if len(bindings) == 1 else self.operation.attributes.get(key)
        if isinstance(bound, str):
            return self.known.get(bound)
        if isinstance(bound, Literal) and bound.array is not None and isinstance(bound.type, TensorType):
            return Constant(bound.array, bound.type.element)
        return None

    def array(self, key: str) -> Any:
        return self.constant(key).value

    @property
    def element(self) -> Element:
        declared = self.operation.outputs[-1].type
        if not isinstance(declared, TensorType):
            raise ValueError("its output is no tensor")
        return declared.element


def _affine(encoded: _Encoded) -> tuple[Constant, ...]:
    data = encoded.array("quantized_data").astype(np.float64)
    axis = int(encoded.array("axis"))
    scale, zero_point = (
        _along(encoded.array(key).astype(np.float64), axis, data) for key in ("scale", "zero_point")
    )
    return (Constant(scale * (data - zero_point), encoded.element, Encoding.AFFINE, np.abs(scale) / 2),)


def _along(values: Any, axis: int, data: Any) -> Any:
    """A scalar or one value per entry of an axis, shaped to go with the data."""
    if values.ndim == 0:
        return values
    if values.ndim != 1 or values.size != data.shape[axis]:
        raise ValueError(f"{values.shape} values do not fit axis {axis} of {data.shape}")
    return values.reshape([-1 if i == axis % data.ndim else 1 for i in range(data.ndim)])


def _blockwise(encoded: _Encoded) -> tuple[Constant, ...]:
    data = encoded.constant("data")
    value, step = _shift_scale(encoded, data.value, data.half_step, data.encoding)
    return (Constant(value, encoded.element, Encoding.BLOCKWISE, step),)


def _shift_scale(encoded: _Encoded, data: Array, inner: Float64Array, encoding: Encoding) -> tuple[Any, Any]:
    scale = _blocks(encoded.array("scale").astype(np.float64), data.shape)
    offset = encoded.optional("offset")
    shifted = data.astype(np.float64)
    if offset is not None:
        shifted = shifted - _blocks(offset.value.astype(np.float64), data.shape)
    # Data that are levels of another encoding bring their own half step; whole numbers have one of a half.
    half = 0.5 if encoding is Encoding.RAW else inner
    return scale * shifted, np.abs(scale) * half


def _blocks(values: Any, shape: tuple[int, ...]) -> Any:
    """Each value repeated over its block, to ``shape``."""
    if (
        values.ndim != len(shape)
        or any(n % m for n, m in zip(shape, values.shape, strict=True) if m)
        or 0 in values.shape
    ):
        raise ValueError(f"{values.shape} blocks do not divide {shape}")
    for axis, (n, m) in enumerate(zip(shape, values.shape, strict=True)):
        values = np.repeat(values, n // m, axis) if m not in (1, n) else values
    return values


def _palette(encoded: _Encoded) -> tuple[Constant, ...]:
    table = encoded.constant("lut")
    if encoded.optional("shape") is not None:
        shape = tuple(int(n) for n in encoded.array("shape"))
        entries = table.value.reshape((1,) * len(shape) + (-1, 1))
        indices = _packed_indices(encoded.array("indices"), table.value.size, shape)
        value, step = _looked_up(indices, entries, None)
    else:
        axis = encoded.optional("vector_axis")
        value, step = _looked_up(
            encoded.array("indices"), table.value, None if axis is None else int(axis.value.item())
        )
    return (Constant(value, encoded.element, Encoding.PALETTE, step),)


def _packed_indices(raw: Any, entries: int, shape: tuple[int, ...]) -> Array:
    """IOS 16's bytes as whole numbers of as many bits as the table needs."""
    bits = entries.bit_length() - 1
    elements = {element.bits: element for element in Element if element.name.startswith("UINT")}
    if entries != 1 << bits or bits not in elements or bits > 8:
        raise ValueError(f"its table has {entries} entries; a power of two from 2 to 256 is needed")
    count = int(np.prod(shape, dtype=object))
    if raw.size != packed_size(elements[bits], count):
        raise ValueError(f"it has {raw.size} bytes of indices; {count} of {bits} bits take another number")
    return decode(raw.tobytes(), elements[bits], count).reshape(shape)


def _looked_up(indices: Any, table: Any, vector_axis: int | None) -> tuple[Any, Any]:
    """Values and half steps.

    Args:
        indices: Whole numbers of any shape, K axes.
        table: (..., entries, vector size): its first K axes say which part of the indices each table serves.
        vector_axis: Along which axis the entries of a vector are laid out; None for vectors of one.
    """
    entries, size = table.shape[-2:]
    if table.ndim != indices.ndim + 2 or (indices.size and int(indices.max()) >= entries):
        raise ValueError(f"its indices {indices.shape} do not fit its table {table.shape}")
    if size > 1 and vector_axis is None:
        raise ValueError("its table holds vectors and no vector_axis says how they lie")
    groups = table.shape[:-2]
    number = _blocks(np.arange(int(np.prod(groups))).reshape(groups), indices.shape)
    flat = table.reshape(-1, entries, size).astype(np.float64)
    number, indices = np.broadcast_arrays(number, indices)
    value, step = (flat_table[number, indices] for flat_table in (flat, _half_gaps(flat)))  # (..., size)
    if size == 1:
        return value[..., 0], step[..., 0]
    return _laid_out(value, int(vector_axis or 0)), _laid_out(step, int(vector_axis or 0))


def _laid_out(value: Any, axis: int) -> Any:
    """(..., size) with the vectors laid out along an axis."""
    rank = value.ndim - 1
    moved = np.moveaxis(value, -1, axis % rank + 1)
    shape = list(value.shape[:-1])
    shape[axis % rank] *= value.shape[-1]
    return moved.reshape(shape)


def _half_gaps(tables: Float64Array) -> Float64Array:
    """Half the larger gap from each entry to its neighbours; for vectors half the table's extent.

    Args:
        tables: (T, entries, size).
    """
    if tables.shape[-1] > 1:
        extent = tables.max(1, keepdims=True) - tables.min(1, keepdims=True)
        return np.broadcast_to(extent / 2, tables.shape)
    halves = np.empty_like(tables)
    for number, table in enumerate(tables[..., 0]):
        levels, places = np.unique(table, return_inverse=True)
        gaps = np.diff(levels)
        wider = np.maximum(np.append(gaps, 0.0), np.insert(gaps, 0, 0.0)) if gaps.size else np.zeros(levels.size)
        halves[number, :, 0] = wider[places] / 2
    return halves


def _sparse(encoded: _Encoded) -> tuple[Constant, ...]:
    kept = encoded.constant("nonzero_data")
    if encoded.optional("shape") is not None:
        shape = tuple(int(n) for n in encoded.array("shape"))
        count = int(np.prod(shape, dtype=object))
        raw = encoded.array("mask")
        if raw.size != packed_size(Element.UINT1, count):
            raise ValueError(f"its mask has {raw.size} bytes; {count} bits take another number")
        mask = decode(raw.tobytes(), Element.UINT1, count).reshape(shape)
    else:
        mask = encoded.array("mask")
    value = _dense(kept.value, mask)
    left_out = np.abs(kept.value[kept.value != 0].astype(np.float64)).min(initial=np.inf)
    step = np.where(mask != 0, _dense(np.broadcast_to(kept.half_step, kept.value.shape), mask), left_out)
    return (Constant(value, encoded.element, Encoding.SPARSE, np.where(np.isinf(step), 0.0, step)),)


def _dense(kept: Any, mask: Any) -> Any:
    if kept.ndim != 1 or kept.size != np.count_nonzero(mask):
        raise ValueError(f"it keeps {kept.size} values and its mask has {np.count_nonzero(mask)} places")
    dense = np.zeros(mask.shape, kept.dtype)
    dense[mask != 0] = kept
    return dense


def _sparse_palette(encoded: _Encoded) -> tuple[Constant, ...]:
    mask = encoded.array("indices_mask")
    axis = encoded.optional("vector_axis")
    place = None if axis is None else int(axis.value.item())
    table = encoded.array("lut")
    value, step = _looked_up(_dense(encoded.array("indices_nonzero_data"), mask), table, place)
    wide = mask if place is None else np.repeat(mask, table.shape[-1], place)
    kept = Constant(value[wide != 0], encoded.element, Encoding.PALETTE, step[wide != 0])
    return Constant(wide, Element.UINT1), kept


def _sparse_blockwise(encoded: _Encoded) -> tuple[Constant, ...]:
    mask, data = encoded.array("data_mask"), encoded.constant("nonzero_data")
    inner = _dense(np.broadcast_to(data.half_step, data.value.shape), mask)
    value, step = _shift_scale(encoded, _dense(data.value, mask), inner, data.encoding)
    step = np.broadcast_to(step, value.shape)
    kept = Constant(value[mask != 0], encoded.element, Encoding.BLOCKWISE, step[mask != 0])
    return Constant(mask, Element.UINT1), kept


def _cast(encoded: _Encoded) -> tuple[Constant, ...]:
    source = encoded.constant("source_val")
    return (Constant(source.value, encoded.element, Encoding.CAST, source.half_step),)


DECODERS: dict[str, Callable[[_Encoded], tuple[Constant, ...]]] = {
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _blockwise,
    "constexpr_lut_to_dense": _palette,
    "constexpr_sparse_to_dense": _sparse,
    "constexpr_lut_to_sparse": _sparse_palette,
    "constexpr_sparse_blockwise_shift_scale": _sparse_blockwise,
    "constexpr_cast": _cast,
}
