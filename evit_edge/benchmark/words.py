"""What a reader must not miss, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evit_edge.benchmark.report import Accelerator, Measurement, ModelEntry

_SAME_WORK = 0.05
_FLOAT = ("float32", "float16")

Certain = Callable[[Measurement, Measurement], bool]
"""Whether the first takes longer than the second beyond noise."""


@dataclass(frozen=True)
class _Row:
    entry: ModelEntry
    measured: Measurement
    typical_s: float


def remarks(models: Sequence[ModelEntry], measurements: Sequence[Measurement], slower: Certain) -> tuple[str, ...]:
    """Sentences about every two models under the same conditions.

    Args:
        models: What was measured.
        measurements: The figures.
        slower: Whether one takes longer than another beyond noise.
    """
    entries = {entry.name: entry for entry in models}
    rows = [_Row(entries[m.model], m, m.statistics.typical_s) for m in measurements if m.statistics is not None]
    told: list[str] = []
    for slow in rows:
        faster = [row for row in rows if _comparable(slow, row) and row.typical_s < slow.typical_s]
        faster = [row for row in faster if slower(slow.measured, row.measured)]
        told += _int8_behind_float(slow, faster) + _lost_to_smaller(slow, faster) + _lost_to_bigger(slow, faster)
    told += [
        f"{entry.name} ran in a reference evaluator: its time says nothing about any device"
        for entry in models
        if entry.reference_only
    ]
    return tuple(dict.fromkeys(told))


def _comparable(first: _Row, second: _Row) -> bool:
    """Under the same conditions, counted, and not the same file twice."""
    entries = first.entry, second.entry
    counted = all(entry.macs is not None and not entry.reference_only for entry in entries)
    return counted and _conditions(first) == _conditions(second) and entries[0].sha256 != entries[1].sha256


def _int8_behind_float(slow: _Row, faster: Sequence[_Row]) -> list[str]:
    if slow.entry.number_type != "int8":
        return []
    return [
        f"int8 is slower than float{_where(slow)}: {slow.entry.name} takes "
        f"{slow.typical_s / row.typical_s:.2f} times as long as {row.entry.name}{_pieces(slow)}"
        for row in faster
        if row.entry.number_type in _FLOAT and abs(_work(slow, row) - 1) <= _SAME_WORK
    ]


def _lost_to_smaller(slow: _Row, faster: Sequence[_Row]) -> list[str]:
    rows = [row for row in faster if _same_numbers(slow, row) and _work(slow, row) > 1 + _SAME_WORK]
    return _lost("a bigger net loses to a smaller", slow, rows)


def _lost_to_bigger(slow: _Row, faster: Sequence[_Row]) -> list[str]:
    rows = [row for row in faster if _same_numbers(slow, row) and _work(slow, row) < 1 - _SAME_WORK]
    return _lost("a smaller net loses to a bigger", slow, rows, _pieces(slow))


def _lost(what: str, slow: _Row, rows: Sequence[_Row], why: str = "") -> list[str]:
    """One sentence on a net, whatever the number of those that beat it."""
    if not rows:
        return []
    beaten = ", ".join(
        f"{slow.typical_s / row.typical_s:.2f} times as long as {row.entry.name} ({_size(row)})"
        for row in sorted(rows, key=lambda row: row.typical_s)
    )
    return [f"{what}{_where(slow)}: {slow.entry.name} ({_size(slow)}) takes {beaten}{why}"]


def _same_numbers(first: _Row, second: _Row) -> bool:
    return (first.entry.number_type == "int8") == (second.entry.number_type == "int8")


def _work(first: _Row, second: _Row) -> float:
    return (first.entry.macs or 0) / (second.entry.macs or 1)


def _size(row: _Row) -> str:
    return f"{(row.entry.macs or 0) / 1e6:.0f} M MACs"


def _conditions(row: _Row) -> tuple[str, int, Accelerator]:
    return row.measured.device, row.measured.threads, row.measured.accelerator


def _where(row: _Row) -> str:
    threads = row.measured.threads
    return f" with {threads} threads" if threads > 1 else ""


def _pieces(row: _Row) -> str:
    """The usual reason, where it is known."""
    pieces = row.measured.engine.partitions
    return f"; it runs in {pieces} partitions" if pieces is not None and pieces > 1 else ""
