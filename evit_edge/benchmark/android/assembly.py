"""From what phones gave to rows of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from evit_edge.benchmark.android.judging import judge_phone
from evit_edge.benchmark.android.output import Summary, ToolOutput
from evit_edge.benchmark.android.program import Program, Way
from evit_edge.benchmark.android.session import PhoneResult, Start
from evit_edge.benchmark.device import Device, DeviceKind
from evit_edge.benchmark.figures import ColdStart, MemoryUse, OperatorTime, Runs, Statistics, Warmup
from evit_edge.benchmark.report import Engine, Measurement, Ratio
from evit_edge.benchmark.statistics import ratio
from evit_edge.errors import ReportError
from evit_edge.profiling.profile import operator_times


def device(serial: str, result: PhoneResult, *, stand_in: bool) -> Device:
    """The phone as an entry of the report."""
    environment = result.properties.environment
    first, last = result.conditions[0], result.conditions[-1]
    phone = environment.phone
    program = {f"{result.program.dialect} benchmark_model": f"sha256 {result.program.sha256[:12]}"}
    environment = replace(
        environment,
        versions=environment.versions | program,
        phone=None if phone is None else replace(phone, before=first.state, after=last.state),
    )
    return Device(
        id=serial,
        kind=DeviceKind.ANDROID,
        name=f"stand-in for tests ({result.properties.name})" if stand_in else result.properties.name,
        environment=environment,
        verdict=judge_phone(result, stand_in=stand_in),
        stand_in=stand_in,
    )


def measurement(serial: str, result: PhoneResult, model: str, way: Way) -> Measurement:
    """One model run in one way."""
    starts = result.of(model, way)
    failure = result.failures.get((model, way))
    if not starts and failure is None:
        failure = result.lost or "not reached"
    memory = result.memory.get((model, way))
    nodes = result.operators.get((model, way), ())
    return Measurement(
        model=model,
        device=serial,
        threads=way.threads,
        accelerator=way.accelerator,
        engine=_engine(result.program, starts),
        statistics=pooled([start.output.runs for start in starts]) if starts else None,
        runs=Runs(),
        starts=tuple(_statistics(start.output.runs) for start in starts),
        warmup=_warmup(starts),
        cold_start=_cold_start(starts),
        memory=_memory(memory or (starts[-1].output if starts else None)),
        operators=tuple(
            OperatorTime(op.name, op.kind, op.count, op.time_s)
            for op in operator_times((node.type, None, 1, node.time_s) for node in nodes)
        ),
        failure=None if starts else failure,
    )


def ratios(
    serial: str, result: PhoneResult, models: Sequence[str], baseline: str, way: Way, seed: int
) -> list[Ratio]:
    """Every model against the baseline, from the means of their starts, round by round."""
    made = []
    for model in models:
        if model == baseline:
            continue
        try:
            found = ratio(_as_runs(result.of(model, way)), _as_runs(result.of(baseline, way)), seed)
        except (ReportError, ValueError):  # too few starts of either
            continue
        made.append(
            Ratio(
                *(model, baseline, serial, way.threads, way.accelerator, found.value, found.interval, found.units)
            )
        )
    return made


def pooled(summaries: Sequence[Summary]) -> Statistics:
    """Figures of all runs of several starts. Their percentiles cannot be known: the tool does not print the runs.

    Args:
        summaries: One a start, at least one.
    """
    count = sum(part.count for part in summaries)
    low, high = min(part.min_s for part in summaries), max(part.max_s for part in summaries)
    mean = min(max(math.fsum(part.count * part.mean_s for part in summaries) / count, low), high)
    known = [part.std_s for part in summaries if part.std_s is not None]
    std = None
    if len(known) == len(summaries) and count > 1:
        squares = math.fsum(
            part.count * ((part.std_s or 0.0) ** 2 + (part.mean_s - mean) ** 2) for part in summaries
        )
        std = math.sqrt(squares / (count - 1))
    median = summaries[0].median_s if len(summaries) == 1 else None
    return Statistics(count, low, mean, high, std, median)


def _statistics(part: Summary) -> Statistics:
    return pooled([part])


def _as_runs(starts: Sequence[Start]) -> Runs:
    """The mean of each start as if it were a run, so that ratios are computed as for this machine."""
    return Runs(
        times_s=tuple(start.output.runs.mean_s for start in starts),
        starts_s=tuple(start.began_s for start in starts),
        rounds=tuple(start.round for start in starts),
        loads=tuple(start.round for start in starts),
    )


def _warmup(starts: Sequence[Start]) -> Warmup | None:
    parts = [start.output.warmup for start in starts if start.output.warmup is not None]
    if not parts:
        return None
    return Warmup(sum(part.count for part in parts), sum(part.count * part.mean_s for part in parts), None)


def _cold_start(starts: Sequence[Start]) -> ColdStart | None:
    """Of the first start, in which nothing was loaded before."""
    first = starts[0].output if starts else None
    if first is None or first.init_s is None or first.first_inference_s is None:
        return None
    return ColdStart(None, first.init_s, first.first_inference_s)


def _memory(output: ToolOutput | None) -> MemoryUse | None:
    if output is None or output.memory_bytes is None:
        return None
    return MemoryUse(output.memory_bytes, None, output.memory_method)


def _engine(program: Program, starts: Sequence[Start]) -> Engine:
    taken = starts[-1].output.delegation if starts else None
    return Engine(
        name=f"{program.dialect} benchmark_model",
        version=f"sha256 {program.sha256[:12]}",
        delegate=taken.delegate if taken else None,
        partitions=taken.partitions if taken else None,
        native_nodes=taken.of_nodes - taken.nodes if taken and taken.of_nodes is not None else None,
    )
