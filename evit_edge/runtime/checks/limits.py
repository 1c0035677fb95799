"""How much a model may take."""

from __future__ import annotations

from dataclasses import dataclass

from evit_edge.errors import RequestError

GIB = 2**30
_LEAST_BYTES = GIB // 4


@dataclass(frozen=True)
class Limits:
    """What a model may take before it is given up.

    Attributes:
        memory_bytes: Memory that a file may declare, and that the process that runs it may take; the engine's own
            libraries count too (some 100 MB; with torch 400).
        time_s: Seconds for opening a model, and for each call of it.
    """

    memory_bytes: int = 4 * GIB
    time_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse limits under which nothing runs."""
        if self.memory_bytes < _LEAST_BYTES:
            given = self.memory_bytes / GIB
            raise RequestError(f"a memory limit of {given:g} GiB given; at least {_LEAST_BYTES / GIB:g} is needed")
        if not 0 < self.time_s < float("inf"):
            raise RequestError(f"a time limit of {self.time_s:g} s given; more than 0 and finite is needed")


def shown(size_bytes: int) -> str:
    """A size for messages: 6.2 MiB, 100.0 GiB."""
    if size_bytes < GIB:
        return f"{size_bytes / 2**20:.1f} MiB"
    return f"{size_bytes / GIB:.1f} GiB"
