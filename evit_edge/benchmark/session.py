"""Running models in turns and keeping every time.

A session loads all models, warms them up, and then goes in rounds: the reference loop once, then each model's
turn of about ``TURN_S``, the models in random order. A turn begins with a run that does not count: it brings back
to the caches what others have pushed out, without which short turns would look slower than long ones. After a
share of the runs all models are loaded afresh, since where a model's memory lies changes its time by several per
cent for as long as it stays loaded.
"""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evit_edge.benchmark.contention import Load, LoadMeter, switch_counter
from evit_edge.benchmark.figures import Runs, Warmup
from evit_edge.benchmark.reference import reference_loop
from evit_edge.benchmark.request import Phase, Progress, Tell
from evit_edge.benchmark.warmup import settle_all, warm_up

Invocation = Callable[[], object]

TURN_S = 0.010
_HELPED = 0.05
_RUNS_PER_TURN = 100
LOAD_EVERY_S = 0.06
MOST_LOADS, FEWEST_LOADS = 60, 8
LOADING_S = 10.0
"""Time that loading afresh may take beside the measured time, all loads and models together."""

INTERLEAVING = (
    f"rounds of the reference loop and one turn of about {1e3 * TURN_S:.0f} ms for each model, in random order, "
    "the first run of a turn uncounted; "
    f"all models loaded afresh for every {1e3 * LOAD_EVERY_S:.0f} ms of each, {FEWEST_LOADS} to {MOST_LOADS} times"
)


@dataclass(frozen=True)
class Contender:
    """A model in a session.

    Attributes:
        name: For progress.
        load: Loads it afresh and gives a function that runs it once.
    """

    name: str
    load: Callable[[], Invocation]


@dataclass(frozen=True)
class Plan:
    """How long a session goes on.

    Attributes:
        min_runs: Of each model.
        min_time_s: Of each model, the sum of its times.
        threads: That the models compute with.
        seed: Of the order.
        origin_s: ``time.perf_counter`` that starts are counted from; that of the session's start where None.
        loads: How often models are loaded; as many as the time allows where None.
    """

    min_runs: int
    min_time_s: float
    threads: int = 1
    seed: int = 0
    origin_s: float | None = None
    loads: int | None = None


@dataclass(frozen=True)
class SessionResult:
    """What a session gave, contender by contender.

    Attributes:
        runs: Every timed run.
        warmups: Before them, for the first load.
        reference: The reference loop's runs; its rounds are those of the models.
        loads: How the cores were shared during each load of the models.
        complete: Whether it went to the end.
    """

    runs: tuple[Runs, ...]
    warmups: tuple[Warmup, ...]
    reference: Runs
    loads: tuple[Load, ...]
    complete: bool


class Recorder:
    """Times runs and keeps every one.

    Args:
        threads: That the model computes with. With one, the time for which it had the core is kept too.
        origin_s: ``time.perf_counter`` that starts are counted from.
    """

    def __init__(self, threads: int, origin_s: float) -> None:
        self._switches, self._origin_s, self._threads = switch_counter(threads), origin_s, threads
        self._columns: tuple[list[float], list[float], list[float]] = ([], [], [])
        self._counts: tuple[list[int], list[int], list[int]] = ([], [], [])
        self.total_s = 0.0

    def turn(self, run: Invocation, count: int, round_: int, load: int) -> None:
        """Run once for the caches, then so many times. Only the run lies between both readings of the clock."""
        run()
        clock, switches, processors, origin = time.perf_counter, self._switches, _processor_clocks, self._origin_s
        (times, starts, cpu), (rounds, loads, interruptions) = self._columns, self._counts
        for _ in range(count):
            before, (own, all_) = switches(), processors()
            start = clock()
            run()
            end = clock()
            own_now, all_now = processors()
            interruptions.append(switches() - before)
            times.append(end - start)
            cpu.append(_undivided(end - start, own_now - own, all_now - all_))
            starts.append(start - origin)
            rounds.append(round_)
            loads.append(load)
            self.total_s += end - start

    @property
    def times_s(self) -> tuple[float, ...]:
        """So far."""
        return tuple(self._columns[0])

    def runs(self) -> Runs:
        """All that was recorded; times to the nanosecond, which is finer than the clock's own steps."""
        times, starts, cpu = (tuple(round(value, 9) for value in column) for column in self._columns)
        rounds, loads, switches = (tuple(column) for column in self._counts)
        alone = cpu if self._threads == 1 else ()
        return Runs(tuple(max(time, 1e-9) for time in times), starts, rounds, loads, switches, alone)

    def reached(self, plan: Plan, share: float) -> bool:
        """Whether it holds a share of what the plan asks for."""
        return len(self._columns[0]) >= share * plan.min_runs and self.total_s >= share * plan.min_time_s


