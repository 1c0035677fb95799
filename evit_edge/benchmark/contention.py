"""What else the machine does while a model is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_QUOTA = (Path("/sys/fs/cgroup/cpu.stat"), Path("/sys/fs/cgroup/cpu/cpu.stat"))
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)


@dataclass(frozen=True)
class Load:
    """How the cores that this process may use were shared during a while.

    Attributes:
        duration_s: Of the while.
        own_cores: Cores that this process kept busy, on average.
        other_cores: Cores that others kept busy, the hypervisor's other guests among them.
        idle_cores: Cores that nobody used.
    """

    duration_s: float
    own_cores: float
    other_cores: float
    idle_cores: float


@dataclass(frozen=True)
class _Ticks:
    moment_s: float
    own_s: float
    busy_s: float
    idle_s: float


class LoadMeter:
    """Tells the load since it was last asked. Where the system shows nothing, it tells None."""

    def __init__(self) -> None:
        self._last = _ticks()

    def read(self) -> Load | None:
        """The load since the last call."""
        before, self._last = self._last, _ticks()
        now = self._last
        if before is None or now is None or now.moment_s <= before.moment_s:
            return None
        span = now.moment_s - before.moment_s
        own = (now.own_s - before.own_s) / span
        busy, idle = (now.busy_s - before.busy_s) / span, (now.idle_s - before.idle_s) / span
        return Load(span, own, max(0.0, busy - own), max(0.0, idle))


def _ticks() -> _Ticks | None:
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    usable = {f"cpu{core}" for core in affinity()}
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    busy = idle = 0.0
    for name, *values in (line.split() for line in lines if line.startswith("cpu")):
        if name in usable:
            ticks = [int(value) for value in values[: _STEAL + 1]]
            resting = ticks[_IDLE] + ticks[_IOWAIT]
            busy, idle = busy + sum(ticks) - resting, idle + resting
    own = os.times()
    return _Ticks(time.perf_counter(), own.user + own.system, busy * tick_s, idle * tick_s)


def affinity() -> tuple[int, ...]:
    """Cores that this process may use; empty where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def switch_counter(threads: int) -> Callable[[], int]:
    """A function that counts the times the system took the core away: from this thread, or from all.

    Args:
        threads: That the engine computes with; where it is 1 and the system can tell, only this thread counts.
    """
    try:
        import resource
    except ImportError:  # Windows
        return lambda: 0
    usage = resource.getrusage
    who = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF) if threads == 1 else resource.RUSAGE_SELF
    return lambda: usage(who).ru_nivcsw


def quota_throttled_s() -> float | None:
    """Seconds for which a container's CPU quota has stopped its processes so far; None where there is none."""
    for path in _QUOTA:
        try:
            fields = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
        except (OSError, ValueError):
            continue
        if "throttled_usec" in fields:
            return int(fields["throttled_usec"]) / 1e6
        if "throttled_time" in fields:
            return int(fields["throttled_time"]) / 1e9
    return None
