"""What a person looks at first: how the times are spread, and whether they are stable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evit_edge.benchmark.figures import Interval, Runs, Statistics
from evit_edge.benchmark.presentation import bounds, milliseconds, name_of, told_ratio
from evit_edge.benchmark.report import Measurement, Ratio, Report
from evit_edge.benchmark.svg import Scale, bottom_axis, element, hint, left_axis, picture, text

WIDTH, LEFT, RIGHT, TOP = 960.0, 250.0, 20.0, 12.0
COLOURS = 8
_ROW, _BINS, _BUCKETS = 44.0, 80, 400
_SERIES, _GAP = 110.0, 34.0
_LONG_TAIL, _WIDE = 4.0, 3.0
_NAME = 30

Values = npt.NDArray[np.float64]


def distributions(report: Report) -> str:
    """A histogram a row, with median, its interval, and the 90th and 99th percentile."""
    rows = [row for row in report.measurements if row.statistics is not None]
    if not rows:
        return ""
    scale = _shared_scale([row.statistics for row in rows if row.statistics is not None])
    bottom = TOP + _ROW * len(rows)
    parts = bottom_axis(scale, bottom, TOP, "ms" + (", logarithmic" if scale.logarithmic else ""))
    for i, row in enumerate(rows):
        parts += _distribution(report, row, scale, TOP + _ROW * i, i)
    return picture(WIDTH, bottom + 34, "Distribution of the run times", parts)


def _shared_scale(figures: Sequence[Statistics]) -> Scale:
    low = 1e3 * min(f.min_s for f in figures)
    high = 1e3 * max(f.max_s if f.p99_s is None else min(1.15 * f.p99_s, f.max_s) for f in figures)
    low, high = 0.95 * low, max(high, 1.05 * low)
    return Scale(low, high, LEFT, WIDTH - RIGHT, logarithmic=high > _LONG_TAIL * low)


def _distribution(report: Report, row: Measurement, scale: Scale, top: float, index: int) -> list[str]:
    figures = row.statistics
    if figures is None:
        return []
    base, name = top + _ROW - 6, name_of(report, row)
    parts = [
        text(LEFT - 10, base - 12, _short(name), css="name", anchor="end"),
        _bars(row.runs, scale, base, index),
    ]
    if figures.median_interval is not None:
        parts.append(_span(figures.median_interval, scale, top + 4, base))
    marks = (("p50", figures.p50_s or figures.mean_s), ("p90", figures.p90_s), ("p99", figures.p99_s))
    for mark, value in marks:
        if value is not None:
            x = scale(1e3 * value)
            told = hint(f"{name}: {mark} {milliseconds(value)} ms")
            parts.append(element("line", told, x1=x, y1=top + 4, x2=x, y2=base, class_=f"mark {mark}"))
    return parts


def _bars(runs: Runs, scale: Scale, base: float, index: int) -> str:
    """The histogram's outline as one path."""
    if not runs.times_s:
        return ""
    edges = np.linspace(scale.start, scale.end, _BINS + 1)
    pixels = [scale(1e3 * time) for time in runs.times_s if 1e3 * time <= scale.high]
    counts, _ = np.histogram(pixels, bins=edges)
    tall = (_ROW - 12) * counts / max(int(counts.max()), 1)
    steps = "".join(f"V{base - h:.1f}H{x:.1f}" for h, x in zip(tall, edges[1:], strict=True))
    return element("path", d=f"M{edges[0]:.1f} {base:.1f}{steps}V{base:.1f}Z", class_=f"bars c{index % COLOURS}")


def _span(interval: Interval, scale: Scale, top: float, base: float) -> str:
    low, high = scale(1e3 * interval.low), scale(1e3 * interval.high)
    told = hint(f"median's {100 * interval.confidence:.0f} % interval {bounds(interval, 3, 1e3)} ms")
    return element("rect", told, x=low, y=top, width=max(high - low, 1), height=base - top, class_="interval")


