"""Figures of run times, their intervals, ratios and trends, on times that are skewed and not independent.

Times of one load of a model belong together: they share the place of its memory, which changes a model's time by
several per cent, and the disturbances of that moment. So whatever has an interval is computed from one value a
load, and the bootstrap draws loads, never single runs (a block bootstrap whose blocks are the loads).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from evit_edge.benchmark.figures import Interval, Runs, Statistics
from evit_edge.errors import ReportError

CONFIDENCE = 0.99
"""Of every interval here: with 95 %, one of twenty comparisons of a model with itself would find a difference."""

RESAMPLES = 2000
MIN_LOADS = 8
"""Fewer loads cannot carry an interval: in simulations, five give 94 to 95 % instead of 99 %, eight 98 %."""

_BLOCKS = 20
_LEAST_SWITCHED = 0.25
_UNDISTURBED = 0.1
_CHUNK = 256

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: The estimate.
        interval: Around it.
        units: Loads, or blocks of runs, that it rests on.
    """

    value: float
    interval: Interval
    units: int


@dataclass(frozen=True)
class Trend:
    """How values change over time.

    Attributes:
        change: Relative change from the first to the last moment, such as 0.05 for 5 % slower (Theil and Sen).
        interval: Of the change.
        p_value: Two-sided, of Mann and Kendall's test that there is none.
    """

    change: float
    interval: Interval
    p_value: float


def percentile(times: Values, share: float) -> float:
    """The smallest of the times that at least a share of them does not exceed: an order statistic.

    numpy's ``quantile(..., method="inverted_cdf")``, definition 1 of Hyndman and Fan, "Sample quantiles in
    statistical packages", 1996. It is always a time that was measured.

    Args:
        times: (N,), N at least 1, in any order.
        share: In (0, 1].
    """
    return float(np.quantile(times, share, method="inverted_cdf"))


def describe(runs: Runs, seed: int = 0) -> Statistics:
    """Figures of all runs.

    Raises:
        ReportError: There is no run.
    """
    if not runs.times_s:
        raise ReportError("figures of no run asked for; at least one is needed")
    times = np.array(runs.times_s)
    return Statistics(
        count=len(times),
        min_s=float(times.min()),
        # fsum, and held between both ends: a mean of equal times must be that time
        mean_s=min(max(math.fsum(times) / len(times), float(times.min())), float(times.max())),
        max_s=float(times.max()),
        std_s=float(times.std(ddof=1)) if len(times) > 1 else None,
        p50_s=percentile(times, 0.5),
        p90_s=percentile(times, 0.9),
        p99_s=percentile(times, 0.99),
        median_interval=_median_interval(runs, seed),
    )


def _median_interval(runs: Runs, seed: int) -> Interval | None:
    """Of the median, drawing whole loads; None for a single run."""
    times, labels = np.array(runs.times_s), _labels(runs)
    groups = [times[labels == label] for label in np.unique(labels)]
    if len(groups) < 2:
        return None
    draws = _draws(len(groups), seed)
    sizes = np.array([len(group) for group in groups])
    order = np.argsort(np.concatenate(groups), kind="stable")
    ordered = np.concatenate(groups)[order]
    owner = np.repeat(np.arange(len(groups)), sizes)[order]
    medians = np.empty(len(draws))
    for i, draw in enumerate(draws):
        weight = np.cumsum(np.bincount(draw, minlength=len(groups))[owner])
        medians[i] = ordered[np.searchsorted(weight, weight[-1] / 2)]
    return _expanded(medians, len(groups))


def ratio(model: Runs, baseline: Runs, seed: int = 0) -> Estimate:
    """How long a model takes compared with another that ran in turns with it.

    Each load of both gives one ratio of their undisturbed times (:func:`locations`); their Hodges-Lehmann
    location is the estimate. Where there were too few loads, blocks of neighbouring rounds take their place.

    Args:
        model: Runs of the one.
        baseline: Runs of the other, from the same session.
        seed: Of the bootstrap.

    Raises:
        ReportError: They share fewer than two loads or blocks.
    """
    first, second = locations(model), locations(baseline)
    shared = sorted(first.keys() & second.keys())
    if len(shared) < 2:
        raise ReportError(f"a ratio from {len(shared)} shared loads asked for; at least 2 are needed")
    logs = np.array([math.log(first[unit] / second[unit]) for unit in shared])
    draws = logs[_draws(len(logs), seed)]
    return _exponential(hodges_lehmann(logs[None])[0], hodges_lehmann(draws), len(logs))


def ratio_across(model: Runs, baseline: Runs, seed: int = 0) -> Estimate:
    """The same for runs of different sessions: loads are drawn from each by itself.

    Raises:
        ReportError: Either has fewer than two loads or blocks.
    """
    sides = [np.log(np.array(list(locations(runs).values()))) for runs in (model, baseline)]
    units = min(len(side) for side in sides)
    if units < 2:
        raise ReportError(f"a ratio from {units} loads asked for; at least 2 are needed")
    centres = [hodges_lehmann(side[None])[0] for side in sides]
    drawn = [hodges_lehmann(side[_draws(len(side), seed + i)]) for i, side in enumerate(sides)]
    return _exponential(centres[0] - centres[1], drawn[0] - drawn[1], units)


def _exponential(centre: float, draws: Values, units: int) -> Estimate:
    interval = _expanded(draws, units)
    low, high = min(interval.low, centre), max(interval.high, centre)
    return Estimate(math.exp(centre), Interval(math.exp(low), math.exp(high), CONFIDENCE), units)


