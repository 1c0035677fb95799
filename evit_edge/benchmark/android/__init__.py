"""Measuring on Android phones over adb, by TFLite's own ``benchmark_model``."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from evit_edge import __version__
from evit_edge.benchmark.android.adb import Adb, StoppedError, find_adb
from evit_edge.benchmark.android.assembly import device, measurement, ratios
from evit_edge.benchmark.android.attached import STAND_IN, STAND_IN_REMARK, Attached, State, attached, choose
from evit_edge.benchmark.android.session import (
    INTERLEAVING,
    WARMUP_RULE,
    PhonePlan,
    PhoneResult,
    measure_phone,
    ways,
)
from evit_edge.benchmark.artefacts import Subject, located, open_subjects
from evit_edge.benchmark.published import PUBLISHED
from evit_edge.benchmark.report import SCHEMA, Report, Settings, Status
from evit_edge.benchmark.request import ALL_DEVICES, BenchmarkRequest, Phase, Progress, Tell
from evit_edge.errors import DeviceError, EvitEdgeError, RequestError

_POLL_S = 0.2


@dataclass(frozen=True)
class _Outcome:
    """What came of one phone: a result or the reason why there is none."""

    serial: str
    result: PhoneResult | None
    failure: EvitEdgeError | None = None


def measure(request: BenchmarkRequest, tell: Tell, stop: threading.Event) -> Report:
    """Measure; see :func:`evit_edge.benchmark.benchmark`."""
    adb = Adb(find_adb())
    devices = attached(adb)
    phones = choose(devices, request.device.serial)
    subjects, baseline = _subjects(request)
    plan = PhonePlan(
        models=tuple((subject.entry.name, located(subject.source)) for subject in subjects),
        ways=ways(request.accelerators, request.threads),
        min_runs=request.min_runs,
        min_time_s=request.min_time_s,
        operators=request.operators,
        memory=request.cold_start,
        program=request.benchmark_model,
        seed=request.seed,
    )
    outcomes = _in_parallel(adb, phones, plan, tell, stop)
    left_out = [d for d in devices if d.state is not State.READY] if request.device.serial == ALL_DEVICES else []
    return _report(request, subjects, baseline, plan, outcomes, [*(d.problem for d in left_out)])


def _subjects(request: BenchmarkRequest) -> tuple[tuple[Subject, ...], str]:
    """What is measured, and the name of what ratios are against."""
    sources = list(request.artefacts)
    if request.baseline is not None and request.baseline not in sources:
        sources.append(request.baseline)
    for source in sources:
        if not source.endswith(".tflite"):
            raise RequestError(f"{source} given; benchmark_model on Android runs .tflite files: convert it first")
    subjects = open_subjects(sources, reference=False)
    index = 0 if request.baseline is None else sources.index(request.baseline)
    return subjects, subjects[index].entry.name


def _in_parallel(
    adb: Adb, phones: Sequence[Attached], plan: PhonePlan, tell: Tell, stop: threading.Event
) -> list[_Outcome]:
    """Every phone in a thread of its own; progress is told from this one.

    Raises:
        EvitEdgeError: No phone could be measured.
        KeyboardInterrupt: It was stopped before there was anything.
    """
    told: queue.SimpleQueue[Progress] = queue.SimpleQueue()
    with ThreadPoolExecutor(len(phones), thread_name_prefix="phone") as pool:
        futures = [pool.submit(_one, adb.on(phone.serial, stop), plan, told) for phone in phones]
        _follow(futures, told, tell, stop)
        outcomes = [future.result() for future in futures]
    if all(outcome.result is None for outcome in outcomes):
        failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
        if not failures:
            raise KeyboardInterrupt
        raise failures[0] if len(failures) == 1 else DeviceError("; ".join(map(str, failures)))
    return outcomes


def _follow(
    futures: Sequence[Future[_Outcome]], told: queue.SimpleQueue[Progress], tell: Tell, stop: threading.Event
) -> None:
    """Hand progress on until all are done; Ctrl-C ends them in order."""
    while True:
        try:
            done = all(future.done() for future in futures)
            try:
                tell(told.get(timeout=_POLL_S))
            except queue.Empty:
                if done:
                    return
        except KeyboardInterrupt:
            stop.set()


def _one(adb: Adb, plan: PhonePlan, told: queue.SimpleQueue[Progress]) -> _Outcome:
    serial = adb.serial or ""
    told.put(Progress(Phase.LOAD, serial))
    try:
        result = measure_phone(adb, plan, lambda name, share: told.put(_progress(serial, name, share)))
    except StoppedError:
        return _Outcome(serial, None)
    except EvitEdgeError as exc:
        return _Outcome(serial, None, exc)
    return _Outcome(serial, result)


def _progress(serial: str, name: str, share: float) -> Progress:
    return Progress(Phase.MEASURE, f"{name} on {serial}", share)


def _report(
    request: BenchmarkRequest,
    subjects: Sequence[Subject],
    baseline: str,
    plan: PhonePlan,
    outcomes: Sequence[_Outcome],
    problems: list[str],
) -> Report:
    names = [name for name, _ in plan.models]
    measured = [(outcome.serial, outcome.result) for outcome in outcomes if outcome.result is not None]
    problems += [str(outcome.failure) for outcome in outcomes if outcome.failure is not None]
    problems += [f"phone {serial}: {result.lost}" for serial, result in measured if result.lost is not None]
    stand_ins = [serial for serial, _ in measured if serial.startswith(STAND_IN)]
    complete = len(measured) == len(outcomes) and all(result.complete for _, result in measured)
    return Report(
        schema=SCHEMA,
        tool_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        status=Status.COMPLETE if complete else Status.PARTIAL,
        settings=Settings(request.min_runs, request.min_time_s, WARMUP_RULE, INTERLEAVING, request.seed),
        devices=tuple(device(serial, result, stand_in=serial in stand_ins) for serial, result in measured),
        models=tuple(subject.entry for subject in subjects),
        measurements=tuple(
            measurement(serial, result, name, way)
            for serial, result in measured
            for way in plan.ways
            for name in names
        ),
        ratios=tuple(
            found
            for serial, result in measured
            for way in plan.ways
            for found in ratios(serial, result, names, baseline, way, request.seed)
        ),
        remarks=(*([STAND_IN_REMARK] if stand_ins else []), *problems),
        published=PUBLISHED if request.published else (),
    )
