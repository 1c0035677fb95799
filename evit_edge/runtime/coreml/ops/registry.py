"""The table of operations, and what an implementation gets to see of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import torch
from torch import Tensor

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml.program import Operation, TensorType

Argument = Tensor | str | tuple[str, ...]
"""A number or array of numbers, a string, or strings."""

Result = Tensor | tuple[Tensor, ...]


class Batching(Enum):
    """How an implementation for one picture serves several.

    Attributes:
        POINTWISE: It works entry by entry with broadcasting, so another leading axis changes nothing.
        VMAP: ``torch.func.vmap`` adds the axis.
        LOOP: Picture by picture: the shape of its result depends on values, or torch has no batching rule.
        STATIC: Its result depends on shapes alone and is the same for all pictures.
    """

    POINTWISE = auto()
    VMAP = auto()
    LOOP = auto()
    STATIC = auto()


@dataclass(frozen=True)
class Call:
    """One operation with its arguments.

    Attributes:
        operation: As the program has it.
        arguments: Parameter name to its values; parameters that the file leaves out are missing.
    """

    operation: Operation
    arguments: Mapping[str, tuple[Argument, ...]]

    def has(self, key: str) -> bool:
        """Whether the parameter is given."""
        return key in self.arguments

    def tensor(self, key: str) -> Tensor:
        """A parameter that must be there."""
        values = self.tensors(key)
        if len(values) != 1:
            raise self.refusal(f"its parameter {key!r} has {len(values)} values; one is needed")
        return values[0]

    def optional(self, key: str) -> Tensor | None:
        """A parameter that may be left out."""
        return self.tensor(key) if key in self.arguments else None

    def tensors(self, key: str) -> tuple[Tensor, ...]:
        """A variadic parameter."""
        values = self.arguments.get(key)
        if values is None:
            raise self.refusal(f"it lacks the parameter {key!r}")
        tensors = tuple(value for value in values if isinstance(value, Tensor))
        if len(tensors) != len(values):
            raise self.refusal(f"its parameter {key!r} is text; numbers are needed")
        return tensors

    def ints(self, key: str, default: list[int] | None = None) -> list[int]:
        """A list of whole numbers."""
        if default is not None and key not in self.arguments:
            return default
        return [int(n) for n in self.tensor(key).reshape(-1).tolist()]

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number."""
        return int(self.number(key, default))

    def number(self, key: str, default: float | None = None) -> float:
        """A number."""
        if default is not None and key not in self.arguments:
            return default
        value = self.tensor(key)
        if value.numel() != 1:
            raise self.refusal(f"its parameter {key!r} has {value.numel()} entries; one number is needed")
        return float(value.item())

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or False."""
        return bool(self.number(key, None if default is None else float(default)))

    def flags(self, key: str, count: int) -> list[bool]:
        """A list of truth values, all False where the file leaves it out."""
        return [bool(n) for n in self.ints(key, [0] * count)]

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        if default is not None and key not in self.arguments:
            return default
        values = self.arguments.get(key, ())
        if len(values) != 1 or not isinstance(values[0], str):
            raise self.refusal(f"its parameter {key!r} must be one string")
        return values[0]

    def choice(self, key: str, accepted: tuple[str, ...], default: str | None = None) -> str:
        """A string out of a few."""
        value = self.text(key, default)
        if value not in accepted:
            raise self.refusal(f"its parameter {key!r} is {value!r}; {', '.join(accepted)} are supported")
        return value

    @property
    def output(self) -> TensorType:
        """Declared type of the first output."""
        declared = self.operation.outputs[0].type
        if not isinstance(declared, TensorType):
            raise self.refusal("its output is declared to be no tensor")
        return declared

    def refusal(self, reason: str) -> ArtefactError:
        """An error that names the operation."""
        return ArtefactError(f"the operation {self.operation.title} cannot be evaluated: {reason}")


Function = Callable[[Call], Result]


@dataclass(frozen=True)
class Implementation:
    """An operation that the evaluator knows.

    Attributes:
        function: Computes it.
        parameters: All that it understands; a file that gives another one is refused.
        batching: How it serves several pictures.
        moves: It only moves, repeats or picks values, so that nothing is rounded.
    """

    function: Function
    parameters: frozenset[str]
    batching: Batching
    moves: bool


OPERATIONS: dict[str, Implementation] = {}
"""Every operation by the name that ``MIL`` has for it."""


def op(
    *names: str, parameters: str, batching: Batching = Batching.VMAP, moves: bool = False
) -> Callable[[Function], Function]:
    """Register an implementation.

    Args:
        names: Operations that it computes.
        parameters: All parameters that it understands, separated by spaces.
        batching: How it serves several pictures.
        moves: It makes no new values.
    """

    def register(function: Function) -> Function:
        for name in names:
            if name in OPERATIONS:
                raise ValueError(f"operation {name} is registered twice")
            OPERATIONS[name] = Implementation(function, frozenset(parameters.split()), batching, moves)
        return function

    return register


def positive(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis + rank if axis < 0 else axis


def index(tensor: Tensor) -> Tensor:
    """Indices as torch wants them."""
    return tensor.to(torch.int64)
