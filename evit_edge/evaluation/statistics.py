"""Intervals and tests for proportions, single and paired."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

from evit_edge.errors import RequestError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Lower limit.
        high: Upper limit.
    """

    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """McNemar's test on two classifiers' rights and wrongs on the same photos.

    Attributes:
        only_first: Photos that only the first gets right.
        only_second: Photos that only the second gets right.
        p_exact: Two-sided exact binomial p value.
        p_mid: Two-sided mid-p value, less conservative (Fagerland, Lydersen and Laake, 2013).
    """

    only_first: int
    only_second: int
    p_exact: float
    p_mid: float


def wilson_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for a proportion.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        successes: 0 to ``trials``.
        trials: At least 1.
        confidence: In (0, 1).

    Returns:
        Limits in 0..1.

    Raises:
        RequestError: The counts or the confidence are out of range.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise RequestError(f"{successes} of {trials} given; 0 <= successes <= trials and trials >= 1 are needed")
    z = _quantile(confidence)
    p = successes / trials
    centre = p + z * z / (2 * trials)
    reach = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    width = 1 + z * z / trials
    low = 0.0 if successes == 0 else (centre - reach) / width
    high = 1.0 if successes == trials else (centre + reach) / width
    return Interval(low, high)


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """Test whether two classifiers are right equally often, from the photos on which just one is right.

    Under the null hypothesis each such photo falls to either side like a coin.

    Raises:
        RequestError: A negative count.
    """
    if only_first < 0 or only_second < 0:
        raise RequestError(f"{only_first} and {only_second} discordant photos given; counts are needed")
    n, k = only_first + only_second, min(only_first, only_second)
    tail = Fraction(sum(math.comb(n, i) for i in range(k + 1)), 2**n)
    point = Fraction(math.comb(n, k), 2**n)
    exact = min(Fraction(1), 2 * tail)
    # Mid-p counts the observed table half; with a tie both tails together are everything, so p is 1 - point/2.
    mid = 2 * tail - point if only_first != only_second else 1 - point / 2
    return McNemar(only_first, only_second, float(exact), float(mid) if n else 1.0)


def paired_difference_interval(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = CONFIDENCE
) -> Interval:
    """Interval for the difference of two proportions measured on the same photos, first minus second.

    Source: R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based
    on paired data", Statistics in Medicine 17, 1998, method 10: Wilson's limits of each proportion, squared and
    added with the correlation of the pairs.

    Args:
        both: Photos that both get right.
        only_first: Photos that only the first gets right.
        only_second: Photos that only the second gets right.
        neither: Photos that none gets right.
        confidence: In (0, 1).

    Returns:
        Limits in -1..1.

    Raises:
        RequestError: A negative count or no photo.
    """
    counts = (both, only_first, only_second, neither)
    n = sum(counts)
    if min(counts) < 0 or n < 1:
        raise RequestError(f"counts {counts} given; none may be negative and one photo is needed")
    first, second = both + only_first, both + only_second
    a, b = wilson_interval(first, n, confidence), wilson_interval(second, n, confidence)
    p1, p2 = first / n, second / n
    phi = _correlation(both, only_first, only_second, neither)
    down = _join(p1 - a.low, b.high - p2, phi)
    up = _join(a.high - p1, p2 - b.low, phi)
    return Interval(max(-1.0, p1 - p2 - down), min(1.0, p1 - p2 + up))


def _join(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Newcombe's phi: the table's correlation, with a continuity correction where it is positive."""
    n = both + only_first + only_second + neither
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    determinant = both * neither - only_first * only_second
    if determinant > 0:
        return max(determinant - n / 2, 0.0) / math.sqrt(margins)
    return determinant / math.sqrt(margins)


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise RequestError(f"confidence {confidence} given; a value in (0, 1) is needed")
    return NormalDist().inv_cdf(0.5 + confidence / 2)
