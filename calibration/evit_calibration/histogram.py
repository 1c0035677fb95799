"""A histogram of a stream of floats: bounded memory, one pass, the same result in whatever order they come."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

DEFAULT_BINS = 4096
_CHUNK = 1 << 16  # values; their scaled copies then stay in the second-level cache
_SMALLEST_EXPONENT = -100  # bins of 1e-30: finer ones would overflow the reciprocal, and mean zero anyway


class StreamingHistogram:
    """Counts of a stream in bins whose width is a power of two and whose edges are its multiples.

    The width is the smallest power of two with which ``bins`` bins on either side of zero hold all values so far.
    Where a value falls outside, the width doubles as often as needed and neighbours are added up. Edges of wide
    bins are edges of narrow ones, and scaling by a power of two is exact, so the counts depend on the values
    alone: neither on their order nor on how the stream was cut into arrays.

    Attributes:
        bins: Bins on either side of zero, a power of two. Memory is 16 * bins bytes, whatever the stream.
        minimum: Smallest value so far, inf before the first.
        maximum: Largest value so far, -inf before the first.
        size: Number of values so far.
    """

    def __init__(self, bins: int = DEFAULT_BINS) -> None:
        if bins < 2 or bins & (bins - 1):
            raise ValueError(f"{bins} bins given; a power of two, at least 2, is needed")
        self.bins = bins
        self.minimum = math.inf
        self.maximum = -math.inf
        self.size = 0
        self._exponent: int | None = None
        # Bin bins + i, i >= 0, counts i * width <= x < (i + 1) * width; bin bins - 1 - i the same of -x, x < 0.
        self._counts = np.zeros(2 * bins, np.int64)

    @property
    def width(self) -> float:
        """Width of a bin; 0 before the first value."""
        return 0.0 if self._exponent is None else math.ldexp(1.0, self._exponent)

    def add(self, values: Floats) -> None:
        """Count values.

        Args:
            values: float32, any shape, finite (see :func:`finite_extremes`).

        Raises:
            ValueError: A value is not finite.
        """
        if values.size == 0:
            return
        low, high = finite_extremes(values)
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.size += values.size
        self._widen(max(-low, high))
        flat = values.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            self._counts += self._binned(flat[start : start + _CHUNK])

    def percentile(self, percent: float) -> float:
        """Estimate a percentile of all values, interpolating linearly as ``numpy.percentile`` does.

        Args:
            percent: 0..100.

        Returns:
            The estimate; at most one bin width off, never outside minimum..maximum.

        Raises:
            ValueError: There are no values yet, or percent lies outside 0..100.
        """
        if self.size == 0 or not 0 <= percent <= 100:
            raise ValueError(
                f"percentile {percent} of {self.size} values; at least one value and 0..100 are needed"
            )
        rank = percent / 100 * (self.size - 1)
        below = math.floor(rank)
        lower, upper = self._value_at(below), self._value_at(min(below + 1, self.size - 1))
        return lower + (upper - lower) * (rank - below)

    def occupied(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """The bins that hold values: their centres, ascending, float64 (N,), and their counts, int64 (N,)."""
        index = np.flatnonzero(self._counts)
        centres = (index.astype(np.float64) - self.bins + 0.5) * self.width
        return centres, self._counts[index]

    def _binned(self, chunk: Floats) -> npt.NDArray[np.int64]:
        index = (chunk * np.float32(1 / self.width)).astype(np.int64)
        # Not floor: a tiny negative value may underflow to -0 when scaled, and would change sides.
        index -= chunk < 0
        index += self.bins
        return np.bincount(index, minlength=2 * self.bins)

    def _widen(self, largest: float) -> None:
        """Make room for values of that magnitude."""
        # frexp: largest < 2**exponent, so largest / width stays below bins.
        exponent = math.frexp(largest)[1] - self.bins.bit_length() + 1
        needed = max(exponent, _SMALLEST_EXPONENT) if largest else _SMALLEST_EXPONENT
        if self._exponent is None:
            self._exponent = needed
        doublings = needed - self._exponent
        if doublings <= 0:
            return
        step = min(1 << min(doublings, 62), self.bins)
        merged = self._counts.reshape(-1, step).sum(axis=1)
        self._counts = np.zeros_like(self._counts)
        half = merged.size // 2
        self._counts[self.bins - half : self.bins + half] = merged
        self._exponent = needed

    def _value_at(self, rank: int) -> float:
        """Estimate the rank-th smallest value, counted from 0: the values of a bin are spread evenly over it."""
        if rank in (0, self.size - 1):
            return self.maximum if rank else self.minimum
        cumulated = np.cumsum(self._counts)
        index = int(np.searchsorted(cumulated, rank, side="right"))
        count = int(self._counts[index])
        place = (rank - (int(cumulated[index]) - count) + 0.5) / count
        return min(max((index - self.bins + place) * self.width, self.minimum), self.maximum)


def finite_extremes(values: Floats) -> tuple[float, float]:
    """Smallest and largest value.

    Args:
        values: float32, any shape, at least one value.

    Raises:
        ValueError: One is NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())  # NaN wins both
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = np.count_nonzero(~np.isfinite(values))
        raise ValueError(f"{bad} of {values.size} values are NaN or infinite")
    return low, high
