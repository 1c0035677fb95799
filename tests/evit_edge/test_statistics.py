import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from evit_edge.errors import RequestError
from evit_edge.evaluation.statistics import McNemar, mcnemar, paired_difference_interval, wilson_interval

counts = st.integers(0, 400)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipys(kn):
    k, n = kn
    ours, theirs = wilson_interval(k, n), binomtest(k, n).proportion_ci(0.95, "wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert 0 <= ours.low <= k / n <= ours.high <= 1


@given(counts, counts)
def test_mcnemar_is_the_binomial_test_and_mid_p_is_smaller(b, c):
    result = mcnemar(b, c)
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert result.p_exact == pytest.approx(expected, rel=1e-9)
    assert 0 < result.p_mid <= result.p_exact
    assert mcnemar(c, b).p_mid == result.p_mid


def test_mcnemar_known_value():
    # Fagerland, Lydersen and Laake (2013), airway hyper-responsiveness before and after transplantation:
    # 1 against 7 discordant pairs, exact p 0.0703, mid-p 0.0391.
    result = mcnemar(1, 7)
    assert round(result.p_exact, 4) == 0.0703
    assert round(result.p_mid, 4) == 0.0391


def test_mcnemar_of_a_tie_and_of_nothing():
    assert mcnemar(3, 3) == McNemar(3, 3, 1.0, 1 - 20 / 64 / 2)  # 20 of 64 ways to share six
    assert mcnemar(0, 0) == McNemar(0, 0, 1.0, 1.0)
    found = mcnemar(2, 5)
    assert (found.only_first, found.only_second) == (2, 5)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # The same authors (2014), same study: 1, 1, 7, 12 of 21 pairs; Newcombe's interval -0.507 to -0.026.
        pytest.param((1, 1, 7, 12), -0.507, -0.026, id="airway"),
        pytest.param((0, 0, 0, 50), -0.0714, 0.0714, id="nobody right"),
    ],
)
def test_paired_interval_known_values(table, low, high):
    interval = paired_difference_interval(*table)
    assert interval.low == pytest.approx(low, abs=6e-4)
    assert interval.high == pytest.approx(high, abs=6e-4)


tables = st.tuples(counts, counts, counts, counts).filter(lambda t: sum(t) > 0)


def newcombe(both, first, second, neither, confidence):
    """Method 10 with scipy's Wilson limits."""
    n = both + first + second + neither
    rights = (both + first, both + second)
    (low1, high1), (low2, high2) = (binomtest(k, n).proportion_ci(confidence, "wilson") for k in rights)
    p1, p2 = (k / n for k in rights)
    product, determinant = math.prod([*rights, *(n - k for k in rights)]), both * neither - first * second
    if determinant > 0:
        determinant = max(determinant - n / 2, 0)
    phi = determinant / math.sqrt(product) if product else 0

    def joined(x, y):
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0))

    return p1 - p2 - joined(p1 - low1, high2 - p2), p1 - p2 + joined(high1 - p1, p2 - low2)


@given(tables, st.sampled_from([0.5, 0.95, 0.99]))
def test_paired_interval_is_newcombes_tenth(table, confidence):
    found = paired_difference_interval(*table, confidence)
    assert (found.low, found.high) == pytest.approx(newcombe(*table, confidence), abs=1e-9)


@pytest.mark.parametrize(
    "table", [(40, 3, 2, 5), (10, 1, 1, 0), (3, 20, 30, 2), (9, 0, 1, 0), (1, 0, 0, 0), (6, 3, 2, 1)]
)
def test_paired_interval_of_strong_weak_and_no_correlation(table):
    found = paired_difference_interval(*table)
    assert (found.low, found.high) == pytest.approx(newcombe(*table, 0.95), abs=1e-9)


@given(tables)
def test_paired_interval_holds_the_difference_and_mirrors(table):
    both, first, second, neither = table
    difference = (first - second) / sum(table)
    interval = paired_difference_interval(*table)
    mirrored = paired_difference_interval(both, second, first, neither)
    assert -1 <= interval.low <= difference + 1e-12
    assert difference - 1e-12 <= interval.high <= 1
    assert interval.low == pytest.approx(-mirrored.high, abs=1e-9)
    assert interval.high == pytest.approx(-mirrored.low, abs=1e-9)


def test_paired_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    probabilities = np.array([0.68, 0.05, 0.03, 0.24])
    difference = probabilities[1] - probabilities[2]
    draws = rng.multinomial(300, probabilities, size=2000)
    intervals = [paired_difference_interval(*map(int, table)) for table in draws]
    coverage = np.mean([i.low <= difference <= i.high for i in intervals])
    assert coverage == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: wilson_interval(3, 2), id="more successes than trials"),
        pytest.param(lambda: wilson_interval(0, 0), id="no trial"),
        pytest.param(lambda: wilson_interval(1, 2, 1.0), id="certainty"),
        pytest.param(lambda: wilson_interval(1, 2, 0.0), id="no certainty at all"),
        pytest.param(lambda: mcnemar(-1, 2), id="negative"),
        pytest.param(lambda: mcnemar(2, -1), id="negative second"),
        pytest.param(lambda: paired_difference_interval(0, 0, 0, 0), id="no photo"),
        pytest.param(lambda: paired_difference_interval(1, math.floor(-1), 0, 0), id="negative pair"),
        pytest.param(lambda: paired_difference_interval(5, -1, 3, 4), id="negative among enough"),
    ],
)
def test_impossible_counts_are_refused(call):
    with pytest.raises(RequestError, match=r"given; .*needed$"):
        call()
