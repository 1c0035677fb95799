"""Whether a host's times can be trusted: evidence in, a verdict with its reasons out.

Each rule has a number, stated in docs/benchmark.md together with what it was chosen by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from evit_edge.benchmark.contention import Load
from evit_edge.benchmark.device import Check, Judgement, Verdict
from evit_edge.benchmark.figures import Interval, Runs, Warmup
from evit_edge.benchmark.statistics import Trend, locations, percentile, trend

MOST_SPREAD = 0.10
"""Of the reference loop: how far its 90th percentile may lie above its 10th."""

MOST_DRIFT, DRIFT_P = 0.05, 0.01
MOST_INTERRUPTIONS = 20.0
"""Involuntary context switches per second of timed runs."""

CROWDED_OTHERS, CROWDED_IDLE, MOST_CROWDED = 0.25, 0.25, 0.10
"""A load is crowded where others keep so many cores busy and so few are idle; the share of such loads allowed."""

MOST_UNCERTAIN = 0.05
"""Half of the median's interval, as a share of the median."""

FEWEST_RUNS = 30
MOST_SLOWED_CLOCK = 0.10
MOST_QUOTA_S = 0.0

REFERENCE = "reference loop"
_SAID = 3
_QUIET = "close other programs, or measure again when the machine is idle"
_COOL = "let the machine cool down, plug it in, and choose the governor 'performance' where there is one"


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made of.

    Attributes:
        reference: The reference loop's runs.
        runs: Model's name to its runs; one entry a number of threads.
        medians: The same names to the median's interval, divided by the median.
        warmups: The same names to their warm-up.
        loads: How the cores were shared.
        quota_s: For how long a container's CPU quota stopped the process; None where there is none.
        clock_change: Relative change of the clock frequency; None where it is not readable.
    """

    reference: Runs
    runs: Mapping[str, Runs]
    medians: Mapping[str, Interval | None]
    warmups: Mapping[str, Warmup]
    loads: Sequence[Load] = field(default_factory=tuple)
    quota_s: float | None = None
    clock_change: float | None = None


def judge(evidence: Evidence) -> Verdict:
    """Apply every rule."""
    crowding = [_interruptions(evidence.runs), *_crowd(evidence.loads)]
    alone = all(check.passed for check in crowding)
    checks = [
        *_spread(evidence.reference),
        *crowding,
        *_drifts(evidence, alone),
        *_warmups(evidence.warmups),
        *_enough(evidence),
        *_throttling(evidence),
    ]
    return conclude(checks)


def conclude(checks: Sequence[Check]) -> Verdict:
    """The worst judgement of the checks that failed, with their reasons; valid where none did."""
    failed = [check for check in checks if not check.passed]
    if not failed:
        return Verdict(Judgement.VALID, f"all {len(checks)} checks passed", "", tuple(checks))
    worst = max((check.judgement for check in failed), key=list(Judgement).index)
    failed.sort(key=lambda check: check.judgement is not worst)
    kinds = list({check.name: check for check in reversed(failed)}.values())[::-1]  # the first of each name
    said = [f"{check.name} of {check.subject}: {check.measured} ({check.limit})" for check in kinds[:_SAID]]
    rest = len(failed) - len(said)
    if rest > 0:
        said.append(f"and {rest} more check{'s' if rest > 1 else ''} failed")
    advice = "; ".join(dict.fromkeys(check.advice for check in kinds))
    return Verdict(worst, "; ".join(said), advice, tuple(checks))


def _spread(reference: Runs) -> list[Check]:
    if len(reference.times_s) < FEWEST_RUNS:
        return []
    times = np.array(reference.times_s)
    spread = percentile(times, 0.9) / percentile(times, 0.1) - 1
    measured = f"90th percentile {100 * spread:.1f} % above the 10th"
    limit = f"at most {100 * MOST_SPREAD:.0f} %"
    return [Check("noise", REFERENCE, measured, limit, spread <= MOST_SPREAD, Judgement.NOISY, _QUIET)]


def _interruptions(runs: Mapping[str, Runs]) -> Check:
    """All models together: the system does not choose whom it interrupts."""
    switches = sum(sum(entry.switches) for entry in runs.values())
    seconds = sum(sum(entry.times_s) for entry in runs.values())
    rate = switches / seconds if seconds else 0.0
    measured = f"{rate:.1f} involuntary context switches per second"
    limit = f"at most {MOST_INTERRUPTIONS:.0f}"
    return Check("interruptions", "all runs", measured, limit, rate <= MOST_INTERRUPTIONS, Judgement.NOISY, _QUIET)


def _crowd(loads: Sequence[Load]) -> list[Check]:
    if not loads:
        return []
    crowded = [load for load in loads if load.other_cores >= CROWDED_OTHERS and load.idle_cores < CROWDED_IDLE]
    share = len(crowded) / len(loads)
    others = float(np.mean([load.other_cores for load in loads]))
    idle = float(np.mean([load.idle_cores for load in loads]))
    measured = (
        f"others kept {others:.2f} cores busy and {idle:.2f} were idle on average; "
        f"no core was free in {100 * share:.0f} % of the time"
    )
    limit = f"at most {100 * MOST_CROWDED:.0f} %"
    passed = share <= MOST_CROWDED
    return [Check("other programs", "this machine", measured, limit, passed, Judgement.NOISY, _QUIET)]


def _drifts(evidence: Evidence, alone: bool) -> list[Check]:
    """A machine that slows down with nobody else on it is throttled; else something else went on."""
    checks = []
    for name, runs in {REFERENCE: evidence.reference, **evidence.runs}.items():
        found = drift(runs)
        if found is None:
            continue
        passed = abs(found.change) <= MOST_DRIFT or found.p_value >= DRIFT_P
        slower = alone and found.change > 0
        measured = f"{100 * found.change:+.1f} % from start to end (p = {found.p_value:.2g})"
        limit = f"at most {100 * MOST_DRIFT:.0f} %, or p at least {DRIFT_P}"
        judgement = Judgement.THROTTLED if slower else Judgement.NOISY
        checks.append(Check("drift", name, measured, limit, passed, judgement, _COOL if slower else _QUIET))
    return checks


def drift(runs: Runs) -> Trend | None:
    """The trend of the loads' typical times."""
    if not runs.starts_s or not runs.loads:
        return None
    typical = locations(runs)
    loads, starts = np.array(runs.loads), np.array(runs.starts_s)
    if not set(typical) <= set(runs.loads):
        return None
    moments = np.array([starts[loads == load].mean() for load in typical])
    return trend(moments, np.array(list(typical.values())))


