"""How often something happens, how long it takes, and whether it stays that way."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

WINDOW_S = 2.0
"""Rates are of the last two seconds: long enough to read, short enough to follow."""

_SETTLED = 10  # runs before the reference is taken: caches fill, clocks rise
_COMPARED = 60  # runs in the reference and in what is held against it
_SLOWER = 1.25  # beyond this a model is no longer what it was; single runs scatter by a tenth


class RateWindow:
    """Events of the last ``window_s`` seconds. Times must not decrease.

    Args:
        window_s: Length of the window, seconds, positive.
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._times: deque[float] = deque()

    def add(self, time_s: float) -> None:
        """Note an event."""
        self._times.append(time_s)
        self._forget(time_s)

    def rate(self, now_s: float | None = None) -> float | None:
        """Events per second: n events lie n - 1 intervals apart, so (n - 1) / (t_n - t_1).

        Args:
            now_s: Where the window ends; with the last event if not given.

        Returns:
            None where fewer than two events at different times are in the window.
        """
        if now_s is not None:
            self._forget(now_s)
        if len(self._times) < 2 or self._times[-1] <= self._times[0]:
            return None
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    def _forget(self, now_s: float) -> None:
        while self._times and self._times[0] < now_s - self._window_s:
            self._times.popleft()


@dataclass(frozen=True)
class Rates:
    """Four rates that must not be mixed up, each per second; None where there is nothing to tell.

    Attributes:
        camera: Frames that the source delivers.
        inference: Frames that the model could answer back to back: on a clock that runs while it works.
        end_to_end: Frames that got their labels.
        display: Frames that the screen showed with their labels.
    """

    camera: float | None
    inference: float | None
    end_to_end: float | None
    display: float | None


class Steadiness(StrEnum):
    """Whether a model keeps its speed."""

    MEASURING = "measuring"
    STEADY = "steady"
    THROTTLING = "throttling"


class Endurance:
    """Holds the last runs of a model against its first.

    The rule: once ``_SETTLED`` runs are over, the median of the next ``_COMPARED`` is the reference; the median of
    the last ``_COMPARED`` above ``_SLOWER`` times that is called throttling, whatever the
    reason (heat, other load).
    """

    def __init__(self) -> None:
        self._seen = 0
        self._first: list[float] = []
        self._reference_s: float | None = None
        self._last: deque[float] = deque(maxlen=_COMPARED)

    def add(self, inference_s: float) -> None:
        """Note a run."""
        self._seen += 1
        if self._seen <= _SETTLED:
            return
        if len(self._first) < _COMPARED:
            self._first.append(inference_s)
            return
        if self._reference_s is None:
            self._reference_s = statistics.median(self._first)
        self._last.append(inference_s)

    @property
    def verdict(self) -> Steadiness:
        """What came of it so far."""
        if self._reference_s is None or len(self._last) < _COMPARED:
            return Steadiness.MEASURING
        slower = statistics.median(self._last) > _SLOWER * self._reference_s
        return Steadiness.THROTTLING if slower else Steadiness.STEADY
