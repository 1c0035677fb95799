"""Running a model until its times have settled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import numpy as np

from evit_edge.benchmark.figures import Warmup

WINDOWS, TOLERANCE, LONGEST_S = 3, 0.05, 3.0
_WINDOW_RUNS, _WINDOW_S = 5, 0.03
_SETTLE_RUNS, _SETTLE_S = 3, 0.010

RULE = (
    f"until the lower quartiles of {WINDOWS} windows in a row lie within {100 * TOLERANCE:.0f} % of each other "
    f"(a window: at least {_WINDOW_RUNS} runs and {1e3 * _WINDOW_S:.0f} ms), {LONGEST_S:.0f} s at most; "
    f"after each further load at least {_SETTLE_RUNS} runs and {1e3 * _SETTLE_S:.0f} ms"
)


def warm_up(run: Callable[[], object], stop: threading.Event) -> tuple[Warmup, float]:
    """Warm up by :data:`RULE`.

    Returns:
        What it took, and the shortest time of a run in seconds, which a busy machine changes least.
    """
    started = time.perf_counter()
    quartiles: list[float] = []
    runs, stable, shortest_s = 0, False, float("inf")
    while not stable and not stop.is_set() and (time.perf_counter() - started < LONGEST_S or not quartiles):
        times = _window(run, _WINDOW_RUNS, _WINDOW_S)
        runs, shortest_s = runs + len(times), min(shortest_s, *times)
        quartiles.append(float(np.quantile(times, 0.25)))
        last = quartiles[-WINDOWS:]
        stable = len(last) == WINDOWS and max(last) <= (1 + TOLERANCE) * min(last)
    if not quartiles:  # stopped before the first window
        runs, shortest_s = 1, _window(run, 1, 0.0)[0]
    return Warmup(runs, time.perf_counter() - started, stable), shortest_s


def settle_all(invocations: Iterable[Callable[[], object]]) -> None:
    """Run each a few times after a further load, so that its memory has been touched."""
    for run in invocations:
        _window(run, _SETTLE_RUNS, _SETTLE_S)


def _window(run: Callable[[], object], least_runs: int, least_s: float) -> list[float]:
    times: list[float] = []
    total = 0.0
    while len(times) < least_runs or total < least_s:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        total += times[-1]
    return times
