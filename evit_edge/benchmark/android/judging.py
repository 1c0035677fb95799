"""Whether a phone's times can be trusted: what heat, battery and the starts themselves say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evit_edge.benchmark.android.phone import THERMAL, Condition
from evit_edge.benchmark.android.program import Way
from evit_edge.benchmark.android.session import PhoneResult, Start
from evit_edge.benchmark.device import Check, Judgement, Verdict
from evit_edge.benchmark.statistics import percentile, trend
from evit_edge.benchmark.verdict import DRIFT_P, FEWEST_RUNS, MOST_DRIFT, MOST_SPREAD, conclude

LEAST_CLOCK = 0.95
"""Share of the highest frequency that every core must be allowed."""

LEAST_BATTERY = 0.20
_COOL = "let the phone cool down, out of its case and off the charger, and measure again"
_QUIET = "close other apps, switch the screen off, and measure again"


def judge_phone(result: PhoneResult, *, stand_in: bool) -> Verdict:
    """Apply every rule.

    Args:
        result: What was measured.
        stand_in: Whether it was a program that plays a phone.
    """
    first, last = result.conditions[0], result.conditions[-1]
    checks = [
        *_genuine(result.properties.emulator, stand_in),
        *_heat(result.conditions),
        *_clock(result.conditions),
        *_battery(first, last),
    ]
    for model, way in dict.fromkeys((start.model, start.way) for start in result.starts):
        checks += _starts(f"{model}, {describe(way)}", result.of(model, way))
    return conclude(checks)


def describe(way: Way) -> str:
    """A way in words, such as ``cpu with 4 threads``."""
    return f"{way.accelerator} with {way.threads} thread{'s' if way.threads > 1 else ''}"


def _genuine(emulator: bool, stand_in: bool) -> list[Check]:
    checks = []
    if stand_in:
        what, advice = "a program that plays a phone in tests; nothing was measured", "attach a phone"
        checks.append(Check("device", "phone", what, "a phone", False, Judgement.NOISY, advice))
    if emulator:
        what, advice = "an emulator", "its times say nothing about a phone; attach one"
        checks.append(Check("device", "phone", what, "a phone", False, Judgement.NOISY, advice))
    return checks


def _heat(conditions: Sequence[Condition]) -> list[Check]:
    """Android's own word for throttling: any status above none."""
    known = [c.state.thermal_status for c in conditions if c.state.thermal_status is not None]
    if not known:
        return []
    worst = max(known, key=THERMAL.index)
    measured = f"{worst} at worst, {known[0]} before, {known[-1]} after"
    passed = worst == THERMAL[0]
    return [Check("thermal status", "phone", measured, "none throughout", passed, Judgement.THROTTLED, _COOL)]


def _clock(conditions: Sequence[Condition]) -> list[Check]:
    known = [condition.capped for condition in conditions if condition.capped is not None]
    if not known:
        return []
    least = min(known)
    measured = f"a core was held to {100 * least:.0f} % of its highest frequency"
    limit = f"at least {100 * LEAST_CLOCK:.0f} %"
    return [Check("allowed clock", "CPU", measured, limit, least >= LEAST_CLOCK, Judgement.THROTTLED, _COOL)]


def _battery(first: Condition, last: Condition) -> list[Check]:
    checks = []
    saver = [condition.saver for condition in (first, last) if condition.saver is not None]
    if saver:
        measured, advice = "on" if any(saver) else "off", "switch the battery saver off"
        checks.append(
            Check("battery saver", "phone", measured, "off", not any(saver), Judgement.THROTTLED, advice)
        )
    levels = [c.state.battery_level for c in (first, last) if c.state.battery_level is not None]
    if levels:
        measured, limit = f"{100 * min(levels):.0f} %", f"at least {100 * LEAST_BATTERY:.0f} %"
        passed = min(levels) >= LEAST_BATTERY
        checks.append(Check("battery", "phone", measured, limit, passed, Judgement.NOISY, "charge the phone"))
    return checks


def _starts(subject: str, starts: Sequence[Start]) -> list[Check]:
    """Spread between starts, drift over them, and whether there were enough runs."""
    runs = sum(start.output.runs.count for start in starts)
    checks = [
        Check(
            *("number of runs", subject, str(runs), f"at least {FEWEST_RUNS}", runs >= FEWEST_RUNS),
            *(Judgement.NOISY, f"give --runs {FEWEST_RUNS} or more"),
        )
    ]
    times = np.array([start.output.runs.mean_s for start in starts])
    if len(times) < 2:
        return checks
    spread = percentile(times, 0.9) / percentile(times, 0.1) - 1
    measured = f"starts' means: 90th percentile {100 * spread:.1f} % above the 10th"
    limit = f"at most {100 * MOST_SPREAD:.0f} %"
    checks.append(Check("spread", subject, measured, limit, spread <= MOST_SPREAD, Judgement.NOISY, _QUIET))
    found = trend(np.array([start.began_s for start in starts]), times)
    if found is not None:
        passed = abs(found.change) <= MOST_DRIFT or found.p_value >= DRIFT_P
        slower = found.change > 0
        measured = f"{100 * found.change:+.1f} % from first to last start (p = {found.p_value:.2g})"
        limit = f"at most {100 * MOST_DRIFT:.0f} %, or p at least {DRIFT_P}"
        judgement = Judgement.THROTTLED if slower else Judgement.NOISY
        checks.append(Check("drift", subject, measured, limit, passed, judgement, _COOL if slower else _QUIET))
    return checks
