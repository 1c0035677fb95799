"""Losses at a model's output: known noise gives known figures."""

import numpy as np
import pytest

from evit_calibration.errors import RangesError
from evit_calibration.sensitivity import HIGHEST_SQNR_DB, measure_loss, measure_operators, worst_first


def scores(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(50, 10))


def test_noise_of_a_tenth_is_twenty_decibels() -> None:
    loss = measure_loss(1.1 * scores(), scores())
    assert loss.sqnr_db == pytest.approx(20)
    assert (loss.flips, loss.photos) == (0, 50)


def test_equal_scores_have_no_loss() -> None:
    assert measure_loss(scores(), scores()).sqnr_db == HIGHEST_SQNR_DB


def test_flips_are_counted() -> None:
    other = scores()
    other[:7] = -other[:7]
    assert measure_loss(other, scores()).flips == 7


def test_operators_are_ranked_by_their_noise() -> None:
    noise = {"a": 0.01, "b": 0.5, "c": 0.1}
    done: list[int] = []
    losses = measure_operators(
        [(name, "CONV_2D") for name in noise],
        lambda name: scores() + noise[name] * scores(1),
        scores(),
        done.append,
    )
    assert [entry.name for entry in losses] == ["a", "b", "c"]
    assert [entry.name for entry in worst_first(losses)] == ["b", "c", "a"]
    assert done == [1, 2, 3]


@pytest.mark.parametrize("bad", [np.zeros((50, 9)), np.full((50, 10), np.nan)], ids=["shape", "nan"])
def test_what_cannot_be_compared_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(RangesError, match="scores"):
        measure_loss(bad, scores())
