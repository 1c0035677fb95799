"""The search for exemptions, on losses that are known: it keeps promises, wastes nothing, and is never beaten."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_calibration.budget import Outcome, Trial, search
from evit_calibration.errors import CalibrationError

Attempt = Callable[[tuple[str, ...]], Trial]


def additive(losses: dict[str, float], limit: float, tried: list[tuple[str, ...]] | None = None) -> Attempt:
    """Every operator that is not exempted adds its loss."""

    def attempt(exempt: tuple[str, ...]) -> Trial:
        if tried is not None:
            tried.append(exempt)
        drop = sum(loss for name, loss in losses.items() if name not in exempt)
        return Trial(exempt, drop, drop, drop <= limit)

    return attempt


def ranked(losses: dict[str, float]) -> list[str]:
    return sorted(losses, key=lambda name: -losses[name])


amounts = st.integers(0, 1000).map(float)
tables = st.dictionaries(st.sampled_from([f"op{i}" for i in range(30)]), amounts, min_size=1)


def test_without_need_nothing_is_exempted_and_nothing_else_is_tried() -> None:
    tried: list[tuple[str, ...]] = []
    result = search(["a", "b"], additive({"a": 1, "b": 1}, 2, tried))
    assert (result.outcome, result.best.exempt) == (Outcome.MET, ())
    assert tried == [()]


@given(losses=tables, limit=amounts)
def test_the_fewest_exemptions_of_all_are_found_where_losses_add_up(
    losses: dict[str, float], limit: float
) -> None:
    result = search(ranked(losses), additive(losses, limit))
    remaining = np.cumsum([0, *sorted(losses.values())])  # what is lost with all but n exempted
    fewest = len(losses) - int(np.flatnonzero(remaining <= limit).max())
    assert result.outcome is Outcome.MET
    assert len(result.best.exempt) == fewest


@given(
    drops=st.lists(st.floats(-2, 5), min_size=1, max_size=64),
    limit=st.floats(-1, 3),
    count=st.integers(0, 12),
    most=st.integers(1, 50),
)
def test_the_search_is_never_beaten_by_plain_int8(drops: list[float], limit: float, count: int, most: int) -> None:
    """Whatever noise the measurement has."""

    def attempt(exempt: tuple[str, ...]) -> Trial:
        drop = drops[hash(exempt) % len(drops)] if exempt else drops[0]
        return Trial(exempt, drop, drop + 0.5, drop <= limit)

    result = search([f"op{i}" for i in range(count)], attempt, most_trials=most)
    plain = result.trials[0]
    assert plain.exempt == ()
    assert len(result.trials) <= most
    assert len({trial.exempt for trial in result.trials}) == len(result.trials)
    assert result.best in result.trials
    if plain.kept:
        assert result.best == plain
    else:
        assert result.best.kept or result.best.drop <= plain.drop
        assert (result.outcome is Outcome.MET) == result.best.kept


def test_exemptions_that_were_ranked_too_high_are_taken_back() -> None:
    """The ranking is of operators alone; together the third makes the first two needless."""

    def attempt(exempt: tuple[str, ...]) -> Trial:
        drop = 0.0 if "c" in exempt else 1.0
        return Trial(exempt, drop, drop, drop <= 0.5)

    result = search(["a", "b", "c", "d"], attempt)
    assert result.best.exempt == ("c",)


def test_a_promise_that_cannot_be_kept_gives_the_best_that_was_tried() -> None:
    result = search(["a", "b"], additive({"a": 3, "b": 1, "else": 5}, 1))
    assert result.outcome is Outcome.MISSED
    assert result.best == Trial(("a", "b"), 5, 5, False)


def test_no_trial_is_no_search() -> None:
    with pytest.raises(CalibrationError, match="0 trials"):
        search([], additive({}, 0), most_trials=0)
