"""Rules: what makes times noisy or throttled, and what does not."""

from dataclasses import replace

import numpy as np
import pytest

from evit_edge.benchmark.contention import Load
from evit_edge.benchmark.device import Judgement
from evit_edge.benchmark.figures import Interval, Runs, Warmup
from evit_edge.benchmark.verdict import REFERENCE, Evidence, conclude, judge

LOADS, PER_LOAD = 20, 10


def runs(level=1e-3, *, rise=0.0, spread=0.01, switches=0, seed=0):
    """Times of loads, rising evenly by a share from start to end."""
    count = LOADS * PER_LOAD
    starts = np.linspace(0, 6, count)
    values = level * (1 + rise * starts / 6) * (1 + spread * np.random.default_rng(seed).random(count))
    loads = np.repeat(np.arange(LOADS), PER_LOAD)
    return Runs(
        tuple(values.tolist()),
        tuple(starts.tolist()),
        rounds=tuple(range(count)),
        loads=tuple(loads.tolist()),
        switches=(switches,) * count,
    )


QUIET = Load(duration_s=0.3, own_cores=1.0, other_cores=0.02, idle_cores=0.98)
CROWDED = Load(duration_s=0.3, own_cores=1.0, other_cores=0.97, idle_cores=0.03)
WIDE = Load(duration_s=0.3, own_cores=1.0, other_cores=20.0, idle_cores=11.0)


def evidence(**changes):
    quiet = Evidence(
        reference=runs(seed=1),
        runs={"m.tflite": runs(2e-3)},
        medians={"m.tflite": Interval(0.99, 1.01, 0.99)},
        warmups={"m.tflite": Warmup(30, 0.2, stable=True)},
        loads=(QUIET,) * LOADS,
        quota_s=0.0,
        clock_change=0.0,
    )
    return replace(quiet, **changes)


def test_a_quiet_machine_is_valid():
    verdict = judge(evidence())
    assert verdict.judgement is Judgement.VALID
    assert verdict.advice == ""
    assert all(check.passed for check in verdict.checks)
    assert {check.name for check in verdict.checks} == {
        *("noise", "interruptions", "other programs", "drift", "warm-up", "number of runs", "certainty"),
        *("CPU quota", "clock frequency"),
    }


@pytest.mark.parametrize(
    ("changes", "judgement", "check"),
    [
        pytest.param({"reference": runs(spread=0.3)}, Judgement.NOISY, "noise", id="the reference loop scatters"),
        pytest.param(
            {"runs": {"m.tflite": runs(2e-3, switches=1)}}, Judgement.NOISY, "interruptions", id="interrupted runs"
        ),
        pytest.param(
            {"loads": (QUIET,) * 10 + (CROWDED,) * 10}, Judgement.NOISY, "other programs", id="a hog from half-way"
        ),
        pytest.param({"runs": {"m.tflite": runs(2e-3, rise=-0.2)}}, Judgement.NOISY, "drift", id="becomes faster"),
        pytest.param(
            {"reference": runs(rise=0.09, seed=1)},
            Judgement.THROTTLED,
            "drift",
            id="becomes slower with nobody about",
        ),
        pytest.param(
            {"warmups": {"m.tflite": Warmup(900, 3.0, stable=False)}},
            Judgement.NOISY,
            "warm-up",
            id="never settled",
        ),
        pytest.param(
            {"runs": {"m.tflite": Runs((0.002,) * 10)}}, Judgement.NOISY, "number of runs", id="too few runs"
        ),
        pytest.param(
            {"medians": {"m.tflite": Interval(0.9, 1.1, 0.99)}}, Judgement.NOISY, "certainty", id="a vague median"
        ),
        pytest.param({"quota_s": 0.4}, Judgement.THROTTLED, "CPU quota", id="stopped by a quota"),
        pytest.param({"clock_change": -0.3}, Judgement.THROTTLED, "clock frequency", id="the clock fell"),
        pytest.param({"runs": {}, "medians": {}}, Judgement.NOISY, "number of runs", id="nothing was timed"),
    ],
)
def test_each_rule_has_its_reason_and_advice(changes, judgement, check):
    verdict = judge(evidence(**changes))
    assert verdict.judgement is judgement
    assert verdict.reason.startswith(check)
    assert verdict.advice
    assert [c.name for c in verdict.checks if not c.passed] == [check]


def test_a_slower_machine_with_others_on_it_is_noisy_not_throttled():
    verdict = judge(evidence(reference=runs(rise=0.09, seed=1), loads=(CROWDED,) * LOADS))
    assert verdict.judgement is Judgement.NOISY


def test_many_cores_may_be_busy_while_some_are_free():
    assert judge(evidence(loads=(WIDE,) * LOADS)).judgement is Judgement.VALID


def test_what_the_system_does_not_tell_is_not_judged():
    blind = replace(runs(2e-3), switches=())
    verdict = judge(evidence(loads=(), quota_s=None, clock_change=None, runs={"m.tflite": blind}))
    assert verdict.judgement is Judgement.VALID
    assert not {"other programs", "CPU quota", "clock frequency"} & {check.name for check in verdict.checks}


def test_the_worst_comes_first_and_many_reasons_are_cut():
    failing = evidence(
        reference=runs(spread=0.4),
        runs={"m.tflite": runs(2e-3, switches=1)},
        loads=(CROWDED,) * LOADS,
        quota_s=1.0,
        medians={"m.tflite": Interval(0.5, 1.5, 0.99)},
    )
    verdict = judge(failing)
    assert verdict.judgement is Judgement.THROTTLED
    assert verdict.reason.startswith("CPU quota")
    assert "and 2 more checks failed" in verdict.reason
    assert conclude(()).judgement is Judgement.VALID
    assert REFERENCE in {check.subject for check in verdict.checks}
