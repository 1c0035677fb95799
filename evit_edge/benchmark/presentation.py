"""A report's figures as words and rows, for terminal, Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evit_edge.benchmark.comparison import Comparison
from evit_edge.benchmark.figures import Interval, Statistics
from evit_edge.benchmark.published import HEADING
from evit_edge.benchmark.report import Accelerator, Measurement, Ratio, Report, Status
from evit_edge.benchmark.statistics import CONFIDENCE

NONE = "-"
_BARS = "▁▂▃▄▅▆▇█"
_BINS = 12
_OPERATORS = 20


@dataclass(frozen=True)
class Rows:
    """A table.

    Attributes:
        title: Above it.
        columns: Heads.
        rows: Cells, as many as columns.
        left: Leading columns that hold words; the others hold figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


def milliseconds(seconds: float | None) -> str:
    """0.00213 as 2.13, with a digit more below a millisecond."""
    if seconds is None:
        return NONE
    return f"{1e3 * seconds:.2f}" if seconds >= 1e-3 else f"{1e3 * seconds:.3f}"


def megabytes(size_bytes: float | None) -> str:
    """3500000 as 3.5."""
    return NONE if size_bytes is None else f"{size_bytes / 1e6:.1f}"


def bounds(interval: Interval | None, digits: int = 2, scale: float = 1.0) -> str:
    """An interval as ``[low, high]``."""
    if interval is None:
        return ""
    return f"[{scale * interval.low:.{digits}f}, {scale * interval.high:.{digits}f}]"


def histogram(times_s: Sequence[float], bins: int = _BINS) -> str:
    """A histogram in one line of text, from the shortest time to the 99th percentile."""
    if len(times_s) < 2:
        return ""
    times = np.array(times_s)
    low, high = float(times.min()), float(np.quantile(times, 0.99, method="inverted_cdf"))
    if high <= low:
        return _BARS[-1]
    counts, _ = np.histogram(times, bins=bins, range=(low, high))
    levels = np.ceil(counts / counts.max() * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[level] for level in levels)


def conditions(report: Report) -> tuple[bool, bool, bool]:
    """Whether rows must name the device, the number of threads, the accelerator to be told apart."""
    rows = report.measurements
    accelerators = {row.accelerator for row in rows}
    return (
        len(report.devices) > 1,
        len({row.threads for row in rows}) > 1,
        len(accelerators) > 1 or not accelerators <= {Accelerator.CPU},
    )


def label(report: Report, row: Measurement | Ratio) -> tuple[str, ...]:
    """The words that tell a row from others."""
    device, threads, accelerator = conditions(report)
    parts = [row.model]
    if device:
        parts.append(row.device)
    if threads:
        parts.append(str(row.threads))
    if accelerator:
        parts.append(row.accelerator.value)
    return tuple(parts)


def label_columns(report: Report) -> tuple[str, ...]:
    """Heads of :func:`label`."""
    names = ("device", "threads", "on")
    return ("model", *(name for name, shown in zip(names, conditions(report), strict=True) if shown))


def name_of(report: Report, row: Measurement | Ratio) -> str:
    """A row's name in a picture, where no head says what a number counts."""
    parts = list(label(report, row))
    if conditions(report)[1]:
        place = 2 if conditions(report)[0] else 1
        parts[place] = "1 thread" if row.threads == 1 else f"{row.threads} threads"
    return ", ".join(parts)


def told_ratio(found: Ratio) -> str:
    """A ratio with its interval: three decimals, one where it is large."""
    digits = 3 if found.value < 10 else 1
    return f"{found.value:.{digits}f} {bounds(found.interval, digits)}"


def ratio_of(report: Report, row: Measurement) -> Ratio | None:
    """The ratio that belongs to a row."""
    key = (row.model, row.device, row.threads, row.accelerator)
    return next((r for r in report.ratios if (r.model, r.device, r.threads, r.accelerator) == key), None)


def headline(report: Report, *, pictures: bool = True) -> Rows:
    """The table that a reader sees first."""
    baseline = report.ratios[0].baseline if report.ratios else None
    columns = [*label_columns(report), "median ms", "p90", "p99", "min"]
    columns += ["ratio"] if baseline else []
    columns += ["runs"]
    rows = [_headline_row(report, row, baseline) for row in report.measurements]
    if pictures:
        columns.append("min to p99")
        rows = [
            (*cells, histogram(row.runs.times_s)) for cells, row in zip(rows, report.measurements, strict=True)
        ]
    against = f"; ratio: time over that of {baseline}" if baseline else ""
    title = f"Inference, ms, with {100 * CONFIDENCE:.0f} % intervals{against}"
    return Rows(title, tuple(columns), tuple(rows), len(label_columns(report)))


