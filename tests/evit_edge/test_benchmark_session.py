"""Turns, loads, warm-up, stages and the reference loop, on functions whose behaviour is known."""

import gc
import threading
import time
from collections import Counter

import numpy as np
import pytest

from evit_edge.benchmark.contention import LoadMeter, affinity, quota_throttled_s, switch_counter
from evit_edge.benchmark.figures import Stage
from evit_edge.benchmark.reference import reference_loop
from evit_edge.benchmark.request import Phase
from evit_edge.benchmark.session import FEWEST_LOADS, MOST_LOADS, Contender, Plan, Recorder, Session
from evit_edge.benchmark.stages import time_stages
from evit_edge.benchmark.warmup import WINDOWS, settle_all, warm_up
from evit_edge.errors import DataError
from evit_edge.runtime import open_runner


class Model:
    """Sleeps so long, and remembers when it was loaded and run."""

    def __init__(self, name, log, duration_s=0.0005):
        self.name, self.log, self.duration_s = name, log, duration_s

    def load(self):
        self.log.append(("load", self.name))
        return self.run

    def run(self):
        self.log.append(("run", self.name))
        time.sleep(self.duration_s)

    def contender(self):
        return Contender(self.name, self.load)


def hold(models, plan, tell=lambda _: None, stop=None):
    return Session([m.contender() for m in models], plan, tell, stop or threading.Event()).hold()


def test_models_take_turns_in_changing_order():
    log = []
    models = [Model("a", log, 0.001), Model("b", log, 0.004)]
    result = hold(models, Plan(min_runs=32, min_time_s=0.0))
    first, second = result.runs
    assert result.complete
    assert min(len(first.times_s), len(second.times_s)) >= 32
    assert set(first.rounds) == set(second.rounds) == set(result.reference.rounds)
    assert Counter(result.reference.rounds).most_common(1)[0][1] == 1
    starts = [dict(reversed(list(zip(run.rounds, run.starts_s, strict=True)))) for run in result.runs]
    a_first = [starts[0][r] < starts[1][r] for r in starts[0]]
    assert 0 < sum(a_first) < len(a_first)
    assert len(first.times_s) > len(second.times_s)  # turns are of equal time, not of equal count


def test_models_are_loaded_afresh():
    log = []
    result = hold([Model("a", log), Model("b", log)], Plan(min_runs=200, min_time_s=0.0))
    assert set(result.runs[0].loads) == set(range(FEWEST_LOADS))
    assert log.count(("load", "a")) == log.count(("load", "b")) == FEWEST_LOADS
    order = [name for what, name in log if what == "load"]
    assert {"ab", "ba"} == {"".join(order[i : i + 2]) for i in range(0, len(order), 2)}
    assert list(result.runs[0].loads) == sorted(result.runs[0].loads)
    many = hold([Model("a", [])], Plan(min_runs=1, min_time_s=0.0, loads=MOST_LOADS))
    assert len(set(many.runs[0].loads)) == MOST_LOADS


def test_a_session_goes_on_for_its_time():
    result = hold([Model("a", [])], Plan(min_runs=1, min_time_s=0.2))
    assert sum(result.runs[0].times_s) >= 0.2
    assert all(
        later >= earlier
        for earlier, later in zip(result.runs[0].starts_s, result.runs[0].starts_s[1:], strict=False)
    )


def test_the_seed_fixes_the_order():
    def order(seed):
        log = []
        hold([Model(name, log) for name in "abc"], Plan(min_runs=8, min_time_s=0.0, seed=seed))
        return [name for what, name in log if what == "load"]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_progress_is_told_between_loads_only():
    told, log = [], []
    hold([Model("a", log)], Plan(min_runs=40, min_time_s=0.0), tell=lambda p: (told.append(p), log.append("told")))
    measured = [p for p in told if p.phase is Phase.MEASURE]
    assert len(measured) == FEWEST_LOADS
    assert [p.done for p in measured] == sorted(p.done for p in measured)
    assert measured[-1].done == 1
    assert measured[-1].remaining_s == 0
    assert len(measured[-1].times_s["a"]) >= 40
    after = [log[i + 1] for i in range(len(log) - 1) if log[i] == "told"][2:]
    assert set(after) == {("load", "a")}


