"""Measuring on a Mac or an attached iPhone, by Core ML's own durations. It has not run on Apple's hardware yet."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evit_edge import __version__
from evit_edge.benchmark.apple.coreml import MacCoreML, PhoneCoreML, refuse_elsewhere
from evit_edge.benchmark.apple.package import describe_package
from evit_edge.benchmark.apple.seam import ComputeUnits, CoreML
from evit_edge.benchmark.apple.session import INTERLEAVING, ApplePlan, Key, Timed, measure_models, placement
from evit_edge.benchmark.device import Cpu, Device, DeviceKind, Environment, Phone
from evit_edge.benchmark.environment import environment
from evit_edge.benchmark.figures import ColdStart, OperatorTime, Runs
from evit_edge.benchmark.published import PUBLISHED
from evit_edge.benchmark.report import (
    SCHEMA,
    Accelerator,
    Engine,
    Measurement,
    ModelEntry,
    Ratio,
    Report,
    Settings,
    Status,
)
from evit_edge.benchmark.request import BenchmarkRequest, Tell
from evit_edge.benchmark.statistics import describe, ratio
from evit_edge.benchmark.verdict import Evidence, judge
from evit_edge.benchmark.warmup import RULE
from evit_edge.errors import DeviceError, ReportError


def measure(request: BenchmarkRequest, tell: Tell, stop: threading.Event) -> Report:
    """Measure; see :func:`evit_edge.benchmark.benchmark`."""
    refuse_elsewhere(request.device.kind)
    core: CoreML = MacCoreML() if request.device.kind is DeviceKind.MAC else PhoneCoreML(request.device.serial)
    try:
        return measure_with(core, request, tell, stop)
    finally:
        core.close()


def measure_with(core: CoreML, request: BenchmarkRequest, tell: Tell, stop: threading.Event) -> Report:
    """Measure by a given Core ML.

    Raises:
        ArtefactError: A model cannot be read.
        DeviceError: No model could be run.
        RequestError: An accelerator that Apple's devices do not have.
        KeyboardInterrupt: It was stopped before there was anything.
    """
    sources = list(request.artefacts)
    if request.baseline is not None and request.baseline not in sources:
        sources.append(request.baseline)
    baseline = 0 if request.baseline is None else sources.index(request.baseline)
    units = {accelerator: ComputeUnits.of(accelerator) for accelerator in request.accelerators}
    names = _names(sources)
    entries = [describe_package(Path(source), name) for source, name in zip(sources, names, strict=True)]
    models = tuple(zip(names, map(Path, sources), strict=True))
    plan = ApplePlan(models, tuple(units.values()), request.min_runs, request.min_time_s)
    timed = measure_models(core, plan, tell, stop)
    if not any(entry.runs for entry in timed.values()):
        failures = [entry.failure for entry in timed.values() if entry.failure is not None]
        if not failures:
            raise KeyboardInterrupt
        raise DeviceError("; ".join(dict.fromkeys(failures)))
    return _report(core, request, entries, units, timed, stop.is_set(), names[baseline])


def _names(sources: Sequence[str]) -> list[str]:
    names: list[str] = []
    for source in sources:
        base, number = Path(source).name, 1
        name = base
        while name in names:
            number += 1
            name = f"{base} ({number})"
        names.append(name)
    return names


def _report(
    core: CoreML,
    request: BenchmarkRequest,
    entries: Sequence[ModelEntry],
    units: dict[Accelerator, ComputeUnits],
    timed: dict[Key, Timed],
    stopped: bool,
    baseline: str,
) -> Report:
    measurements = tuple(
        _measurement(core, entry.name, accelerator, timed[entry.name, unit], request.operators)
        for accelerator, unit in units.items()
        for entry in entries
    )
    return Report(
        schema=SCHEMA,
        tool_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        status=Status.PARTIAL if stopped else Status.COMPLETE,
        settings=Settings(request.min_runs, request.min_time_s, RULE, INTERLEAVING, request.seed),
        devices=(_device(core, timed),),
        models=tuple(entries),
        measurements=measurements,
        ratios=tuple(_ratios(core, entries, units, timed, baseline, request.seed)),
        published=PUBLISHED if request.published else (),
    )


def _device(core: CoreML, timed: dict[Key, Timed]) -> Device:
    runs = {f"{name} on {units}": entry.recorded() for (name, units), entry in timed.items() if entry.runs}
    warmups = {
        f"{name} on {units}": entry.warmup for (name, units), entry in timed.items() if entry.warmup is not None
    }
    found = core.device
    kind = DeviceKind.MAC if found.os == "macOS" else DeviceKind.IOS
    if kind is DeviceKind.MAC:
        surroundings = environment()
    else:
        phone = Phone(manufacturer="Apple", model=found.name)
        surroundings = Environment(Cpu("unknown", "arm64"), None, found.os, found.os_version, phone=phone)
    verdict = judge(Evidence(reference=Runs(), runs=runs, medians={}, warmups=warmups))
    return Device(found.id, kind, f"{found.name}, {found.os} {found.os_version}", surroundings, verdict)


def _measurement(core: CoreML, name: str, accelerator: Accelerator, entry: Timed, operators: bool) -> Measurement:
    runs = entry.recorded()
    figures = describe(runs) if runs.times_s else None
    asked = accelerator.value.replace("-", " ").lower()
    outside = sum(operation.device.lower() != asked for operation in entry.plan)
    return Measurement(
        model=name,
        device=core.device.id,
        threads=1,
        accelerator=accelerator,
        engine=Engine(
            name="Core ML",
            version=f"{core.device.os} {core.device.os_version}, coremltools {core.version}",
            delegate=placement(entry.plan),
            native_nodes=outside if entry.plan and accelerator is not Accelerator.ALL else None,
        ),
        statistics=figures,
        runs=runs,
        warmup=entry.warmup,
        cold_start=None if entry.first_s is None else ColdStart(None, *entry.first_s),
        operators=_operators(entry, figures.typical_s) if operators and figures is not None else (),
        failure=None if figures is not None else entry.failure or "stopped before its first timed run",
    )


def _operators(entry: Timed, typical_s: float) -> tuple[OperatorTime, ...]:
    """Core ML's estimated shares of the measured time; the kind is where it is meant to run."""
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for operation in entry.plan:
        count, share = found.get((operation.name, operation.device), (0, 0.0))
        found[operation.name, operation.device] = count + 1, share + (operation.cost or 0.0)
    made = [
        OperatorTime(name, f"estimated, {place}", count, share * typical_s)
        for (name, place), (count, share) in found.items()
    ]
    return tuple(sorted(made, key=lambda operator: -operator.time_s))


def _ratios(
    core: CoreML,
    entries: Sequence[ModelEntry],
    units: dict[Accelerator, ComputeUnits],
    timed: dict[Key, Timed],
    baseline: str,
    seed: int,
) -> list[Ratio]:
    made = []
    for accelerator, unit in units.items():
        for entry in entries:
            if entry.name == baseline:
                continue
            try:
                found = ratio(timed[entry.name, unit].recorded(), timed[baseline, unit].recorded(), seed)
            except ReportError:  # one of them has too few runs
                continue
            names, place = (entry.name, baseline), core.device.id
            made.append(Ratio(*names, place, 1, accelerator, found.value, found.interval, found.units))
    return made
