"""Measuring on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain

from evit_edge import __version__
from evit_edge.benchmark.artefacts import Subject, open_subjects
from evit_edge.benchmark.contention import Load, quota_throttled_s
from evit_edge.benchmark.device import Device, DeviceKind, Environment, Peaks, Verdict
from evit_edge.benchmark.environment import after, environment, frequency_hz
from evit_edge.benchmark.figures import Interval, Runs, Statistics, Warmup
from evit_edge.benchmark.processes import cold_start, memory_use
from evit_edge.benchmark.published import PUBLISHED
from evit_edge.benchmark.report import SCHEMA, Accelerator, Measurement, Ratio, Report, Settings, Status
from evit_edge.benchmark.request import BenchmarkRequest, Phase, Progress, Tell
from evit_edge.benchmark.roofline import limit, measure_peaks
from evit_edge.benchmark.session import INTERLEAVING, Plan, Session, SessionResult
from evit_edge.benchmark.stages import time_stages
from evit_edge.benchmark.statistics import describe, ratio
from evit_edge.benchmark.verdict import Evidence, judge
from evit_edge.benchmark.warmup import RULE
from evit_edge.benchmark.words import remarks
from evit_edge.errors import ReportError, RequestError
from evit_edge.images import read_rgb
from evit_edge.runtime import open_runner

HOST = "host"


@dataclass(frozen=True)
class _Timed:
    """A session with the number of threads it was held with."""

    threads: int
    result: SessionResult


def measure(request: BenchmarkRequest, tell: Tell, stop: threading.Event) -> Report:
    """Measure; see :func:`evit_edge.benchmark.benchmark`."""
    subjects, baseline = _subjects(request)
    if request.image is not None:
        read_rgb(request.image)  # what cannot be read is said before minutes of measuring
    before, frequency, quota = environment(), frequency_hz(), quota_throttled_s()
    sessions = _sessions(request, subjects, tell, stop)
    clock = _change(frequency, frequency_hz())
    quota_s = None if quota is None else (quota_throttled_s() or quota) - quota
    measurements = tuple(chain.from_iterable(_measurements(subjects, timed) for timed in sessions))
    verdict = judge(_evidence(sessions, measurements, quota_s, clock))
    surroundings = after(before)
    measurements = tuple(_beside(request, subjects, entry, tell, stop) for entry in measurements)
    peaks = _peaks(request, tell, stop)
    measurements = tuple(_against_limit(subjects, entry, peaks) for entry in measurements)
    ratios = tuple(chain.from_iterable(_ratios(subjects, baseline, timed, request.seed) for timed in sessions))
    complete = not stop.is_set() and all(timed.result.complete for timed in sessions)
    return Report(
        schema=SCHEMA,
        tool_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        status=Status.COMPLETE if complete else Status.PARTIAL,
        settings=_settings(request),
        devices=(_device(surroundings, verdict, sessions, peaks),),
        models=tuple(subject.entry for subject in subjects),
        measurements=measurements,
        ratios=ratios,
        remarks=remarks([subject.entry for subject in subjects], measurements, _times),
        published=PUBLISHED if request.published else (),
    )


def _subjects(request: BenchmarkRequest) -> tuple[tuple[Subject, ...], int]:
    """What is measured, and which of it ratios are against."""
    if request.accelerators != (Accelerator.CPU,):
        given = ", ".join(request.accelerators)
        raise RequestError(f"{given} asked for on this machine; cpu is accepted here")
    sources = list(request.artefacts)
    if request.baseline is not None and request.baseline not in sources:
        sources.append(request.baseline)
    subjects = open_subjects(sources, reference=request.reference)
    return subjects, 0 if request.baseline is None else sources.index(request.baseline)


def _sessions(
    request: BenchmarkRequest, subjects: Sequence[Subject], tell: Tell, stop: threading.Event
) -> tuple[_Timed, ...]:
    """One session a number of threads; all count time from the first one's start."""
    origin = time.perf_counter()
    held: list[_Timed] = []
    for i, threads in enumerate(request.threads):
        plan = Plan(request.min_runs, request.min_time_s, threads, request.seed, origin)
        contenders = [subject.contender(threads) for subject in subjects]
        part = _part(tell, i, len(request.threads), origin)
        held.append(_Timed(threads, Session(contenders, plan, part, stop).hold()))
        if stop.is_set():
            break
    return tuple(held)


def _part(tell: Tell, index: int, parts: int, origin_s: float) -> Tell:
    """Progress of one session as that of all."""

    def scaled(progress: Progress) -> None:
        done = (index + progress.done) / parts
        left = (time.perf_counter() - origin_s) * (1 / done - 1) if progress.remaining_s is not None else None
        tell(replace(progress, done=done, remaining_s=left))

    return scaled


def _measurements(subjects: Sequence[Subject], timed: _Timed) -> list[Measurement]:
    made = []
    for i, subject in enumerate(subjects):
        runs = timed.result.runs[i]
        warmup = timed.result.warmups[i] if i < len(timed.result.warmups) else None
        figures = describe(runs) if runs.times_s else None
        made.append(
            Measurement(
                model=subject.entry.name,
                device=HOST,
                threads=timed.threads,
                accelerator=Accelerator.CPU,
                engine=subject.engine,
                statistics=figures,
                runs=runs,
                warmup=warmup,
                failure=None if figures else "stopped before its first timed run",
            )
        )
    return made


