"""How much memory a graph needs by its own declaration, told from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evit_edge.errors import ArtefactError
from evit_edge.runtime.checks.limits import Limits, shown


@dataclass(frozen=True)
class Need:
    """One step of a graph.

    Attributes:
        reads: Numbers of values; negative ones are none.
        writes: The same.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]


def peak_bytes(sizes: Sequence[int], steps: Sequence[Need], first: Sequence[int], last: Sequence[int]) -> int:
    """The most that values take at once, each kept from the step that makes it to the last that reads it.

    Args:
        sizes: Of every value; 0 for constants.
        steps: In order.
        first: Values that are there from the start.
        last: Values that stay to the end.
    """
    ends = {value: i for i, step in enumerate(steps) for value in (*step.writes, *step.reads)}
    ends |= dict.fromkeys(last, len(steps))
    alive = set(first)
    held = peak = sum(sizes[value] for value in alive if value >= 0)
    for i, step in enumerate(steps):
        for value in step.writes:
            if value >= 0 and value not in alive:
                alive.add(value)
                held += sizes[value]
        peak = max(peak, held)
        for value in {*step.reads, *step.writes}:
            if value in alive and ends[value] == i:
                alive.discard(value)
                held -= sizes[value]
    return peak


def require_fits(size_bytes: int, limits: Limits) -> None:
    """Refuse what declares more than the limit.

    Raises:
        ArtefactError: It does.
    """
    if size_bytes > limits.memory_bytes:
        raise ArtefactError(
            f"it declares {shown(size_bytes)} of weights and values; the limit is {shown(limits.memory_bytes)} "
            "(--memory-limit)"
        )
