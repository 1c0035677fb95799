"""In what the evaluator computes, and how a program's values are held as torch tensors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from evit_edge.runtime.coreml.elements import Array, Element
from evit_edge.runtime.coreml.ops import Argument
from evit_edge.runtime.coreml.program import Literal, TensorType

_INTEGERS = {
    Element.BOOL: torch.bool,
    Element.INT8: torch.int8,
    Element.UINT8: torch.uint8,
    Element.INT16: torch.int16,
    Element.INT32: torch.int32,
    Element.INT64: torch.int64,
    Element.UINT16: torch.int32,  # torch's own unsigned types know next to no operations
    Element.UINT32: torch.int64,
    Element.UINT64: torch.int64,
    Element.INT4: torch.int8,
    Element.UINT1: torch.uint8,
    Element.UINT2: torch.uint8,
    Element.UINT3: torch.uint8,
    Element.UINT4: torch.uint8,
    Element.UINT6: torch.uint8,
}
_WIDER = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}


class Precision(StrEnum):
    """In what the evaluator computes.

    Attributes:
        DECLARED: float32, and each result that is declared float16 is rounded to it. Sums inside an operation stay
            in float32; what Apple's engines do there is not documented.
        FLOAT32: float32 throughout; nothing is rounded to float16 but what the file stores so.
        FLOAT64: float64 throughout, likewise.
    """

    DECLARED = "declared"
    FLOAT32 = "float32"
    FLOAT64 = "float64"


@dataclass(frozen=True)
class Arithmetic:
    """How values are held.

    Attributes:
        precision: What was asked for.
    """

    precision: Precision

    @property
    def dtype(self) -> torch.dtype:
        """Of real numbers; a float16 value is a float32 number that float16 can hold."""
        return torch.float64 if self.precision is Precision.FLOAT64 else torch.float32

    def stored(self, tensor: Tensor, element: Element, *, exact: bool = False) -> Tensor:
        """A value as this arithmetic holds it.

        Args:
            tensor: Of any type.
            element: Declared type, which real numbers are rounded to if the precision asks for it.
            exact: It is known to need no rounding.
        """
        if not element.is_float:
            return tensor.to(_INTEGERS[element])
        if self.precision is Precision.DECLARED and element is Element.FLOAT16 and not exact:
            tensor = tensor.to(torch.float16)
        return tensor.to(self.dtype)

    def constant(self, values: Array, element: Element) -> Argument:
        """A constant array; text as it is."""
        if element is Element.STRING:
            return str(values.item()) if values.ndim == 0 else tuple(str(value) for value in values.reshape(-1))
        native = np.array(values, dtype=_WIDER.get(values.dtype.name, values.dtype), order="C", copy=True)
        return self.stored(torch.from_numpy(native), element)

    def literal(self, literal: Literal) -> Argument:
        """A constant that stands where it is used; a list as text."""
        if isinstance(literal.type, TensorType) and literal.array is not None:
            return self.constant(literal.array, literal.type.element)
        return tuple(str(item.value) for item in literal.items or ())
