"""Measuring one phone: in rounds, each model once a round, each time a start of the tool from nothing.

``benchmark_model`` prints figures of its runs, not the runs. So a model is started many times: the figures of the
starts show drift and spread, carry the interval of a ratio, and every start loads the model afresh, as sessions on
this machine do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from evit_edge.benchmark.android.adb import Adb, Answer, StoppedError
from evit_edge.benchmark.android.op_profile import NodeTime, parse_op_profile
from evit_edge.benchmark.android.output import ToolOutput, parse_output
from evit_edge.benchmark.android.phone import Condition, Properties, read_condition, read_properties
from evit_edge.benchmark.android.program import MOST_S, Amount, Program, Way, find_program, options
from evit_edge.benchmark.android.workspace import Workspace, workspace
from evit_edge.benchmark.report import Accelerator
from evit_edge.benchmark.statistics import MIN_LOADS
from evit_edge.errors import DeviceError

ROUNDS, ROUNDS_ACCELERATED = MIN_LOADS, 3
"""Starts of each model; fewer where a start takes seconds, as a GPU's compiler does."""

FIRST_WARMUP_S, WARMUP_S = 0.5, 0.2
_SLACK_S = 60.0
INTERLEAVING = (
    f"{ROUNDS} rounds ({ROUNDS_ACCELERATED} on GPU and NNAPI) in which each model is started once, in random order"
)
WARMUP_RULE = f"{FIRST_WARMUP_S:g} s in a model's first start, {WARMUP_S:g} s in each that follows"


@dataclass(frozen=True)
class Start:
    """One start of the tool.

    Attributes:
        model: Name of the model.
        way: How it was run.
        round: Of the interleaving.
        began_s: Seconds since the first round of all.
        output: What it printed, read.
    """

    model: str
    way: Way
    round: int
    began_s: float
    output: ToolOutput


@dataclass(frozen=True)
class PhonePlan:
    """What to do with a phone.

    Attributes:
        models: Name of each model and its file.
        ways: How each is run.
        min_runs: Timed runs of each, all starts together.
        min_time_s: Timed seconds of each, likewise.
        operators: Whether operators are timed, in a start of their own.
        memory: Whether peak memory is watched, in a start of its own.
        program: As the user named it.
        seed: Of the order within rounds.
    """

    models: tuple[tuple[str, Path], ...]
    ways: tuple[Way, ...]
    min_runs: int
    min_time_s: float
    operators: bool = False
    memory: bool = False
    program: Path | None = None
    seed: int = 0


@dataclass
class PhoneResult:
    """What came of a phone; grows while it is measured, so that an early end leaves what there is.

    Attributes:
        properties: What it is.
        program: That ran there.
        conditions: How it was, before the first start, after each round, and at the end.
        starts: Every start that gave times.
        operators: Model and way to the operators' times.
        memory: The same to a start under watch.
        failures: The same to why there are no times.
        complete: Whether everything asked for was tried.
        lost: Why the phone could not be measured to the end; None where it could.
    """

    properties: Properties
    program: Program
    conditions: list[Condition] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    operators: dict[tuple[str, Way], tuple[NodeTime, ...]] = field(default_factory=dict)
    memory: dict[tuple[str, Way], ToolOutput] = field(default_factory=dict)
    failures: dict[tuple[str, Way], str] = field(default_factory=dict)
    complete: bool = False
    lost: str | None = None

    def of(self, model: str, way: Way) -> list[Start]:
        """A model's starts, in order."""
        return [start for start in self.starts if (start.model, start.way) == (model, way)]


Step = Callable[[str, float], None]
"""Told the model that is measured next and the share that is done."""


def measure_phone(adb: Adb, plan: PhonePlan, step: Step) -> PhoneResult:
    """Measure one phone.

    Args:
        adb: On the phone; its ``stop`` ends the measuring early.
        plan: What to do.
        step: Told the progress.

    Returns:
        What was measured, also where the phone was lost or the measuring stopped meanwhile.

    Raises:
        DeviceError: Nothing could be started on it.
        StoppedError: It was stopped before there was anything.
    """
    properties = read_properties(adb)
    result = PhoneResult(properties, find_program(plan.program, properties.abis))
    result.conditions.append(read_condition(adb))
    try:
        with workspace(adb) as folder:
            _Session(adb, folder, plan, result, step).hold()
            result.complete = True
    except (DeviceError, StoppedError) as exc:
        if not result.starts:
            raise
        result.lost = "stopped" if isinstance(exc, StoppedError) else str(exc)
    return result


