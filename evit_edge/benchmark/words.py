"""What a reader must not miss, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evit_edge.benchmark.report import Accelerator, Measurement, ModelEntry

_SAME_WORK = 0.05
_FLOAT = ("float32", "float16")

Times = Callable[[Measurement, Measurement], float | None]
"""How many times as long the first takes as the second; None where it does not take longer beyond noise."""


@dataclass(frozen=True)
class _Row:
    entry: ModelEntry
    measured: Measurement


_Beaten = tuple[_Row, float]
"""A faster model, and how many times as long the slow one takes."""


def remarks(models: Sequence[ModelEntry], measurements: Sequence[Measurement], times: Times) -> tuple[str, ...]:
    """Sentences about every two models under the same conditions.

    Args:
        models: What was measured.
        measurements: The figures.
        times: How they compare.
    """
    entries = {entry.name: entry for entry in models}
    rows = [_Row(entries[m.model], m) for m in measurements if m.statistics is not None]
    told: list[str] = []
    for slow in rows:
        rivals = [row for row in rows if _comparable(slow, row) and _shorter(row, slow)]
        found = [(row, times(slow.measured, row.measured)) for row in rivals]
        faster = sorted(((row, value) for row, value in found if value is not None), key=lambda pair: -pair[1])
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


def _shorter(first: _Row, second: _Row) -> bool:
    """By the shortest run, which spares most of the comparisons."""
    times = [row.measured.statistics.min_s for row in (first, second) if row.measured.statistics is not None]
    return times[0] < times[-1]


def _int8_behind_float(slow: _Row, faster: Sequence[_Beaten]) -> list[str]:
    if slow.entry.number_type != "int8":
        return []
    return [
        f"int8 is slower than float{_where(slow)}: {slow.entry.name} takes {times:.2f} times as long as "
        f"{row.entry.name}{_pieces(slow)}"
        for row, times in faster
        if row.entry.number_type in _FLOAT and abs(_work(slow, row) - 1) <= _SAME_WORK
    ]


def _lost_to_smaller(slow: _Row, faster: Sequence[_Beaten]) -> list[str]:
    rows = [pair for pair in faster if _same_numbers(slow, pair[0]) and _work(slow, pair[0]) > 1 + _SAME_WORK]
    return _lost("a bigger net loses to a smaller", slow, rows)


def _lost_to_bigger(slow: _Row, faster: Sequence[_Beaten]) -> list[str]:
    rows = [pair for pair in faster if _same_numbers(slow, pair[0]) and _work(slow, pair[0]) < 1 - _SAME_WORK]
    return _lost("a smaller net loses to a bigger", slow, rows, _pieces(slow))


def _lost(what: str, slow: _Row, rows: Sequence[_Beaten], why: str = "") -> list[str]:
    """One sentence on a net, whatever the number of those that beat it."""
    if not rows:
        return []
    beaten = ", ".join(f"{times:.2f} times as long as {row.entry.name} ({_size(row)})" for row, times in rows)
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