def locations(runs: Runs) -> dict[int, float]:
    """The undisturbed time of each load: the lowest decile of its runs' times without interruptions.

    An interrupted run counts with the time for which it had the core, where that is known. Where it is not, only
    the least interrupted runs count: those with no more involuntary context switches than the quarter of the
    load's runs that has the fewest. The lowest decile, since others can only make a run longer, by what they leave
    in the caches too: by the median, a model with 10 % more work was seen to be 14 % slower on a crowded machine,
    by the decile 12 %, and models compared with themselves agreed better.

    Returns:
        Load, or block of rounds where there were fewer than ``MIN_LOADS`` loads, to seconds.
    """
    times, labels = _uninterrupted(runs), _labels(runs)
    switches = np.array(runs.switches if runs.switches and not runs.cpu_s else (0,) * len(times))
    typical: dict[int, float] = {}
    for label in np.unique(labels):
        mine, interruptions = times[labels == label], switches[labels == label]
        calm = mine[interruptions <= percentile(interruptions, _LEAST_SWITCHED)]
        typical[int(label)] = float(np.quantile(calm, _UNDISTURBED))
    return typical


def _uninterrupted(runs: Runs) -> Values:
    """Times, and of interrupted runs the time for which they had the core."""
    times = np.array(runs.times_s)
    if not runs.cpu_s or not runs.switches:
        return times
    interrupted = (np.array(runs.switches) > 0) & (np.array(runs.cpu_s) > 0)
    return np.where(interrupted, np.array(runs.cpu_s), times)


def _labels(runs: Runs) -> npt.NDArray[np.int64]:
    """The load of each run, or the block that stands in for it; blocks start where a round does."""
    count = len(runs.times_s)
    loads = np.array(runs.loads or [0] * count, dtype=np.int64)
    if len(np.unique(loads)) >= MIN_LOADS:
        return loads
    rounds = np.array(runs.rounds or range(count), dtype=np.int64)
    distinct = int(rounds.max(initial=0)) + 1
    blocks: npt.NDArray[np.int64] = rounds * min(_BLOCKS, distinct) // distinct
    return blocks


def hodges_lehmann(samples: Values) -> Values:
    """Median of all pairs' means, each value with itself among them: nearly as precise as the mean, robust.

    Source: J. L. Hodges and E. L. Lehmann, "Estimates of location based on rank tests", 1963.

    Args:
        samples: (S, N), N at least 1.

    Returns:
        (S,).
    """
    i, j = np.triu_indices(samples.shape[1])
    parts = (samples[start : start + _CHUNK] for start in range(0, len(samples), _CHUNK))
    centre: Values = np.concatenate([np.median((part[:, i] + part[:, j]) / 2, axis=1) for part in parts])
    return centre


def trend(moments_s: Values, values: Values) -> Trend | None:
    """Whether values rise or fall over time.

    Source: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968.

    Args:
        moments_s: (N,), when each was measured.
        values: (N,), positive.

    Returns:
        The change over the whole time; None for fewer than five values, or no time between them.
    """
    n = len(values)
    i, j = np.triu_indices(n, 1)
    apart = moments_s[j] - moments_s[i]
    if n < 5 or not (apart > 0).any():
        return None
    logs = np.log(values)
    rises = logs[j] - logs[i]
    slopes = np.sort((rises / np.where(apart > 0, apart, np.nan))[apart > 0])
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    score = float(np.sign(rises).sum())
    z = (score - math.copysign(1, score)) / deviation if score else 0.0
    reach = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * deviation
    low, high = round((len(slopes) - reach) / 2) - 1, round((len(slopes) + reach) / 2)
    limits = (slopes[max(low, 0)], slopes[min(high, len(slopes) - 1)])
    span = float(moments_s.max() - moments_s.min())
    change, least, most = (math.expm1(slope * span) for slope in (float(np.median(slopes)), *limits))
    return Trend(change, Interval(least, most, CONFIDENCE), 2 * NormalDist().cdf(-abs(z)))


def _draws(units: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, units, (RESAMPLES, units))


def _expanded(draws: Values, units: int) -> Interval:
    """Percentiles of a bootstrap, moved outwards as few units need it.

    Source: T. C. Hesterberg, "What teachers should know about the bootstrap", 2015, section 3.5.
    """
    reach = student_t(0.5 + CONFIDENCE / 2, units - 1) * math.sqrt(units / (units - 1))
    tail = NormalDist().cdf(-reach)
    low, high = np.quantile(draws, (tail, 1 - tail))
    return Interval(float(low), float(high), CONFIDENCE)


@cache
def student_t(share: float, degrees: int) -> float:
    """Quantile of Student's distribution.

    Args:
        share: In (0.5, 1).
        degrees: Degrees of freedom, at least 1.
    """
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    # t = sqrt(degrees) * tan(angle) turns the integral of the density into one of a power of a cosine.
    target = (share - 0.5) / scale
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _cosine_power(middle, degrees - 1) < target else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _cosine_power(angle: float, power: int, steps: int = 400) -> float:
    """Integral of cos**power from 0 to an angle, by Simpson's rule."""
    width = angle / steps
    weights = [1, *([4, 2] * (steps // 2))[: steps - 1], 1]
    return width / 3 * math.fsum(w * math.cos(i * width) ** power for i, w in enumerate(weights))
