"""How a range follows from a histogram: all values, a percentile, least squared error, least divergence.

A wide range clips nothing and rounds coarsely, a narrow one rounds finely and clips. :func:`least_squares_range`
and :func:`least_divergence_range` weigh one against the other by trying ranges from all values down to a tenth of
that, first both ends together, then each end for itself. They ask the histogram alone, so they are as independent
of the photos' order as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evit_calibration.histogram import StreamingHistogram

Floats = npt.NDArray[np.float64]

LEVELS = 256
_FACTORS = np.linspace(1.0, 0.1, 46)
_TINY = 1e-12


@dataclass(frozen=True)
class Distribution:
    """A histogram's occupied bins.

    Attributes:
        centres: float64 (N,), ascending, between the smallest and the largest value.
        counts: float64 (N,), values in each bin.
    """

    centres: Floats
    counts: Floats


def minmax_range(histogram: StreamingHistogram) -> tuple[float, float]:
    """All values, and zero."""
    return min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)


def percentile_range(histogram: StreamingHistogram, percentile: float) -> tuple[float, float]:
    """Cut the same share off either end; zero stays inside."""
    low, high = histogram.percentile(100 - percentile), histogram.percentile(percentile)
    return min(low, 0.0), max(high, 0.0)


def least_squares_range(histogram: StreamingHistogram) -> tuple[float, float]:
    """The range whose int8 codes have the least mean squared error."""
    return _search(histogram, squared_error)


def least_divergence_range(histogram: StreamingHistogram) -> tuple[float, float]:
    """The range whose int8 codes tell most about the values.

    Source: S. Migacz, "8-bit inference with TensorRT", GPU Technology Conference 2017; there for symmetric codes.
    """
    return _search(histogram, divergence)


def squared_error(values: Distribution, low: float, high: float) -> float:
    """Sum of (value - its code's value) squared over all values, each taken to lie at its bin's centre."""
    step = (high - low) / (LEVELS - 1)
    # The zero point is a code, so codes stand on multiples of the step and not on low + k * step.
    first = round(low / step)
    codes = np.clip(np.round(values.centres / step), first, first + LEVELS - 1)
    return float((values.counts * (values.centres - codes * step) ** 2).sum())


def divergence(values: Distribution, low: float, high: float) -> float:
    """Kullback-Leibler divergence of the coded from the true distribution, in nats.

    What lies outside is counted at the nearest end in the true distribution, and is missing from the coded one:
    that is what clipping costs. A code's values are spread evenly over the occupied bins that it stands for.
    """
    step = (high - low) / (LEVELS - 1)
    first = round(low / step)
    codes = np.round(values.centres / step).astype(np.int64) - first
    inside = (codes >= 0) & (codes < LEVELS)
    if not inside.any():
        return np.inf
    kept = codes[inside]
    true = values.counts[inside].copy()
    sums, bins = np.bincount(kept, true, LEVELS), np.bincount(kept, minlength=LEVELS)
    coded = (sums / np.maximum(bins, 1))[kept]
    true[0] += values.counts[codes < 0].sum()
    true[-1] += values.counts[codes >= LEVELS].sum()
    true, coded = true / true.sum(), coded / coded.sum()
    return float((true * np.log(np.maximum(true, _TINY) / np.maximum(coded, _TINY))).sum())


def _search(
    histogram: StreamingHistogram, cost: Callable[[Distribution, float, float], float]
) -> tuple[float, float]:
    low, high = minmax_range(histogram)
    if high - low <= 0:
        return low, high
    values = _distribution(histogram)

    def best(candidates: list[tuple[float, float]]) -> tuple[float, float]:
        return min(candidates, key=lambda ends: cost(values, *ends))  # of equals the widest, which comes first

    low_found, high_found = best([(low * factor, high * factor) for factor in _FACTORS])
    if low < 0 < high:
        low_found, high_found = best([(low_found, high_found), *((low_found, high * f) for f in _FACTORS)])
        low_found, high_found = best([(low_found, high_found), *((low * f, high_found) for f in _FACTORS)])
    return low_found, high_found


def _distribution(histogram: StreamingHistogram) -> Distribution:
    centres, counts = histogram.occupied()
    return Distribution(np.clip(centres, histogram.minimum, histogram.maximum), counts.astype(np.float64))
