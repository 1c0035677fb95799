"""An ML Program as frozen dataclasses: functions hold blocks, blocks hold operations, operations make values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml.elements import Array, Element

OPSETS = {"CoreML5": "iOS15", "CoreML6": "iOS16", "CoreML7": "iOS17", "CoreML8": "iOS18"}
"""Operation sets as the file calls them, and the first system that has each."""


@dataclass(frozen=True)
class TensorType:
    """Type of a tensor.

    Attributes:
        element: Of one entry.
        shape: None for a size that is known only at run time.
    """

    element: Element
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.element} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


@dataclass(frozen=True)
class OtherType:
    """A list, tuple, dictionary or state, which only few operations take or make.

    Attributes:
        kind: ``listType``, ``tupleType``, ``dictionaryType`` or ``stateType``.
    """

    kind: str


ValueType = TensorType | OtherType


@dataclass(frozen=True)
class Literal:
    """A constant.

    Attributes:
        type: Its type.
        array: Its values; strings as an array of objects.
        items: Entries of a list or tuple; None for a tensor.
    """

    type: ValueType
    array: Array | None = field(default=None, repr=False)
    items: tuple[Literal, ...] | None = field(default=None, repr=False)

    @property
    def value(self) -> Any:
        """The array, or the only entry of one without axes, or a tuple of the entries' values."""
        if self.items is not None:
            return tuple(item.value for item in self.items)
        return self.array.item() if self.array is not None and self.array.ndim == 0 else self.array


Binding = str | Literal
"""What an operation's input is bound to: the name of a value, or a constant."""


@dataclass(frozen=True)
class NamedType:
    """A value: its name, unique in its function, and its type."""

    name: str
    type: ValueType


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        type: Such as ``conv``.
        name: The file's name for it; not that of its outputs.
        inputs: Parameter name to what it is bound to; several for a variadic one.
        outputs: Values that it makes.
        attributes: Constants that are no inputs; ``const`` and iOS 16's ``constexpr_`` operations have them.
        blocks: Bodies of control flow.
    """

    type: str
    name: str
    inputs: Mapping[str, tuple[Binding, ...]]
    outputs: tuple[NamedType, ...]
    attributes: Mapping[str, Literal]
    blocks: tuple[Block, ...] = ()

    @property
    def title(self) -> str:
        """For messages: ``conv 'op_name'``."""
        return f"{self.type} {self.name!r}"


@dataclass(frozen=True)
class Block:
    """Operations in order, and which of their values leave the block."""

    inputs: tuple[NamedType, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Function:
    """A function and the block that its operation set asks for.

    Attributes:
        name: Such as ``main``.
        opset: Such as ``CoreML6``.
        inputs: What it takes.
        block: What it does.
    """

    name: str
    opset: str
    inputs: tuple[NamedType, ...]
    block: Block

    def __post_init__(self) -> None:
        """Every value is made once, and before it is used."""
        known = set()
        for name in (value.name for value in (*self.inputs, *self.block.inputs)):
            known.add(name)
        for operation in self.block.operations:
            for name in _names(operation):
                if name not in known:
                    raise ArtefactError(f"{operation.title} uses {name!r}, which nothing before it makes")
            for value in operation.outputs:
                if value.name in known:
                    raise ArtefactError(f"{operation.title} makes {value.name!r}, which exists already")
                known.add(value.name)
        for name in self.block.outputs:
            if name not in known:
                raise ArtefactError(f"the output {name!r} is made by no operation")

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Of its block."""
        return self.block.operations


def _names(operation: Operation) -> Iterator[str]:
    for bindings in operation.inputs.values():
        for binding in bindings:
            if isinstance(binding, str):
                yield binding
