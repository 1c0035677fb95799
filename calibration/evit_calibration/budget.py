"""The fewest exemptions with which a quantized model keeps a promise, found by trying real models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from evit_calibration.errors import CalibrationError

MOST_TRIALS = 40


class Outcome(StrEnum):
    """How a search ended."""

    MET = "met"
    MISSED = "missed"


@dataclass(frozen=True)
class Trial:
    """One model that was tried.

    Attributes:
        exempt: Operators that were left out of int8, most harmful first.
        drop: Measured loss, in the budget's unit.
        worst: Upper end of its confidence interval, in the same unit.
        kept: Whether the promise is kept.
    """

    exempt: tuple[str, ...]
    drop: float
    worst: float
    kept: bool


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        outcome: Whether a model that keeps the promise was found.
        best: That model with the fewest exemptions; without one, the model with the smallest loss.
        trials: All that were tried, in order; the first has no exemption.
    """

    outcome: Outcome
    best: Trial
    trials: tuple[Trial, ...]


def search(
    ranked: Sequence[str], attempt: Callable[[tuple[str, ...]], Trial], *, most_trials: int = MOST_TRIALS
) -> SearchResult:
    """Find the fewest exemptions.

    Without exemptions first: if that keeps the promise, it is the answer. Then the most harmful one, two, four
    and so on are exempted until the promise is kept, the smallest such number is found by halving, and last
    exemptions are taken back where the promise is kept without them, the least harmful first.

    Args:
        ranked: Operators that may be exempted, most harmful first.
        attempt: Builds and measures a model with exactly these exemptions.
        most_trials: Models to try at most, at least 1; a search that is cut short gives the best so far.

    Raises:
        CalibrationError: ``most_trials`` is below 1.
    """
    if most_trials < 1:
        raise CalibrationError(f"{most_trials} trials given; at least 1 is needed")
    trials: list[Trial] = []

    def tried(exempt: tuple[str, ...]) -> Trial | None:
        known = next((trial for trial in trials if trial.exempt == exempt), None)
        if known is None and len(trials) < most_trials:
            known = attempt(exempt)
            trials.append(known)
        return known

    first = tried(())
    if first is not None and not first.kept:
        found = _smallest(ranked, tried)
        if found is not None:
            _take_back(found, tried)
    kept = [trial for trial in trials if trial.kept]
    if kept:
        best = min(kept, key=lambda trial: (len(trial.exempt), trial.drop))
        return SearchResult(Outcome.MET, best, tuple(trials))
    best = min(trials, key=lambda trial: (trial.drop, trial.worst, len(trial.exempt)))
    return SearchResult(Outcome.MISSED, best, tuple(trials))


def _smallest(ranked: Sequence[str], tried: Callable[[tuple[str, ...]], Trial | None]) -> Trial | None:
    """The shortest beginning of the ranking that keeps the promise, as far as halving tells."""
    short, count, found = 0, 1, None
    while short < len(ranked) and found is None:
        count = min(count, len(ranked))
        trial = tried(tuple(ranked[:count]))
        if trial is None:
            return None
        if trial.kept:
            found = trial
        else:
            short, count = count, 2 * count
    while found is not None and len(found.exempt) - short > 1:
        middle = (short + len(found.exempt)) // 2
        trial = tried(tuple(ranked[:middle]))
        if trial is None:
            break
        if trial.kept:
            found = trial
        else:
            short = middle
    return found


def _take_back(found: Trial, tried: Callable[[tuple[str, ...]], Trial | None]) -> None:
    """Try removals, the least harmful operators' first: of halves, quarters, and at last of each alone."""
    current, size = found.exempt, len(found.exempt) // 2
    while size:
        for group in _groups(current, size):
            fewer = tuple(name for name in current if name not in group)
            trial = tried(fewer)
            if trial is None:
                return
            if trial.kept:
                current = fewer
        size //= 2


def _groups(names: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    """Neighbours, the last ones first."""
    return [names[max(0, end - size) : end] for end in range(len(names), 0, -size)]