def _headline_row(report: Report, row: Measurement, baseline: str | None) -> tuple[str, ...]:
    figures = row.statistics
    compared = (_compared(report, row, baseline),) if baseline else ()
    if figures is None:
        return (*label(report, row), row.failure or NONE, NONE, NONE, NONE, *compared, "0")
    percentiles = (milliseconds(v) for v in (figures.p90_s, figures.p99_s, figures.min_s))
    return (*label(report, row), _typical(figures), *percentiles, *compared, str(figures.count))


def _typical(figures: Statistics) -> str:
    """The median with its interval; where a tool tells no median, the mean."""
    digits = 2 if figures.typical_s >= 1e-3 else 3
    interval = bounds(figures.median_interval, digits, 1e3)
    words = (milliseconds(figures.typical_s), interval if figures.p50_s is not None else "(mean)")
    return " ".join(filter(None, words))


def _compared(report: Report, row: Measurement, baseline: str) -> str:
    found = ratio_of(report, row)
    if found is None:
        return "1" if row.model == baseline else NONE
    return told_ratio(found)


def pipeline(report: Report) -> Rows | None:
    """Stages, cold start, memory and the machine's limit; None where nothing of it was measured."""
    rows = [row for row in report.measurements if row.stages or row.cold_start or row.memory or row.limit]
    if not rows:
        return None
    stages = next((tuple(time.stage.value for time in row.stages) for row in rows if row.stages), ())
    tail = ("cold start", "file MB", "peak MB", "of it model", "x limit", "bound")
    columns = (*label_columns(report), *stages, *tail)
    title = "Pipeline, ms (medians); one cold start, ms; peak memory; time over the machine's limit"
    return Rows(
        title, columns, tuple(_pipeline_row(report, row, len(stages)) for row in rows), len(label_columns(report))
    )


def _pipeline_row(report: Report, row: Measurement, stages: int) -> tuple[str, ...]:
    times = [milliseconds(time.statistics.typical_s) for time in row.stages] or [NONE] * stages
    start = NONE if row.cold_start is None else f"{1e3 * row.cold_start.total_s:.0f}"
    memory = (None, None) if row.memory is None else (row.memory.peak_bytes, row.memory.model_bytes)
    limit = (NONE, NONE) if row.limit is None else (f"{row.limit.measured_over_limit:.1f}", row.limit.bound.value)
    size = megabytes(report.model(row.model).size_bytes)
    return (*label(report, row), *times, start, size, *(megabytes(v) for v in memory), *limit)


def comparison_rows(found: Comparison, reports: tuple[Report, Report]) -> Rows:
    """Two reports as a table."""
    threads = len({change.threads for change in found.changes}) > 1
    columns = (
        "model",
        *(("threads",) if threads else ()),
        "before ms",
        "after ms",
        "after / before",
        "interval",
        "",
    )
    rows = tuple(
        (
            change.name,
            *((str(change.threads),) if threads else ()),
            milliseconds(change.before_s),
            milliseconds(change.after_s),
            f"{change.growth + 1:.3f}",
            bounds(None if change.ratio is None else change.ratio.interval, 3),
            change.outcome.value,
        )
        for change in found.changes
    )
    days = " and ".join(report.created for report in reports)
    return Rows(f"Reports of {days}", columns, rows, 2 if threads else 1)


def operators(report: Report) -> tuple[Rows, ...]:
    """Where the time goes, for each measurement that tells it; the longest first."""
    return tuple(_operators(report, row) for row in report.measurements if row.operators)


def _operators(report: Report, row: Measurement) -> Rows:
    total_s = sum(entry.time_s for entry in row.operators) or 1.0
    longest = sorted(row.operators, key=lambda entry: -entry.time_s)[:_OPERATORS]
    rows = tuple(
        (o.name, o.kind, str(o.count), milliseconds(o.time_s), f"{100 * o.time_s / total_s:.1f}") for o in longest
    )
    title = f"Operators of {' '.join(label(report, row))}"
    return Rows(title, ("operator", "kind", "count", "ms", "%"), rows, 2)


def published(report: Report) -> Rows | None:
    """Figures of others; None where the report shows none."""
    if not report.published:
        return None
    rows = tuple((p.device, p.model, p.runtime, f"{1e3 * p.latency_s:g} ms", p.source) for p in report.published)
    return Rows("Figures of others", ("device", "model", "runtime", HEADING, "source"), rows, 5)


def status_line(report: Report) -> str | None:
    """What a partial report begins with."""
    if report.status is Status.COMPLETE:
        return None
    return "PARTIAL: the benchmark was stopped before its end; what is missing was not measured"