def test_a_stopped_session_keeps_what_it_has():
    stop = threading.Event()

    def tell(progress):
        if progress.done >= 0.5:
            stop.set()

    result = hold([Model("a", [])], Plan(min_runs=80, min_time_s=0.0), tell, stop)
    assert not result.complete
    assert 40 <= len(result.runs[0].times_s) < 80


def test_a_session_that_is_stopped_before_it_begins_has_no_runs():
    stop = threading.Event()
    stop.set()
    result = hold([Model("a", [])], Plan(min_runs=80, min_time_s=0.0), stop=stop)
    assert not result.complete
    assert result.runs[0].times_s == ()


def test_garbage_is_collected_again_even_after_a_failure():
    class Broken(Model):
        def run(self):
            super().run()
            if len(self.log) > 60:
                raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        hold([Broken("a", [])], Plan(min_runs=1000, min_time_s=0.0))
    assert gc.isenabled()


def test_only_the_run_lies_between_both_readings():
    recorder = Recorder(1, time.perf_counter())
    calls = []
    recorder.turn(lambda: (calls.append(1), time.sleep(0.002)), 5, 3, 2)
    runs = recorder.runs()
    assert len(calls) == 6  # the first brings the caches back and is not counted
    assert runs.rounds == (3,) * 5
    assert runs.loads == (2,) * 5
    assert min(runs.times_s) >= 0.002
    assert recorder.total_s == pytest.approx(sum(runs.times_s), abs=1e-6)


def test_warm_up_waits_for_times_that_settle():
    state = {"runs": 0}

    def run():
        state["runs"] += 1
        time.sleep(0.02 if state["runs"] <= 10 else 0.002)

    found, shortest_s = warm_up(run, threading.Event())
    assert found.runs == state["runs"]
    assert found.runs > 10
    assert shortest_s < 0.01


def test_warm_up_gives_up_on_times_that_never_settle(monkeypatch):
    monkeypatch.setattr("evit_edge.benchmark.warmup.LONGEST_S", 0.3)
    state = {"duration": 0.001}

    def run():
        state["duration"] *= 1.08
        time.sleep(state["duration"])

    found, _ = warm_up(run, threading.Event())
    assert found.stable is False
    assert found.runs >= 5 * WINDOWS


def test_settling_runs_a_few_times():
    times = []
    settle_all([lambda: times.append(1)])
    assert len(times) >= 3


def test_the_reference_loop_is_work_of_a_fixed_size():
    times = []
    for _ in range(20):
        start = time.perf_counter()
        reference_loop()
        times.append(time.perf_counter() - start)
    assert min(times) > 1e-5


def test_interruptions_are_counted():
    for threads in (1, 2):
        count = switch_counter(threads)
        before = count()
        reference_loop()
        assert count() >= before >= 0


def test_the_load_meter_sees_this_process():
    meter = LoadMeter()
    until = time.perf_counter() + 0.3
    while time.perf_counter() < until:
        reference_loop()
    load = meter.read()
    if load is None:  # no /proc/stat here
        return
    # No more can be asked: on a busy machine this process may get little, and ticks are counted late.
    assert load.duration_s >= 0.3
    assert load.own_cores > 0
    assert load.own_cores + load.other_cores + load.idle_cores > 0.3 * len(affinity())
    assert (quota_throttled_s() or 0) >= 0


def test_stages_of_a_real_pipeline(colour_model, coffee_jpg, tmp_path):
    runner = open_runner(colour_model)
    for photo in (coffee_jpg, None):
        stages = time_stages(runner, photo, threading.Event())
        assert [entry.stage for entry in stages] == list(Stage)
        assert len({entry.statistics.count for entry in stages}) == 1
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no\.jpg"):
        time_stages(runner, tmp_path / "no.jpg", threading.Event())
    stop = threading.Event()
    stop.set()
    assert time_stages(runner, coffee_jpg, stop) == ()


def test_a_prepared_runner_runs_the_engine(colour_models):
    for path in colour_models.values():
        runner = open_runner(path)
        picture = np.zeros((1, 32, 32, 3), dtype=np.uint8)
        expected = runner.run(picture)
        run = runner.prepare(picture)
        run()
        assert (runner.run(picture) == expected).all()
