"""Two models on the same frames: how often they agree, and how much faster one is."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

from evit_app.labels import Reading

_ENOUGH = 10  # frames before anything is said: the first runs are no measure
_KEPT = 300  # frames whose times count: the last ten seconds at 30 a second


@dataclass(frozen=True)
class Comparison:
    """What two models make of the same frames.

    Attributes:
        frames: How many they saw.
        agreement: Share of them on which both name the same best class, never smoothed; 0..1.
        speed_ratio: Median time of the first over that of the second: above 1 the second is faster.
    """

    frames: int
    agreement: float
    speed_ratio: float


class Tally:
    """Counts. Classes are compared by name: that of two models need not be in the same order."""

    def __init__(self) -> None:
        self._frames = self._same = 0
        self._first_s: deque[float] = deque(maxlen=_KEPT)
        self._second_s: deque[float] = deque(maxlen=_KEPT)

    def add(self, first: Reading, second: Reading) -> None:
        """Note a frame."""
        self._frames += 1
        self._same += first.top1 == second.top1
        self._first_s.append(first.inference_s)
        self._second_s.append(second.inference_s)

    @property
    def comparison(self) -> Comparison | None:
        """What came of it so far; None where too few frames were seen."""
        if self._frames < _ENOUGH:
            return None
        slower, faster = statistics.median(self._first_s), statistics.median(self._second_s)
        ratio = slower / faster if faster > 0 else 1.0
        return Comparison(self._frames, self._same / self._frames, ratio)
