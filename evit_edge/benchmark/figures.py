"""What one model's measuring gives: raw times, figures of them, and what was measured beside them.

Frozen, and JSON at the edge (:mod:`evit_edge.strict_json`). Seconds and bytes throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from evit_edge.errors import ReportError


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Lower limit.
        high: Upper limit.
        confidence: Share of such intervals that hold the true value, in (0, 1).
    """

    low: float
    high: float
    confidence: float

    def __post_init__(self) -> None:
        """Limits are in order."""
        if not self.low <= self.high or not 0 < self.confidence < 1:
            raise ReportError(f"interval {self.low} to {self.high} with confidence {self.confidence} stated")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Runs:
    """Every timed run, in the order in which it was made.

    Attributes:
        times_s: Duration of each run.
        starts_s: When each began, counted from the start of the session; empty where the tool does not tell.
        rounds: The round of the interleaving that each belongs to; empty where nothing was interleaved.
        loads: Which load of the model each was made with: a model is loaded afresh several times, since where
            its memory lies changes its time; empty where the tool does not tell.
        switches: How often the system took the core away during each; empty where it does not tell.
        cpu_s: For how long each had the core, where one thread did all the work; empty where that is not known.
    """

    times_s: tuple[float, ...] = ()
    starts_s: tuple[float, ...] = ()
    rounds: tuple[int, ...] = ()
    loads: tuple[int, ...] = ()
    switches: tuple[int, ...] = ()
    cpu_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """All are of one length, and times are positive."""
        for name in ("starts_s", "rounds", "loads", "switches", "cpu_s"):
            values = getattr(self, name)
            if values and len(values) != len(self.times_s):
                raise ReportError(f"{len(self.times_s)} times and {len(values)} {name} stated")
        if not all(time > 0 and math.isfinite(time) for time in self.times_s):
            raise ReportError("a run that took no time, or no finite one, is stated")


@dataclass(frozen=True)
class Statistics:
    """Figures of many runs. What a tool does not tell is None.

    Attributes:
        count: Runs.
        min_s: The shortest.
        mean_s: Arithmetic mean.
        max_s: The longest.
        std_s: Sample standard deviation (n - 1); None for one run.
        p50_s: Median: the smallest time that at least half of the runs do not exceed.
        p90_s: The same for 90 %.
        p99_s: The same for 99 %: a time that was measured, never one between two.
        median_interval: Of the median.
    """

    count: int
    min_s: float
    mean_s: float
    max_s: float
    std_s: float | None = None
    p50_s: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None
    median_interval: Interval | None = None

    def __post_init__(self) -> None:
        """One run at least, and the figures in order."""
        known = [v for v in (self.min_s, self.p50_s, self.p90_s, self.p99_s, self.max_s) if v is not None]
        if self.count < 1 or known != sorted(known):
            raise ReportError(f"{self.count} runs with figures {known} stated; one run, figures in order")

    @property
    def typical_s(self) -> float:
        """The figure that tables and comparisons use: the median where it is known, else the mean."""
        return self.mean_s if self.p50_s is None else self.p50_s


@dataclass(frozen=True)
class Warmup:
    """Runs before the timed ones.

    Attributes:
        runs: How many.
        duration_s: How long they took.
        stable: Whether the stated rule was met before the time for it ran out; None where no rule was applied.
    """

    runs: int
    duration_s: float
    stable: bool | None


class Stage(StrEnum):
    """Steps from a photo's file to its label."""

    DECODE = "decode"
    PREPROCESS = "preprocess"
    INFERENCE = "inference"
    POSTPROCESS = "postprocess"


@dataclass(frozen=True)
class StageTime:
    """One step of the pipeline.

    Attributes:
        stage: Which.
        statistics: Of its runs.
    """

    stage: Stage
    statistics: Statistics


@dataclass(frozen=True)
class ColdStart:
    """One start from nothing, in a process of its own.

    Attributes:
        process_s: From the start of the process until its runtime is imported; None where the tool does not tell.
        load_s: Reading the model and making it ready.
        first_inference_s: The first inference.
    """

    process_s: float | None
    load_s: float
    first_inference_s: float

    @property
    def total_s(self) -> float:
        """All that is known."""
        return (self.process_s or 0.0) + self.load_s + self.first_inference_s


@dataclass(frozen=True)
class MemoryUse:
    """Memory of a process of its own that loads the model and runs it.

    Attributes:
        peak_bytes: The most that it held.
        before_bytes: What it held before it loaded the model; None where the tool does not tell.
        method: How it was read, such as ``peak resident set (getrusage)``.
    """

    peak_bytes: int
    before_bytes: int | None
    method: str

    @property
    def model_bytes(self) -> int | None:
        """What the model added to the peak."""
        return None if self.before_bytes is None else max(0, self.peak_bytes - self.before_bytes)


class Bound(StrEnum):
    """What the machine's limit is set by."""

    COMPUTE = "compute"
    MEMORY = "memory"


@dataclass(frozen=True)
class Limit:
    """The least time that the machine's measured peaks allow for a model's work.

    Attributes:
        macs: Multiply-accumulates of one inference.
        traffic_bytes: Bytes that must come from memory: the weights, the input and the output.
        peak: Name of the peak that applies to the multiply-accumulates, such as ``int8``.
        compute_s: ``macs`` at that peak.
        memory_s: ``traffic_bytes`` at the bandwidth.
        measured_over_limit: Typical time divided by the larger of the two.
    """

    macs: int
    traffic_bytes: int
    peak: str
    compute_s: float
    memory_s: float
    measured_over_limit: float

    @property
    def limit_s(self) -> float:
        """The larger of both times."""
        return max(self.compute_s, self.memory_s)

    @property
    def bound(self) -> Bound:
        """Which of both that is."""
        return Bound.COMPUTE if self.compute_s >= self.memory_s else Bound.MEMORY


@dataclass(frozen=True)
class OperatorTime:
    """Time of an operator, or of all operators of a kind, in one inference.

    Attributes:
        name: As the tool names it.
        kind: Class of operator, such as ``convolution``.
        count: How many there are.
        time_s: Together, in one inference.
    """

    name: str
    kind: str
    count: int
    time_s: float