def time_series(report: Report) -> str:
    """Every run over time: the middle of neighbouring runs as a line, their extent as a band."""
    series = [(name_of(report, row), row.runs, i) for i, row in enumerate(report.measurements)]
    series += [(f"reference loop, {device.id}", device.reference, -1) for device in report.devices]
    series = [entry for entry in series if len(entry[1].starts_s) > 1]
    if not series:
        return ""
    first = min(min(runs.starts_s) for _, runs, _ in series)
    last = max(max(runs.starts_s) for _, runs, _ in series)
    across = Scale(first, last, LEFT, WIDTH - RIGHT)
    parts: list[str] = []
    top = TOP
    for name, runs, index in series:
        parts += _one_series(name, runs, index, across, top)
        top += _SERIES + _GAP
    parts += bottom_axis(across, top - _GAP, TOP, "seconds since the start")
    return picture(WIDTH, top, "Run times over time", parts)


def starts(report: Report) -> str:
    """Where a tool gives figures of each of its starts and no single times: mean and extent, start by start."""
    rows = [(i, row) for i, row in enumerate(report.measurements) if len(row.starts) > 1]
    if not rows:
        return ""
    across = Scale(1, max(len(row.starts) for _, row in rows), LEFT, WIDTH - RIGHT)
    parts: list[str] = []
    top = TOP
    for index, row in rows:
        low, mean, most = (
            1e3 * np.array(column)
            for column in zip(*((start.min_s, start.mean_s, start.max_s) for start in row.starts), strict=True)
        )
        up = _upwards(low, mean, top, most_ms=float(most.max()))
        numbers: Values = np.arange(1, len(row.starts) + 1).astype(np.float64)
        parts += _one_plot(name_of(report, row), up, top)
        parts += _curve((low, mean, most, numbers), across, up, f"c{index % COLOURS}")
        for x, y in zip(numbers.tolist(), mean.tolist(), strict=True):
            told = hint(f"start {x:.0f}: mean {y:.3g} ms")
            parts.append(element("circle", told, cx=across(x), cy=up(y), r=3, class_="dot"))
        top += _SERIES + _GAP
    parts += bottom_axis(across, top - _GAP, TOP, "start of the tool")
    return picture(WIDTH, top, "Figures of each start", parts)


def _one_series(name: str, runs: Runs, index: int, across: Scale, top: float) -> list[str]:
    times = 1e3 * np.array(runs.times_s)
    up = _upwards(times, times, top)
    parts = _one_plot(name, up, top)
    parts += [_new_load(across(moment), top) for moment in _load_starts(runs)]
    colour = "reference" if index < 0 else f"c{index % COLOURS}"
    return parts + _curve(_buckets(times, np.array(runs.starts_s)), across, up, colour)


def _upwards(low: Values, typical: Values, top: float, most_ms: float | None = None) -> Scale:
    """A vertical scale in ms from a tenth below the least to the 99th percentile, or to ``most_ms``."""
    least = float(low.min())
    high = max(float(np.quantile(typical, 0.99)) if most_ms is None else most_ms, 1.02 * least)
    return Scale(0.9 * least, 1.05 * high, top + _SERIES, top + 4)


def _one_plot(name: str, up: Scale, top: float) -> list[str]:
    """A plot's name and its lines."""
    words = text(LEFT - 46, top + _SERIES / 2, _short(name), css="name", anchor="end")
    return [words, *left_axis(up, LEFT, WIDTH - RIGHT)]


def _curve(points: tuple[Values, Values, Values, Values], across: Scale, up: Scale, colour: str) -> list[str]:
    """A line of the middle values in a band from the least to the most; the last column is where."""
    low, middle, most, moments = points
    there = [f"{across(x):.1f} {up(y):.1f}" for x, y in zip(moments, most, strict=True)]
    back = [f"{across(x):.1f} {up(y):.1f}" for x, y in zip(moments[::-1], low[::-1], strict=True)]
    line = [f"{across(x):.1f} {up(y):.1f}" for x, y in zip(moments, middle, strict=True)]
    return [
        element("path", d=f"M{'L'.join(there + back)}Z", class_=f"band {colour}"),
        element("path", d=f"M{'L'.join(line)}", class_=f"line {colour}"),
    ]


