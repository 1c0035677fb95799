"""What a benchmark is told, and what it tells meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from evit_edge.benchmark.device import DeviceKind
from evit_edge.benchmark.report import Accelerator
from evit_edge.errors import RequestError
from evit_edge.runtime.checks.limits import Limits

ALL_DEVICES = "all"
DEFAULT_RUNS, DEFAULT_TIME_S = 100, 3.0
THOROUGH_RUNS, THOROUGH_TIME_S = 1024, 60.0


@dataclass(frozen=True)
class DeviceChoice:
    """Where to measure.

    Attributes:
        kind: Kind of device.
        serial: Which of several; None for the only one, ``all`` for every one.
    """

    kind: DeviceKind = DeviceKind.HOST
    serial: str | None = None

    def __post_init__(self) -> None:
        """Only phones come in numbers."""
        if self.serial is not None and self.kind in (DeviceKind.HOST, DeviceKind.MAC):
            raise RequestError(f"device {self.kind}:{self.serial} given; {self.kind} takes no serial number")

    @classmethod
    def parse(cls, text: str) -> DeviceChoice:
        """Read ``host``, ``android``, ``android:SERIAL``, ``android:all``, ``mac`` or ``ios``.

        Raises:
            RequestError: It is none of these.
        """
        kind, colon, serial = text.partition(":")
        if kind not in list(DeviceKind) or (colon and not serial):
            raise RequestError(f"device {text!r} given; host, android, android:SERIAL, mac and ios are accepted")
        return cls(DeviceKind(kind), serial or None)


@dataclass(frozen=True)
class BenchmarkRequest:
    """What to measure, where, and for how long.

    Attributes:
        artefacts: Files, ``everyday`` or ``hf:OWNER/NAME``; the same one may be given twice.
        device: Where.
        threads: Numbers of threads, each a session of its own.
        accelerators: Each is measured; hosts have CPU only.
        min_runs: Timed runs of each model at least.
        min_time_s: Timed seconds of each model at least.
        image: Photo for the times of the pipeline's steps; a generated one where None.
        baseline: The artefact that ratios are against; the first where None. Measured too if not among
            ``artefacts``.
        stages: Whether the pipeline's steps are timed.
        cold_start: Whether cold start and memory are measured, in processes of their own.
        peaks: Whether the machine's peaks are measured.
        operators: Whether time by operator is asked for, where the tool can tell.
        published: Whether the report shows figures that others published.
        reference: Whether artefacts may run in a reference evaluator, whose time says nothing about a device.
        benchmark_model: Program for Android, where it is not in the cache folder.
        seed: Of the order within rounds and of the bootstrap.
        command: The command line, for the record.
        limits: For models from elsewhere: the benchmark then runs in a process of its own. None: in this one.
    """

    artefacts: tuple[str, ...]
    device: DeviceChoice = field(default_factory=DeviceChoice)
    threads: tuple[int, ...] = (1,)
    accelerators: tuple[Accelerator, ...] = (Accelerator.CPU,)
    min_runs: int = DEFAULT_RUNS
    min_time_s: float = DEFAULT_TIME_S
    image: Path | None = None
    baseline: str | None = None
    stages: bool = True
    cold_start: bool = True
    peaks: bool = True
    operators: bool = False
    published: bool = False
    reference: bool = False
    benchmark_model: Path | None = None
    seed: int = 0
    command: str = ""
    limits: Limits | None = None

    def __post_init__(self) -> None:
        """Refuse what measures nothing."""
        if not self.artefacts:
            raise RequestError("no artefact given; at least one is needed")
        if not self.threads or min(self.threads) < 1 or len(set(self.threads)) != len(self.threads):
            raise RequestError(f"threads {self.threads} given; numbers of at least 1, each once, are needed")
        if not self.accelerators or len(set(self.accelerators)) != len(self.accelerators):
            raise RequestError(f"accelerators {self.accelerators} given; at least one, each once")
        if self.min_runs < 1 or not 0 <= self.min_time_s < float("inf"):
            raise RequestError(f"{self.min_runs} runs and {self.min_time_s} s given; at least 1 run and 0 s")
        if self.seed < 0:
            raise RequestError(f"seed {self.seed} given; 0 or more is needed")


class Phase(StrEnum):
    """Steps of a benchmark, in order."""

    LOAD = "load"
    WARM_UP = "warm up"
    MEASURE = "measure"
    STAGES = "stages"
    COLD_START = "cold start"
    PEAKS = "peaks"


@dataclass(frozen=True)
class Progress:
    """Told to the caller while a benchmark runs.

    Attributes:
        phase: What is being done.
        subject: Of what, such as a model's name or a phone's serial number.
        done: Share of the timing that is done, 0..1.
        remaining_s: Estimate for what is left of the timing; None where there is none yet.
        times_s: Model's name to its latest times, for a picture while it runs.
        remark: Something that the user should read.
    """

    phase: Phase
    subject: str = ""
    done: float = 0.0
    remaining_s: float | None = None
    times_s: dict[str, tuple[float, ...]] = field(default_factory=dict)
    remark: str | None = None


Tell = Callable[[Progress], None]
