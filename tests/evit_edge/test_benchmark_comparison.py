"""What counts as a change between two reports, and what is the machine's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evit_edge.benchmark.comparison import Outcome, compare
from evit_edge.benchmark.figures import Runs
from evit_edge.benchmark.report import Accelerator, Status, read_report
from evit_edge.benchmark.statistics import describe
from evit_edge.errors import ReportError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "report-host.json"


def runs(level, seed, spread=0.02):
    random = np.random.default_rng(seed)
    loads = np.repeat(np.arange(20), 10)
    times = level * np.exp(np.repeat(random.normal(0, spread, 20), 10) + random.exponential(0.02, 200))
    return Runs(tuple(times.tolist()), loads=tuple(loads.tolist()))


@pytest.fixture(scope="module")
def make():
    """Function: the golden report with one model of a given time, on a machine of a given speed."""
    golden = read_report(GOLDEN)

    def build(level, *, machine=1.0, seed=0, **changes):
        row = golden.measurements[0]
        timed = runs(level * machine, seed)
        row = replace(row, runs=timed, statistics=describe(timed), **changes)
        device = replace(golden.devices[0], reference=runs(5e-4 * machine, seed + 100, 0.002))
        entries = golden.models[:1]
        return replace(golden, devices=(device,), models=entries, measurements=(row,), ratios=())

    return build


def test_a_real_change_is_found_and_no_other(make):
    (slower,) = compare(make(2e-3), make(2.3e-3, seed=1)).changes
    assert slower.outcome is Outcome.REGRESSION
    assert slower.growth == pytest.approx(0.15, abs=0.04)
    assert compare(make(2e-3), make(1.7e-3, seed=1)).changes[0].outcome is Outcome.IMPROVEMENT
    same = compare(make(2e-3), make(2e-3, seed=1))
    assert same.changes[0].outcome is Outcome.SAME
    assert same.regressions() == ()


def test_a_slower_machine_makes_no_regression(make):
    found = compare(make(2e-3), make(2e-3, machine=1.2, seed=1))
    assert found.changes[0].outcome is Outcome.SAME
    assert found.machine.value == pytest.approx(1.2, abs=0.02)
    assert any("reference loop ran" in remark and "slower" in remark for remark in found.remarks)
    both = compare(make(2e-3), make(3e-3, machine=1.2, seed=1))
    assert both.changes[0].outcome is Outcome.REGRESSION


def test_a_faster_machine_makes_no_improvement(make):
    assert compare(make(2e-3), make(2e-3, machine=0.8, seed=1)).changes[0].outcome is Outcome.SAME


def test_the_limit_is_on_what_grew(make):
    found = compare(make(2e-3), make(2.3e-3, seed=1))
    assert len(found.regressions(0.05)) == 1
    assert found.regressions(0.5) == ()


def test_figures_without_single_times_are_compared_by_means(make):
    before, after = make(2e-3), make(2.3e-3, seed=1)
    bare = [replace(r, measurements=(replace(r.measurements[0], runs=Runs()),)) for r in (before, after)]
    (change,) = compare(*bare).changes
    assert change.outcome is Outcome.REGRESSION
    without = [
        replace(
            r, measurements=tuple(replace(m, statistics=replace(m.statistics, std_s=None)) for m in r.measurements)
        )
        for r in bare
    ]
    (change,) = compare(*without).changes
    assert change.outcome is Outcome.UNKNOWN
    assert change.ratio is None


def test_lone_models_are_taken_for_one_and_others_go_by_name(make):
    before, after = make(2e-3), make(2e-3, seed=1)
    renamed = replace(
        after,
        models=(replace(after.models[0], name="new.tflite"),),
        measurements=(replace(after.measurements[0], model="new.tflite"),),
    )
    assert compare(before, renamed).changes[0].name == "m0.tflite -> new.tflite"
    two = replace(renamed, models=(*renamed.models, replace(after.models[0], name="other.tflite")))
    with pytest.raises(ReportError, match="nothing that both"):
        compare(before, two)


@pytest.mark.parametrize("changes", [{"threads": 4}, {"accelerator": Accelerator.GPU}], ids=str)
def test_other_conditions_are_not_compared(changes, make):
    with pytest.raises(ReportError, match="nothing that both"):
        compare(make(2e-3), make(2e-3, seed=1, **changes))


def test_what_else_differs_is_said(make):
    before, after = make(2e-3), make(2e-3, seed=1)
    device = after.devices[0]
    environment = replace(
        device.environment,
        os_version="7.0",
        versions={**device.environment.versions, "numpy": "9"},
        cpu=replace(device.environment.cpu, model="another"),
    )
    models = (replace(after.models[0], sha256="0" * 64),)
    other = replace(
        after, devices=(replace(device, environment=environment),), models=models, status=Status.PARTIAL
    )
    found = compare(before, other)
    said = "\n".join(found.remarks)
    for words in (
        "system differs",
        "numpy differs",
        "CPU differs",
        "not the same file",
        "second report is partial",
    ):
        assert words in said
    assert found.machine is None  # another CPU's reference loop tells nothing