def _evidence(
    sessions: Sequence[_Timed], measurements: Sequence[Measurement], quota_s: float | None, clock: float | None
) -> Evidence:
    several = len({entry.threads for entry in measurements}) > 1
    runs: dict[str, Runs] = {}
    medians: dict[str, Interval | None] = {}
    warmups: dict[str, Warmup] = {}
    for entry in measurements:
        plural = "s" if entry.threads > 1 else ""
        name = f"{entry.model} with {entry.threads} thread{plural}" if several else entry.model
        if entry.statistics is not None:
            runs[name], medians[name] = entry.runs, _relative(entry.statistics)
        if entry.warmup is not None:
            warmups[name] = entry.warmup
    loads: tuple[Load, ...] = tuple(chain.from_iterable(timed.result.loads for timed in sessions))
    return Evidence(_joined(sessions), runs, medians, warmups, loads, quota_s, clock)


def _relative(statistics: Statistics) -> Interval | None:
    interval, median = statistics.median_interval, statistics.p50_s
    if interval is None or median is None:
        return None
    return Interval(interval.low / median, interval.high / median, interval.confidence)


def _joined(sessions: Sequence[_Timed]) -> Runs:
    """The reference loop's runs of all sessions; rounds and loads count on."""
    names = ("times_s", "starts_s", "rounds", "loads", "switches", "cpu_s")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for timed in sessions:
        part = timed.result.reference
        rounds, loads = (int(max(columns[name], default=-1)) + 1 for name in ("rounds", "loads"))
        columns["times_s"] += part.times_s
        columns["starts_s"] += part.starts_s
        columns["rounds"] += [rounds + number for number in part.rounds]
        columns["loads"] += [loads + number for number in part.loads]
        columns["switches"] += part.switches
        columns["cpu_s"] += part.cpu_s
    whole = {name: tuple(int(v) for v in columns[name]) for name in ("rounds", "loads", "switches")}
    return Runs(tuple(columns["times_s"]), tuple(columns["starts_s"]), **whole, cpu_s=tuple(columns["cpu_s"]))


def _beside(
    request: BenchmarkRequest, subjects: Sequence[Subject], entry: Measurement, tell: Tell, stop: threading.Event
) -> Measurement:
    """Stages, cold start and memory, after the timing, so that they do not disturb it."""
    source = next(subject.source for subject in subjects if subject.entry.name == entry.model)
    if request.stages and not stop.is_set():
        tell(Progress(Phase.STAGES, entry.model))
        runner = open_runner(source, threads=entry.threads)
        entry = replace(entry, stages=time_stages(runner, request.image, stop))
    if request.cold_start and not stop.is_set():
        tell(Progress(Phase.COLD_START, entry.model))
        started = cold_start(source, entry.threads, stop)
        entry = replace(entry, cold_start=started, memory=memory_use(source, entry.threads, stop))
    return entry


def _peaks(request: BenchmarkRequest, tell: Tell, stop: threading.Event) -> tuple[Peaks, ...]:
    if not request.peaks or stop.is_set():
        return ()
    tell(Progress(Phase.PEAKS))
    return tuple(measure_peaks(threads) for threads in request.threads)


def _against_limit(subjects: Sequence[Subject], entry: Measurement, peaks: Sequence[Peaks]) -> Measurement:
    subject = next(subject for subject in subjects if subject.entry.name == entry.model)
    peak = next((peak for peak in peaks if peak.threads == entry.threads), None)
    if peak is None or subject.work is None or entry.statistics is None:
        return entry
    return replace(entry, limit=limit(subject.work, subject.io_bytes, peak, entry.statistics.typical_s))


def _ratios(subjects: Sequence[Subject], baseline: int, timed: _Timed, seed: int) -> list[Ratio]:
    made = []
    for i, subject in enumerate(subjects):
        if i == baseline:
            continue
        try:
            found = ratio(timed.result.runs[i], timed.result.runs[baseline], seed)
        except ReportError:  # stopped so early that there is nothing to compare
            continue
        names = subject.entry.name, subjects[baseline].entry.name
        cpu, value, interval = Accelerator.CPU, found.value, found.interval
        made.append(Ratio(*names, HOST, timed.threads, cpu, value, interval, found.units))
    return made


def _times(slow: Measurement, fast: Measurement) -> float | None:
    """How many times as long the first takes, where it does beyond noise."""
    try:
        found = ratio(slow.runs, fast.runs)
    except ReportError:
        return None
    return found.value if found.interval.low > 1 else None


def _settings(request: BenchmarkRequest) -> Settings:
    return Settings(
        min_runs=request.min_runs,
        min_time_s=request.min_time_s,
        warmup_rule=RULE,
        interleaving=INTERLEAVING,
        seed=request.seed,
        image=None if request.image is None else request.image.name,
    )


def _device(
    surroundings: Environment, verdict: Verdict, sessions: Sequence[_Timed], peaks: tuple[Peaks, ...]
) -> Device:
    return Device(
        id=HOST,
        kind=DeviceKind.HOST,
        name=f"{surroundings.cpu.model}, {surroundings.cpu.logical_cores} cores, {surroundings.os}",
        environment=surroundings,
        verdict=verdict,
        reference=_joined(sessions),
        peaks=peaks,
    )


def _change(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None or before <= 0 else now / before - 1
