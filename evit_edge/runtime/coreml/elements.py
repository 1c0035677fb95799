"""Element types of the Model Intermediate Language (MIL), as ``MIL.proto`` and the weight file number them."""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


class Element(Enum):
    """One element of a tensor: its number in ``MIL.proto``, that in weight.bin (0: never there), its bits."""

    BOOL = (1, 0, 8)
    STRING = (2, 0, 0)
    FLOAT16 = (10, 1, 16)
    FLOAT32 = (11, 2, 32)
    FLOAT64 = (12, 0, 64)
    BFLOAT16 = (13, 5, 16)
    INT8 = (21, 4, 8)
    INT16 = (22, 6, 16)
    INT32 = (23, 14, 32)
    INT64 = (24, 0, 64)
    INT4 = (25, 8, 4)
    UINT8 = (31, 3, 8)
    UINT16 = (32, 7, 16)
    UINT32 = (33, 15, 32)
    UINT64 = (34, 0, 64)
    UINT4 = (35, 11, 4)
    UINT2 = (36, 10, 2)
    UINT1 = (37, 9, 1)
    UINT6 = (38, 13, 6)
    UINT3 = (39, 12, 3)
    FLOAT8E4M3FN = (40, 16, 8)
    FLOAT8E5M2 = (41, 17, 8)

    def __init__(self, number: int, blob_number: int, bits: int) -> None:
        self.number = number
        self.blob_number = blob_number
        self.bits = bits

    @property
    def is_float(self) -> bool:
        """A real number."""
        return "FLOAT" in self.name

    @property
    def is_signed(self) -> bool:
        """An integer that can be negative."""
        return self.name.startswith("INT")

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy type that holds it: the same where numpy has it, else the next wider one."""
        if self is Element.STRING:
            return np.dtype(object)
        if self is Element.BOOL:
            return np.dtype(np.bool_)
        if self.is_float:
            return np.dtype({16: "f2", 32: "f4", 64: "f8"}[self.bits] if self in _NUMPY_FLOATS else "f4")
        return np.dtype(f"{'i' if self.is_signed else 'u'}{max(1, self.bits // 8)}")

    def __str__(self) -> str:
        return self.name.lower()


_NUMPY_FLOATS = (Element.FLOAT16, Element.FLOAT32, Element.FLOAT64)
BY_NUMBER = {element.number: element for element in Element}
BY_BLOB_NUMBER = {element.blob_number: element for element in Element if element.blob_number}


def decode(raw: bytes | memoryview, element: Element, count: int) -> Array:
    """Little-endian bytes to values.

    Args:
        raw: ``packed_size(element, count)`` bytes. Elements of less than 8 bits are packed from the lowest bit on,
            across byte borders.
        element: What they hold; no string.
        count: How many.

    Returns:
        (count,) of ``element.numpy``.
    """
    if element.bits < 8:
        return _unpack(np.frombuffer(raw, np.uint8), element, count)
    if element is Element.BFLOAT16:
        wide = np.frombuffer(raw, "<u2", count).astype(np.uint32) << 16
        return wide.view(np.float32)
    if element is Element.FLOAT8E4M3FN:
        return _small_floats(np.frombuffer(raw, np.uint8, count), exponent_bits=4, only_finite=True)
    if element is Element.FLOAT8E5M2:
        return _small_floats(np.frombuffer(raw, np.uint8, count), exponent_bits=5, only_finite=False)
    return np.frombuffer(raw, element.numpy.newbyteorder("<"), count)


def packed_size(element: Element, count: int) -> int:
    """Bytes that ``count`` elements take."""
    return (count * element.bits + 7) // 8


def _unpack(raw: npt.NDArray[np.uint8], element: Element, count: int) -> Array:
    bits = np.unpackbits(raw, bitorder="little")[: count * element.bits].reshape(count, element.bits)
    weights = (1 << np.arange(element.bits)).astype(np.uint8)
    values: npt.NDArray[np.uint8] = (bits * weights).sum(axis=1, dtype=np.uint8)
    if not element.is_signed:
        return values
    sign = 1 << (element.bits - 1)
    return np.where(values >= sign, values.astype(np.int16) - 2 * sign, values).astype(np.int8)


def _small_floats(raw: npt.NDArray[np.uint8], *, exponent_bits: int, only_finite: bool) -> Array:
    """8-bit floats (OCP 8-bit Floating Point Specification, section 5) through a table of all 256."""
    mantissa_bits = 7 - exponent_bits
    bias = 2 ** (exponent_bits - 1) - 1
    codes = np.arange(128)
    exponent, mantissa = codes >> mantissa_bits, (codes & (2**mantissa_bits - 1)) / 2.0**mantissa_bits
    table = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), (1 + mantissa) * 2.0 ** (exponent - bias))
    if only_finite:
        table[127] = np.nan
    else:
        table[124:] = (np.inf, np.nan, np.nan, np.nan)
    both: Array = np.concatenate([table, -table]).astype(np.float32)
    return both[raw]