def _processor_clocks() -> tuple[float, float]:
    """CPU time of this thread and of all."""
    return time.thread_time(), time.process_time()


def _undivided(wall_s: float, own_s: float, all_s: float) -> float:
    """CPU time of a run that this thread did alone; where others helped, it says nothing, and the whole counts."""
    return min(wall_s, own_s) if all_s - own_s <= _HELPED * own_s else wall_s


class Session:
    """One session; see the module.

    Args:
        contenders: The models.
        plan: How long.
        tell: Called between loads, where it disturbs no timing.
        stop: Ends the session after the turn at hand.
    """

    def __init__(self, contenders: Sequence[Contender], plan: Plan, tell: Tell, stop: threading.Event) -> None:
        self._contenders, self._plan, self._tell, self._stop = tuple(contenders), plan, tell, stop
        self._random = random.Random(plan.seed)  # noqa: S311 - an order of turns, no secret
        origin_s = time.perf_counter() if plan.origin_s is None else plan.origin_s
        self._recorders = tuple(Recorder(plan.threads, origin_s) for _ in contenders)
        self._reference = Recorder(1, origin_s)
        self._warmups: list[Warmup] = []
        self._loads: list[Load] = []
        self._round = 0

    def hold(self) -> SessionResult:
        """Go through the session, or to where it is stopped."""
        started = time.perf_counter()
        invocations = self._load_all(0)
        loading_s = time.perf_counter() - started
        shortest_s = [self._warm_up(i, run) for i, run in enumerate(invocations)]
        turns = [max(1, min(_RUNS_PER_TURN, round(TURN_S / max(t, 1e-9)))) for t in shortest_s]
        loads = self._plan.loads or self._number_of_loads(shortest_s, loading_s)
        for load in range(loads):
            if load:
                invocations.clear()  # before the next are loaded: two of each may not fit
                invocations = self._load_all(load)
                settle_all(invocations)
            if self._stop.is_set():
                break
            self._measure(invocations, turns, load, (load + 1) / loads)
            self._report(started, (load + 1) / loads)
        complete = not self._stop.is_set() or self._reached(1)
        runs = tuple(entry.runs() for entry in self._recorders)
        return SessionResult(runs, tuple(self._warmups), self._reference.runs(), tuple(self._loads), complete)

    def _load_all(self, load: int) -> list[Invocation]:
        """Load all models in random order; give them in their own."""
        order = list(range(len(self._contenders)))
        self._random.shuffle(order)
        loaded: dict[int, Invocation] = {}
        for i in order:
            if not load:
                self._tell(Progress(Phase.LOAD, self._contenders[i].name))
            loaded[i] = self._contenders[i].load()
        return [loaded[i] for i in sorted(loaded)]

    def _warm_up(self, index: int, run: Invocation) -> float:
        self._tell(Progress(Phase.WARM_UP, self._contenders[index].name))
        warmup, shortest_s = warm_up(run, self._stop)
        self._warmups.append(warmup)
        return shortest_s

    def _number_of_loads(self, shortest_s: Sequence[float], loading_s: float) -> int:
        longest = max(max(self._plan.min_time_s, self._plan.min_runs * t) for t in shortest_s)
        wanted = min(MOST_LOADS, max(FEWEST_LOADS, round(longest / LOAD_EVERY_S)))
        affordable = int((LOADING_S + self._plan.min_time_s) / max(loading_s, 1e-9))
        return max(FEWEST_LOADS, min(wanted, affordable))

    def _measure(self, invocations: Sequence[Invocation], turns: Sequence[int], load: int, share: float) -> None:
        """One round at least, and on until every model has its share of runs and time."""
        order = list(range(len(invocations)))
        meter = LoadMeter()
        collecting = gc.isenabled()
        gc.disable()
        try:
            first = True
            while not self._stop.is_set() and (first or not self._reached(share)):
                first = False
                self._reference.turn(reference_loop, 1, self._round, load)
                self._random.shuffle(order)
                for i in order:
                    self._recorders[i].turn(invocations[i], turns[i], self._round, load)
                self._round += 1
        finally:
            if collecting:
                gc.enable()
        during = meter.read()
        if during is not None:
            self._loads.append(during)

    def _reached(self, share: float) -> bool:
        return all(entry.reached(self._plan, share) for entry in self._recorders)

    def _report(self, started_s: float, share: float) -> None:
        spent = time.perf_counter() - started_s
        times = {c.name: r.times_s for c, r in zip(self._contenders, self._recorders, strict=True)}
        remaining = spent * (1 / share - 1)
        self._tell(Progress(Phase.MEASURE, done=share, remaining_s=remaining, times_s=times))
