"""The first operation that goes wrong: where the error of a program's values jumps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evit_edge.runtime.coreml.program import Operation
from evit_edge.verification.coreml.program import ProgramView, title
from evit_edge.verification.coreml.source import SourceGraph

_SAME = 1e-9
"""Relative distance below which two float64 values count as computed alike."""
_TINY = 1e-300


@dataclass(frozen=True)
class Culprit:
    """An operation whose output is wrong though what it takes is right.

    Attributes:
        operation: Its type and the value that it makes.
        error: Relative error of that value (norm of the difference over norm of the reference).
        before: The largest relative error of what it takes.
        source: The node of torch's graph that it was compared with.
    """

    operation: str
    error: float
    before: float
    source: str

    def __str__(self) -> str:
        against = f" (torch: {self.source})" if self.source else ""
        told = f"relative error {self.error:.2g}, of what it takes at most {self.before:.2g}"
        return f"{self.operation}{against}: {told}"


def first_wrong(
    view: ProgramView, computed: Mapping[str, Tensor], graph: SourceGraph, reference: Mapping[str, Tensor]
) -> Culprit | None:
    """Find the first operation that departs from torch's graph.

    A value of the program is compared with the node that it is named after. Where there is none of its size, any
    node with the same values in the same order stands for it. So it does where the named one differs, but only if
    an operation that takes the value is right: coremltools renames some, and a right value under another name is
    no fault, while a missing operation also leaves a value that the graph has elsewhere. A value that nothing
    stands for passes on the errors of what made it.

    Args:
        view: The program.
        computed: Its values for one image, float64, by name; the source's weights were put in.
        graph: Torch's graph.
        reference: Its values for the same image, float64.
    """
    known = _Known(reference)
    named = {name: known.named(value, *graph.reference_names(name, reference)) for name, value in computed.items()}
    errors = dict(named)
    for name, value in computed.items():
        if not named[name][0] <= _SAME and (same := known.same(value)):
            users = (made.name for use in view.uses.get(name, ()) for made in use.operation.outputs)
            if math.isnan(named[name][0]) or any(named.get(user, (math.nan, ""))[0] <= _SAME for user in users):
                errors[name] = 0.0, same
    return first_jump(view, errors, floor=_SAME, factor=100.0)


def first_jump(
    view: ProgramView, errors: Mapping[str, tuple[float, str]], *, floor: float, factor: float
) -> Culprit | None:
    """The first operation whose error exceeds that of its inputs by a factor, and a floor.

    Args:
        view: The program, whose order counts.
        errors: Value to relative error (NaN where it is unknown) and what it was compared with.
        floor: Errors up to here are rounding.
        factor: How much an operation may enlarge the error of what it takes.
    """
    carried: dict[str, float] = {}
    for operation in view.operations:
        before = max((carried.get(name, 0.0) for name in _inputs(operation)), default=0.0)
        for value in operation.outputs:
            error, source = errors.get(value.name, (math.nan, ""))
            if error > max(floor, factor * before) or error == math.inf:
                return Culprit(title(operation), error, before, source)
            carried[value.name] = before if math.isnan(error) else error
    return None


def relative_errors(
    computed: Mapping[str, Tensor], reference: Mapping[str, Tensor]
) -> dict[str, tuple[float, str]]:
    """Error of each value against the same program's in another precision."""
    return {name: (distance(value, reference[name]), "") for name, value in computed.items() if name in reference}


def distance(value: Tensor, reference: Tensor) -> float:
    """Norm of the difference over norm of the reference; infinity where the value is not finite."""
    ours, theirs = value.double().reshape(-1), reference.double().reshape(-1)
    if not bool(torch.isfinite(ours).all()):
        return math.inf
    return float((ours - theirs).norm() / theirs.norm().clamp_min(_TINY))


class _Known:
    """Values of torch's graph, found by name or by what they are."""

    def __init__(self, reference: Mapping[str, Tensor]) -> None:
        self._reference = reference
        self._by_size: dict[int, list[str]] = {}
        for name, value in reference.items():
            self._by_size.setdefault(value.numel(), []).append(name)

    def named(self, value: Tensor, names: list[str], maybe: list[str]) -> tuple[float, str]:
        """Error against the node of the name, and which; NaN where there is none of that name and size.

        A node that the value may be named after counts only if it is equal.
        """
        errors = [(self._distance(value, name), name) for name in names]
        errors += [pair for name in maybe if (pair := (self._distance(value, name), name))[0] <= _SAME]
        return min((pair for pair in errors if not math.isnan(pair[0])), default=(math.nan, ""))

    def _distance(self, value: Tensor, name: str) -> float:
        reference = self._reference[name]
        return distance(value, reference) if reference.numel() == value.numel() else math.nan

    def same(self, value: Tensor) -> str:
        """A node with the same values in the same order; empty where there is none."""
        names = self._by_size.get(value.numel(), ())
        return next((name for name in names if distance(value, self._reference[name]) <= _SAME), "")


def _inputs(operation: Operation) -> list[str]:
    return [binding for bindings in operation.inputs.values() for binding in bindings if isinstance(binding, str)]
