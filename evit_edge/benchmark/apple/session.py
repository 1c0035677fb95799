"""Timing models in turns by Core ML's own clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from evit_edge.benchmark.apple.seam import ComputeUnits, CoreML, LoadedModel, PlannedOperation
from evit_edge.benchmark.figures import Runs, Warmup
from evit_edge.benchmark.request import Phase, Progress, Tell
from evit_edge.benchmark.warmup import warm_up
from evit_edge.errors import DeviceError

LOADS, TURN = 3, 10
INTERLEAVING = f"rounds of {TURN} predictions of each model on each compute unit; all loaded afresh {LOADS} times"

Key = tuple[str, ComputeUnits]


@dataclass
class Timed:
    """What came of a model on one choice of units; grows while it is measured.

    Attributes:
        runs: Seconds, start, round and load of every prediction.
        first_s: Load and first prediction of the first load.
        warmup: Before the first load's runs.
        plan: What runs where.
        failure: Why there are no times.
    """

    runs: list[tuple[float, float, int, int]] = field(default_factory=list)
    first_s: tuple[float, float] | None = None
    warmup: Warmup | None = None
    plan: tuple[PlannedOperation, ...] = ()
    failure: str | None = None

    def recorded(self) -> Runs:
        """All runs, for figures and ratios."""
        if not self.runs:
            return Runs()
        times, starts, rounds, loads = zip(*self.runs, strict=True)
        return Runs(times, starts, rounds, loads)

    def reached(self, min_runs: float, min_time_s: float) -> bool:
        """Whether there are so many runs and seconds."""
        return len(self.runs) >= min_runs and sum(run[0] for run in self.runs) >= min_time_s


@dataclass(frozen=True)
class ApplePlan:
    """What to do.

    Attributes:
        models: Name and file of each.
        units: Where each is run.
        min_runs: Of each.
        min_time_s: Of each.
    """

    models: tuple[tuple[str, Path], ...]
    units: tuple[ComputeUnits, ...]
    min_runs: int
    min_time_s: float


def measure_models(core: CoreML, plan: ApplePlan, tell: Tell, stop: threading.Event) -> dict[Key, Timed]:
    """Measure every model on every choice of units; one that Core ML refuses fails alone."""
    timed: dict[Key, Timed] = {(name, units): Timed() for (name, _), units in product(plan.models, plan.units)}
    origin, round_ = time.perf_counter(), 0
    for load in range(LOADS):
        loaded = _load_all(core, plan, timed, tell, stop)
        share = (load + 1) / LOADS
        if load == 0:
            for key, model in loaded.items():
                _begin(key, model, timed[key], tell, stop)
        while loaded and not stop.is_set():
            if all(timed[key].reached(share * plan.min_runs, share * plan.min_time_s) for key in loaded):
                break
            for key, model in loaded.items():
                _turn(model, timed[key], (origin, round_, load))
            round_ += 1
        for model in loaded.values():
            model.unload()
        tell(Progress(Phase.MEASURE, core.device.name, share))
    return timed


def _load_all(
    core: CoreML, plan: ApplePlan, timed: dict[Key, Timed], tell: Tell, stop: threading.Event
) -> dict[Key, LoadedModel]:
    loaded: dict[Key, LoadedModel] = {}
    for (name, path), units in product(plan.models, plan.units):
        entry = timed[name, units]
        if entry.failure is not None or stop.is_set():
            continue
        tell(Progress(Phase.LOAD, f"{name} on {units}"))
        try:
            loaded[name, units] = core.load(path, units)
        except DeviceError as exc:
            entry.failure = str(exc)
    return loaded


def _begin(key: Key, model: LoadedModel, entry: Timed, tell: Tell, stop: threading.Event) -> None:
    """Load time, first prediction, plan and warm-up."""
    tell(Progress(Phase.WARM_UP, f"{key[0]} on {key[1]}"))
    entry.first_s = model.load_s, model.predict()
    entry.plan = model.plan()
    entry.warmup, _ = warm_up(model.predict, stop)


def _turn(model: LoadedModel, entry: Timed, moment: tuple[float, int, int]) -> None:
    origin, round_, load = moment
    for _ in range(TURN):
        start = time.perf_counter() - origin
        entry.runs.append((max(model.predict(), 1e-9), start, round_, load))


def placement(plan: Sequence[PlannedOperation]) -> str | None:
    """Where the operations are meant to run, in words, such as ``Neural Engine 180, CPU 3``."""
    counts: dict[str, int] = {}
    for operation in plan:
        counts[operation.device] = counts.get(operation.device, 0) + 1
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts, key=lambda n: (-counts[n], n))) or None