def _warmups(warmups: Mapping[str, Warmup]) -> list[Check]:
    checks = []
    for name, warmup in warmups.items():
        if warmup.stable is None:
            continue
        state = "settled" if warmup.stable else "did not settle"
        measured = f"{state} in {warmup.runs} runs, {warmup.duration_s:.1f} s"
        checks.append(Check("warm-up", name, measured, "must settle", warmup.stable, Judgement.NOISY, _QUIET))
    return checks


def _enough(evidence: Evidence) -> list[Check]:
    if not evidence.runs:
        advice = "measure again"
        return [Check("number of runs", "all models", "none", "some", False, Judgement.NOISY, advice)]
    checks = []
    for name, runs in evidence.runs.items():
        count, interval = len(runs.times_s), evidence.medians.get(name)
        enough = Check(
            *("number of runs", name, str(count), f"at least {FEWEST_RUNS}", count >= FEWEST_RUNS),
            *(Judgement.NOISY, f"give --runs {FEWEST_RUNS} or more"),
        )
        checks.append(enough)
        if interval is not None:
            uncertain = (interval.high - interval.low) / 2
            measured, limit = f"median known to {100 * uncertain:.1f} %", f"at most {100 * MOST_UNCERTAIN:.0f} %"
            passed = uncertain <= MOST_UNCERTAIN
            advice = "--thorough measures longer"
            checks.append(Check("certainty", name, measured, limit, passed, Judgement.NOISY, advice))
    return checks


def _throttling(evidence: Evidence) -> list[Check]:
    checks = []
    if evidence.quota_s is not None:
        measured, passed = f"stopped for {evidence.quota_s:.2f} s", evidence.quota_s <= MOST_QUOTA_S
        advice = "give the container more CPU, or no quota"
        checks.append(Check("CPU quota", "container", measured, "0 s", passed, Judgement.THROTTLED, advice))
    if evidence.clock_change is not None:
        measured, limit = f"{100 * evidence.clock_change:+.0f} %", f"not below -{100 * MOST_SLOWED_CLOCK:.0f} %"
        passed = evidence.clock_change >= -MOST_SLOWED_CLOCK
        checks.append(Check("clock frequency", "CPU", measured, limit, passed, Judgement.THROTTLED, _COOL))
    return checks
