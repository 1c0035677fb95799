"""All constants of a program, decoded, and what a check of the weights needs to know of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from evit_edge.runtime.coreml.elements import Element
from evit_edge.runtime.coreml.encodings import Constant, Encoding, Float64Array, decode_constexpr
from evit_edge.runtime.coreml.package import Package
from evit_edge.runtime.coreml.program import Function, Operation, TensorType

__all__ = ["Constant", "DecodedWeight", "Encoding", "decode_constants", "decoded_weights", "is_constant"]


@dataclass(frozen=True)
class DecodedWeight:
    """A weight as the program's operations get it.

    Attributes:
        name: Of the value in the program.
        value: float64, exactly what the encoding says, before rounding to the declared type.
        encoding: How it is stored.
        half_step: float64, broadcastable to ``value``: by how much an honest rounding to the encoding's levels can
            differ from the source. 0 for raw values; half the scale for affine and blockwise; for palettes half
            the larger gap to a neighbouring entry of the table; for entries that a sparse encoding leaves out, the
            smallest magnitude that it keeps.
        op_name: Name of the first operation that uses it.
        element: Type that the program declares for it.
    """

    name: str
    value: Float64Array = field(repr=False)
    encoding: Encoding
    half_step: Float64Array = field(repr=False)
    op_name: str
    element: Element


def decoded_weights(package: Package) -> Iterator[DecodedWeight]:
    """All real-valued constants with axes that operations compute with, in the program's order.

    Raises:
        ArtefactError: An encoding contradicts itself; the message names the operation.
    """
    users: dict[str, Operation] = {}
    for operation in package.function.operations:
        if not is_constant(operation):
            for name in (b for bindings in operation.inputs.values() for b in bindings if isinstance(b, str)):
                users.setdefault(name, operation)
    for name, constant in decode_constants(package.function).items():
        if name in users and constant.element.is_float and constant.value.ndim > 0:
            yield DecodedWeight(
                name=name,
                value=constant.value.astype(np.float64),
                encoding=constant.encoding,
                half_step=constant.half_step,
                op_name=users[name].name,
                element=constant.element,
            )


def is_constant(operation: Operation) -> bool:
    """Whether the operation only states or decodes a constant."""
    return operation.type == "const" or operation.type.startswith("constexpr_")


def decode_constants(function: Function) -> dict[str, Constant]:
    """Every constant tensor of a function by name; lists and dictionaries are left out.

    Raises:
        ArtefactError: An encoding is unknown or contradicts itself; the message names the operation.
    """
    known: dict[str, Constant] = {}
    for operation in function.operations:
        if operation.type == "const":
            literal = operation.attributes.get("val")
            if literal is not None and literal.array is not None and isinstance(literal.type, TensorType):
                known[operation.outputs[0].name] = Constant(literal.array, literal.type.element)
        elif operation.type.startswith("constexpr_"):
            known |= decode_constexpr(operation, known)
    return known
