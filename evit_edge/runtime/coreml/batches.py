"""Calling an implementation for several pictures at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evit_edge.runtime.coreml.ops import Argument, Batching, Call, Implementation
from evit_edge.runtime.coreml.program import Operation


@dataclass(frozen=True)
class Value:
    """What a name stands for.

    Attributes:
        data: Numbers or text.
        batched: Its first axis counts pictures and is not part of the program.
    """

    data: Argument
    batched: bool


Arguments = Mapping[str, tuple[Value, ...]]
_Place = tuple[str, int]
_Compute = Callable[..., tuple[Tensor, ...]]


def apply(implementation: Implementation, operation: Operation, arguments: Arguments) -> tuple[Value, ...]:
    """All outputs of an operation.

    Args:
        implementation: Of its type.
        operation: The operation.
        arguments: Its parameters.

    Returns:
        One value per output, with pictures in front if any argument has them.
    """
    batched: dict[_Place, Tensor] = {
        (key, i): value.data
        for key, values in arguments.items()
        for i, value in enumerate(values)
        if value.batched and isinstance(value.data, Tensor)
    }

    def compute(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(batched, tensors, strict=True))
        result = implementation.function(Call(operation, _plain(arguments, given)))
        return result if isinstance(result, tuple) else (result,)

    if not batched:
        return tuple(Value(data, batched=False) for data in compute())
    if implementation.batching is Batching.STATIC:
        return tuple(Value(data, batched=False) for data in compute(*(tensor[0] for tensor in batched.values())))
    if implementation.batching is Batching.POINTWISE:
        rank = max(_rank(value) for values in arguments.values() for value in values)
        results = compute(*(_lifted(tensor, rank) for tensor in batched.values()))
    elif implementation.batching is Batching.LOOP:
        results = _looped(compute, tuple(batched.values()))
    else:
        results = _mapped(compute, tuple(batched.values()))
    return tuple(Value(data, batched=True) for data in results)


def _plain(arguments: Arguments, given: Mapping[_Place, Tensor]) -> dict[str, tuple[Argument, ...]]:
    return {
        key: tuple(given.get((key, i), value.data) for i, value in enumerate(values))
        for key, values in arguments.items()
    }


def _rank(value: Value) -> int:
    """Axes of one picture's value."""
    return value.data.ndim - value.batched if isinstance(value.data, Tensor) else 0


def _lifted(tensor: Tensor, rank: int) -> Tensor:
    """(B, *shape) to (B, 1, ..., 1, *shape), so that broadcasting aligns the shapes and not the pictures."""
    return tensor.reshape(tensor.shape[0], *[1] * (rank - tensor.ndim + 1), *tensor.shape[1:])


def _mapped(compute: _Compute, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    try:
        return torch.func.vmap(compute)(*tensors)
    except RuntimeError:
        # Parameters that depend on the picture (a shape, a bound) have to be looked at one by one.
        return _looped(compute, tensors)


def _looped(compute: _Compute, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    single = [compute(*picture) for picture in zip(*tensors, strict=True)]
    return tuple(torch.stack(outputs) for outputs in zip(*single, strict=True))