def _buckets(times: Values, starts: Values) -> tuple[Values, Values, Values, Values]:
    """Least, median, most and moment of neighbouring runs, in at most ``_BUCKETS`` groups."""
    groups = [g for g in np.array_split(np.argsort(starts, kind="stable"), min(_BUCKETS, len(times))) if len(g)]
    return (
        np.array([times[g].min() for g in groups]),
        np.array([np.median(times[g]) for g in groups]),
        np.array([times[g].max() for g in groups]),
        np.array([starts[g].mean() for g in groups]),
    )


def _load_starts(runs: Runs) -> list[float]:
    """When a model was loaded afresh."""
    pairs = zip(runs.loads[:-1], runs.loads[1:], runs.starts_s[1:], strict=True) if runs.loads else ()
    return [start for before, now, start in pairs if now != before]


def _new_load(x: float, top: float) -> str:
    return element("line", hint("loaded afresh"), x1=x, y1=top + 4, x2=x, y2=top + _SERIES, class_="load")


def stage_bars(report: Report) -> str:
    """The pipeline's steps, one bar a model."""
    rows = [row for row in report.measurements if row.stages]
    if not rows:
        return ""
    totals = [1e3 * sum(stage.statistics.typical_s for stage in row.stages) for row in rows]
    scale = Scale(0, max(totals), LEFT, WIDTH - RIGHT - 60)
    names = [stage.stage.value for stage in rows[0].stages]
    top, bottom = TOP + 22, TOP + 22 + 30 * len(rows)
    parts = _legend(names) + bottom_axis(scale, bottom, top, "ms, medians")
    for i, (row, total) in enumerate(zip(rows, totals, strict=True)):
        y, at = top + 30 * i + 5, 0.0
        parts.append(text(LEFT - 10, y + 14, _short(name_of(report, row)), css="name", anchor="end"))
        for j, stage in enumerate(row.stages):
            value = 1e3 * stage.statistics.typical_s
            told = hint(f"{stage.stage.value}: {value:.3g} ms")
            x, width = scale(at), scale(at + value) - scale(at)
            parts.append(element("rect", told, x=x, y=y, width=width, height=20, class_=f"stage s{j}"))
            at += value
        parts.append(text(scale(total) + 6, y + 14, f"{total:.3g} ms", css="tick"))
    return picture(WIDTH, bottom + 34, "Times of the pipeline's steps", parts)


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], LEFT
    for j, name in enumerate(names):
        parts.append(element("rect", x=x, y=TOP - 8, width=12, height=12, class_=f"stage s{j}"))
        parts.append(text(x + 17, TOP + 3, name, css="tick"))
        x += 40 + 7 * len(name)
    return parts


def ratio_bars(report: Report) -> str:
    """Each ratio with its interval, and a line at 1."""
    if not report.ratios:
        return ""
    limits = [v for r in report.ratios for v in (r.interval.low, r.interval.high)]
    low, high = 0.95 * min(*limits, 1.0), 1.05 * max(*limits, 1.0)
    scale = Scale(low, high, LEFT, WIDTH - RIGHT - 150, logarithmic=high > _WIDE * low)
    bottom = TOP + 28 * len(report.ratios)
    parts = bottom_axis(scale, bottom, TOP, f"time / time of {report.ratios[0].baseline}")
    parts.append(element("line", x1=scale(1), y1=TOP, x2=scale(1), y2=bottom, class_="one"))
    for i, found in enumerate(report.ratios):
        parts += _ratio(report, found, scale, TOP + 28 * i + 14)
    return picture(WIDTH, bottom + 34, "Ratios with their intervals", parts)


def _ratio(report: Report, found: Ratio, scale: Scale, y: float) -> list[str]:
    told = told_ratio(found)
    x1, x2 = scale(found.interval.low), scale(found.interval.high)
    return [
        text(LEFT - 10, y + 4, _short(name_of(report, found)), css="name", anchor="end"),
        element("line", x1=x1, y1=y, x2=x2, y2=y, class_="whisker"),
        element("circle", hint(told), cx=scale(found.value), cy=y, r=4, class_="dot"),
        text(WIDTH - RIGHT - 140, y + 4, told, css="tick"),
    ]


def _short(name: str) -> str:
    """The end of a long name, where names differ."""
    return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"