class _Session:
    """The rounds of one phone."""

    def __init__(self, adb: Adb, folder: Workspace, plan: PhonePlan, result: PhoneResult, step: Step) -> None:
        self._adb, self._folder, self._plan, self._result, self._step = adb, folder, plan, result, step
        self._origin = time.monotonic()
        self._tool = folder.push(result.program.path, "benchmark_model", executable=True)
        self._remote = {
            name: folder.push(path, f"model_{number}.tflite") for number, (name, path) in enumerate(plan.models)
        }
        self._total = sum(_rounds(way) for way in plan.ways) * len(plan.models)
        self._done = 0

    def hold(self) -> None:
        """All ways, then what disturbs times."""
        order = random.Random(self._plan.seed)  # noqa: S311
        for way in self._plan.ways:
            for number in range(_rounds(way)):
                names = [name for name in self._remote if (name, way) not in self._result.failures]
                for name in order.sample(names, len(names)):
                    self._start(name, way, number)
                self._result.conditions.append(read_condition(self._adb))
        for name, way in product(self._remote, self._plan.ways):
            if (name, way) not in self._result.failures:
                self._beside(name, way)

    def _start(self, name: str, way: Way, number: int) -> None:
        self._step(name, self._done / self._total)
        began_s = time.monotonic() - self._origin
        rounds = _rounds(way)
        amount = Amount(
            runs=-(-self._plan.min_runs // rounds),
            seconds=self._plan.min_time_s / rounds,
            warmup_s=WARMUP_S if number else FIRST_WARMUP_S,
        )
        answer = self._call(name, way, amount)
        self._done += 1
        try:
            output = parse_output(answer.text)
        except DeviceError as exc:
            self._result.failures[name, way] = str(exc)
            return
        refused = _refusal(way, output, answer)
        if refused is not None:
            self._result.failures[name, way] = refused
        else:
            self._result.starts.append(Start(name, way, number, began_s, output))

    def _beside(self, name: str, way: Way) -> None:
        if self._plan.memory:
            answer = self._call(name, way, Amount(10, 0.2, WARMUP_S, peak_memory=True))
            with suppress(DeviceError):  # an old tool that does not know the option: there are times without it
                self._result.memory[name, way] = parse_output(answer.text)
        if self._plan.operators:
            answer = self._call(name, way, Amount(50, 1.0, WARMUP_S, profile=True))
            self._result.operators[name, way] = parse_op_profile(answer.text)

    def _call(self, name: str, way: Way, amount: Amount) -> Answer:
        arguments = options(self._result.program, self._remote[name], way, amount)
        return self._folder.run(self._tool, arguments, 2 * MOST_S + _SLACK_S)


def _rounds(way: Way) -> int:
    return ROUNDS if way.accelerator is Accelerator.CPU else ROUNDS_ACCELERATED


def _refusal(way: Way, output: ToolOutput, answer: Answer) -> str | None:
    """Why times are not those of the accelerator that was asked for."""
    if way.accelerator is Accelerator.CPU:
        return None
    if output.refused is not None:
        return f"{way.accelerator} did not run the model, the CPU did: {output.refused}"
    if output.delegation is not None and "XNNPack" in output.delegation.delegate:
        return f"{way.accelerator} did not run the model, the CPU did ({output.delegation.delegate})"
    taken = "executed by the delegate" in answer.text or output.delegation is not None
    return None if taken else f"benchmark_model does not say that {way.accelerator} ran the model"


def ways(accelerators: Sequence[Accelerator], threads: Sequence[int]) -> tuple[Way, ...]:
    """Every number of threads on the CPU; others once, with the most threads for what they leave to the CPU."""
    found: list[Way] = []
    for accelerator in accelerators:
        if accelerator is Accelerator.CPU:
            found += [Way(accelerator, number) for number in threads]
        else:
            found.append(Way(accelerator, max(threads)))
    return tuple(found)
