"""Two reports of different days or devices: what changed beyond noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from evit_edge.benchmark.device import Device, Judgement
from evit_edge.benchmark.figures import Interval, Runs, Statistics
from evit_edge.benchmark.report import Accelerator, Measurement, Report, Status
from evit_edge.benchmark.statistics import CONFIDENCE, Estimate, ratio_across, student_t
from evit_edge.errors import ReportError

FAIL_ABOVE = 0.05
_MACHINE_MOVED = 0.03


class Outcome(StrEnum):
    """What became of a model's time."""

    REGRESSION = "slower"
    IMPROVEMENT = "faster"
    SAME = "no difference beyond noise"
    UNKNOWN = "cannot be told"


@dataclass(frozen=True)
class Change:
    """One model in both reports.

    Attributes:
        name: Of the model; both names where they differ.
        threads: Of both.
        accelerator: Of both.
        before_s: Typical time in the first.
        after_s: Typical time in the second.
        ratio: After over before; None where the reports do not hold enough to tell its interval.
        outcome: What became of it.
    """

    name: str
    threads: int
    accelerator: Accelerator
    before_s: float
    after_s: float
    ratio: Estimate | None
    outcome: Outcome

    @property
    def growth(self) -> float:
        """Relative change, 0.1 for 10 % slower."""
        return self.after_s / self.before_s - 1 if self.ratio is None else self.ratio.value - 1


@dataclass(frozen=True)
class Comparison:
    """Two reports.

    Attributes:
        changes: Models that both measured.
        machine: Change of the reference loop, the same work in both; None where either has none.
        remarks: What a reader must not miss.
    """

    changes: tuple[Change, ...]
    machine: Estimate | None
    remarks: tuple[str, ...]

    def regressions(self, above: float = 0.0) -> tuple[Change, ...]:
        """Models that became slower, beyond noise and by more than a share."""
        return tuple(c for c in self.changes if c.outcome is Outcome.REGRESSION and c.growth > above)


def compare(before: Report, after: Report) -> Comparison:
    """Compare what both reports measured under the same conditions.

    A change counts only if it stays one after the change of the reference loop is taken out, and with it left in:
    a machine that was slower that day makes no regression.

    Raises:
        ReportError: They have nothing in common.
    """
    pairs = list(_pairs(before, after))
    if not pairs:
        raise ReportError(
            f"nothing that both reports measured: {_listed(before)} against {_listed(after)}; "
            "models are matched by name, threads and accelerator"
        )
    devices = before.device(pairs[0][0].device), after.device(pairs[0][1].device)
    machine = _machine(*devices)
    changes = tuple(_change(first, second, machine) for first, second in pairs)
    return Comparison(changes, machine, tuple(_remarks(before, after, devices, machine)))


def _pairs(before: Report, after: Report) -> Iterator[tuple[Measurement, Measurement]]:
    """Measurements of the same model under the same conditions; two lone models are taken for one."""
    lone = len(before.models) == len(after.models) == 1
    for first in before.measurements:
        for second in after.measurements:
            same_model = lone or first.model == second.model
            same_threads = (first.threads, first.accelerator) == (second.threads, second.accelerator)
            same_device = _same_device(before, after, first.device, second.device)
            if same_model and same_threads and same_device and first.statistics and second.statistics:
                yield first, second


def _same_device(before: Report, after: Report, first: str, second: str) -> bool:
    return first == second or len(before.devices) == len(after.devices) == 1


def _change(first: Measurement, second: Measurement, machine: Estimate | None) -> Change:
    if first.statistics is None or second.statistics is None:
        raise ReportError(f"{first.model} was not measured in both reports")
    found = _ratio(first, second)
    name = first.model if first.model == second.model else f"{first.model} -> {second.model}"
    before_s, after_s = first.statistics.typical_s, second.statistics.typical_s
    return Change(name, first.threads, first.accelerator, before_s, after_s, found, _outcome(found, machine))


def _outcome(found: Estimate | None, machine: Estimate | None) -> Outcome:
    if found is None:
        return Outcome.UNKNOWN
    shift = 1.0 if machine is None else machine.value
    if found.interval.low > max(1.0, shift):
        return Outcome.REGRESSION
    return Outcome.IMPROVEMENT if found.interval.high < min(1.0, shift) else Outcome.SAME


def _ratio(first: Measurement, second: Measurement) -> Estimate | None:
    """From raw times where both have them, else from means and standard deviations."""
    if len(first.runs.times_s) > 1 and len(second.runs.times_s) > 1:
        return ratio_across(second.runs, first.runs)
    if first.statistics is None or second.statistics is None:
        return None
    return _ratio_of_means(first.statistics, second.statistics)


def _ratio_of_means(first: Statistics, second: Statistics) -> Estimate | None:
    """For tools that tell no single times; their runs are taken for independent, which is generous."""
    if first.std_s is None or second.std_s is None:
        return None
    count = min(first.count, second.count)
    error = math.hypot(*(s.std_s / s.mean_s / math.sqrt(s.count) for s in (first, second) if s.std_s is not None))
    reach = student_t(0.5 + CONFIDENCE / 2, count - 1) * error
    value = second.mean_s / first.mean_s
    return Estimate(value, Interval(value * math.exp(-reach), value * math.exp(reach), CONFIDENCE), count)


def _machine(before: Device, after: Device) -> Estimate | None:
    """Change of the reference loop, on the same kind of machine."""
    runs: tuple[Runs, Runs] = before.reference, after.reference
    if before.environment.cpu.model != after.environment.cpu.model or min(len(r.times_s) for r in runs) < 2:
        return None
    return ratio_across(runs[1], runs[0])


def _remarks(
    before: Report, after: Report, devices: tuple[Device, Device], machine: Estimate | None
) -> Iterator[str]:
    for name, report in (("first", before), ("second", after)):
        if report.status is Status.PARTIAL:
            yield f"the {name} report is partial"
        if report.judgement is not Judgement.VALID:
            yield f"the {name} report is {report.judgement.value}: a difference may be the machine's"
    if machine is not None and abs(machine.value - 1) > _MACHINE_MOVED and 1.0 not in machine.interval:
        word, share = "slower" if machine.value > 1 else "faster", 100 * abs(machine.value - 1)
        yield f"the reference loop ran {share:.1f} % {word} the second time: so did the machine"
    yield from _differences(before, after, devices)


def _differences(before: Report, after: Report, devices: tuple[Device, Device]) -> Iterator[str]:
    """What else differs, so that a model is not blamed for it."""
    environments = devices[0].environment, devices[1].environment
    asked: tuple[tuple[str, Callable[[int], object]], ...] = (
        ("device", lambda i: devices[i].name),
        ("CPU", lambda i: environments[i].cpu.model),
        ("system", lambda i: f"{environments[i].os} {environments[i].os_version}"),
        ("governor", lambda i: environments[i].cpu.governor),
    )
    for what, read in asked:
        if read(0) != read(1):
            yield f"{what} differs: {read(0)} and {read(1)}"
    versions = environments[0].versions, environments[1].versions
    for name in sorted(versions[0].keys() & versions[1].keys()):
        if versions[0][name] != versions[1][name]:
            yield f"{name} differs: {versions[0][name]} and {versions[1][name]}"
    hashes = {entry.name: entry.sha256 for entry in before.models}
    for entry in after.models:
        if hashes.get(entry.name, entry.sha256) != entry.sha256:
            yield f"{entry.name} is not the same file in both"


def _listed(report: Report) -> str:
    return ", ".join(f"{m.model} ({m.threads} threads, {m.accelerator})" for m in report.measurements) or "nothing"
