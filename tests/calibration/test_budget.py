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


def shortened(tried: list[tuple[str, ...]]) -> list[str]:
    return ["".join(exempt) for exempt in tried]


def test_one_two_four_and_so_on_then_halving_then_taking_back() -> None:
    tried: list[tuple[str, ...]] = []
    result = search(list("abcdefgh"), additive(dict.fromkeys("abcdefgh", 1.0), 3, tried))
    doubling, halving = ["", "a", "ab", "abcd", "abcdefgh"], ["abcdef", "abcde"]
    pairs, singles = ["abc", "ade", "bcde"], ["abce", "abde", "acde"]  # abcd is known from the doubling
    assert shortened(tried) == doubling + halving + pairs + singles
    assert result.best.exempt == tuple("abcde")


def test_what_was_taken_back_stays_back() -> None:
    """Only the second and the fifth are at fault, and the ranking has them apart."""
    losses = {"a": 0.0, "b": 2.0, "c": 0.0, "d": 0.0, "e": 2.0, "f": 0.0}
    tried: list[tuple[str, ...]] = []
    result = search(list(losses), additive(losses, 1, tried))
    assert result.best.exempt == ("b", "e")
    assert shortened(tried) == [
        "",
        "a",
        "ab",
        "abcd",
        "abcdef",
        "abcde",
        "abc",
        "ade",
        "bcde",
        "bcd",
        "bce",
        "be",
        "e",
    ]


def test_a_search_that_is_cut_short_while_halving_keeps_what_it_found() -> None:
    tried: list[tuple[str, ...]] = []
    result = search(list("abcdefgh"), additive(dict.fromkeys("abcdefgh", 1.0), 3, tried), most_trials=6)
    assert shortened(tried) == ["", "a", "ab", "abcd", "abcdefgh", "abcdef"]
    assert (result.outcome, result.best.exempt) == (Outcome.MET, tuple("abcdef"))


@pytest.mark.parametrize("most", range(1, 5))
def test_a_search_that_is_cut_short_while_doubling_gives_the_smallest_loss(most: int) -> None:
    losses = dict.fromkeys("abcdefgh", 1.0)
    result = search(list(losses), additive(losses, 3), most_trials=most)
    assert (result.outcome, len(result.trials)) == (Outcome.MISSED, most)
    assert result.best == result.trials[-1]


def test_forty_models_are_tried_at_most() -> None:
    names = [f"op{i}" for i in range(200)]
    result = search(names, additive(dict.fromkeys(names[::3], 1.0), 0))
    assert len(result.trials) == 40


def test_of_equal_losses_the_surer_and_then_the_one_with_fewer_exemptions_is_best() -> None:
    worst = {(): 9.0, ("a",): 8.0, ("a", "b"): 8.0}
    result = search(["a", "b"], lambda exempt: Trial(exempt, 5.0, worst[exempt], False))
    assert result.best.exempt == ("a",)


def test_no_trial_is_no_search() -> None:
    with pytest.raises(CalibrationError, match="0 trials"):
        search([], additive({}, 0), most_trials=0)


def test_one_trial_is_a_search() -> None:
    assert search(["a"], additive({"a": 1}, 0), most_trials=1).trials == (Trial((), 1, 1, False),)
