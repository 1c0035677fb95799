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


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_decibels_do_not_depend_on_the_scores_size(size: float) -> None:
    assert measure_loss(1.1 * size * scores(), size * scores()).sqnr_db == pytest.approx(20)


def test_a_reference_of_zeros_is_all_noise() -> None:
    loss = measure_loss(np.ones((2, 5)), np.zeros((2, 5)))
    assert loss.sqnr_db == pytest.approx(10 * np.log10(1e-300 / 10))


def test_more_than_two_hundred_decibels_are_two_hundred() -> None:
    assert measure_loss(scores() * (1 + 1e-13), scores()).sqnr_db == HIGHEST_SQNR_DB == 200


def test_equal_scores_have_no_loss() -> None:
    assert measure_loss(scores(), scores()).sqnr_db == HIGHEST_SQNR_DB


def test_flips_are_counted() -> None:
    other = scores()
    other[:7] = -other[:7]
    assert measure_loss(other, scores()).flips == 7


def test_operators_are_ranked_by_their_noise() -> None:
    noise, kinds = {"a": 0.01, "b": 0.5, "c": 0.1}, {"a": "CONV_2D", "b": "ADD", "c": "MUL"}
    done: list[int] = []
    losses = measure_operators(
        kinds.items(),
        lambda name: scores() + noise[name] * scores(1),
        scores(),
        done.append,
    )
    assert [(entry.name, entry.kind) for entry in losses] == list(kinds.items())
    assert losses[1].loss == measure_loss(scores() + 0.5 * scores(1), scores())
    assert [entry.name for entry in worst_first(losses)] == ["b", "c", "a"]
    assert done == [1, 2, 3]


@pytest.mark.parametrize("bad", [np.zeros((50, 9)), np.zeros((0, 10))], ids=["shape", "no photo"])
def test_what_cannot_be_compared_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(RangesError, match="equal shapes are needed"):
        measure_loss(bad, scores() if len(bad) else bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused_on_either_side(bad: float) -> None:
    other = scores()
    other[3, 4] = bad
    for pair in ((other, scores()), (scores(), other)):
        with pytest.raises(RangesError, match=r"^scores with NaN or infinity given; check the model's weights$"):
            measure_loss(*pair)
