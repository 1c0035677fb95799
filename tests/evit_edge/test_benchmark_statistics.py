"""Figures of run times against numpy, scipy, brute force and simulations."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evit_edge.benchmark.figures import Runs
from evit_edge.benchmark.statistics import (
    describe,
    hodges_lehmann,
    locations,
    percentile,
    ratio,
    ratio_across,
    student_t,
    trend,
)
from evit_edge.errors import ReportError

times = st.lists(st.floats(1e-6, 10), min_size=1, max_size=300)


@given(times, st.sampled_from([50, 90, 99, 100]))
def test_a_percentile_is_the_order_statistic_and_numpys_inverted_cdf(values, per_cent):
    found = percentile(np.array(values), per_cent / 100)
    rank = math.ceil(Fraction(per_cent, 100) * len(values))
    assert found == sorted(values)[rank - 1]
    assert found == np.percentile(values, per_cent, method="inverted_cdf")
    assert found in values


@settings(max_examples=40)
@given(times)
def test_figures_are_numpys_and_in_order(values):
    found = describe(Runs(tuple(values)))
    assert found.count == len(values)
    assert found.min_s <= found.p50_s <= found.p90_s <= found.p99_s <= found.max_s
    assert found.mean_s == pytest.approx(np.mean(values))
    if len(values) == 1:
        assert found.std_s is None
        assert found.median_interval is None
    else:
        assert found.std_s == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert found.median_interval.low <= found.median_interval.high
        assert min(values) <= found.median_interval.low
        assert found.median_interval.high <= max(values)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12))
def test_hodges_lehmann_is_the_median_of_all_pairs_means(values):
    pairs = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2)]
    assert hodges_lehmann(np.array([values]))[0] == pytest.approx(np.median(pairs), abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 7, 29, 100])
@pytest.mark.parametrize("share", [0.9, 0.975, 0.995])
def test_students_quantiles_are_scipys(share, degrees):
    student_t.cache_clear()  # computed here, not remembered
    assert student_t(share, degrees) == pytest.approx(stats.t.ppf(share, degrees), rel=1e-6)


@given(st.lists(st.floats(0.5, 2), min_size=5, max_size=40), st.integers(0, 100))
def test_the_trend_is_theil_and_sens(values, start):
    moments = np.arange(len(values), dtype=np.float64) + start
    found = trend(moments, np.array(values))
    slope, _, low, high = stats.theilslopes(np.log(values), moments, 0.99)
    span = len(values) - 1
    assert math.log1p(found.change) == pytest.approx(slope * span, abs=1e-9)
    # scipy corrects its interval for ties, ours is the wider one without.
    assert math.log1p(found.interval.low) <= low * span + 1e-9
    assert math.log1p(found.interval.high) >= high * span - 1e-9
    assert found.interval.low <= found.change <= found.interval.high


@given(st.permutations(range(12)), st.sampled_from([0.01, 1.0, 60.0]))
def test_without_ties_the_trends_interval_is_theil_and_sens_too(order, second):
    moments, logs = second * np.arange(12.0), np.array(order) / 7
    found = trend(moments, np.exp(logs))
    slope, _, low, high = stats.theilslopes(logs, moments, 0.99)
    span = moments[-1]
    logged = [math.log1p(change) for change in (found.change, found.interval.low, found.interval.high)]
    assert logged == pytest.approx([slope * span, low * span, high * span], abs=1e-9)
    assert found.interval.confidence == 0.99


@given(st.lists(st.integers(1, 9), min_size=5, max_size=30))
def test_the_p_value_is_mann_and_kendalls(values):
    n = len(values)
    score = sum(int(np.sign(b - a)) for a, b in itertools.combinations(values, 2))
    z = max(abs(score) - 1, 0) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    found = trend(np.arange(float(n)), np.array(values, dtype=np.float64))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(z), rel=1e-9)


def test_values_of_the_same_moment_have_no_slope_between_them():
    moments, logs = np.array([0.0, 0, 1, 2, 2, 3]), np.array([0.0, 5, 1, 2, 4, 3])
    pairs = [(b, a) for a, b in itertools.combinations(range(6), 2) if moments[b] > moments[a]]
    slopes = [(logs[b] - logs[a]) / (moments[b] - moments[a]) for b, a in pairs]
    assert math.log1p(trend(moments, np.exp(logs)).change) == pytest.approx(3 * np.median(slopes))


def test_five_values_are_the_fewest_with_a_trend():
    moments = np.arange(5.0) / 100
    assert trend(moments, np.exp(moments)).change == pytest.approx(math.expm1(0.04))
    assert trend(moments[:4], np.exp(moments[:4])) is None


def test_a_trend_is_told_from_none():
    random = np.random.default_rng(0)
    moments = np.arange(30.0)
    still = 1 + 0.02 * random.standard_normal(30)
    assert trend(moments, still).p_value > 0.01
    rising = trend(moments, still * (1 + 0.1 * moments / 29))
    assert rising.p_value < 1e-4
    assert rising.change == pytest.approx(0.1, abs=0.04)
    assert trend(moments[:4], still[:4]) is None
    assert trend(np.zeros(9), still[:9]) is None


def simulated(random, loads, scale=1.0, *, spread=0.04, noise=0.02, per_load=12):
    """Runs whose loads differ by a constant each, with a long tail."""
    constant = np.repeat(random.normal(0, spread, loads), per_load)
    tail = random.exponential(noise, loads * per_load)
    values = scale * np.exp(constant + tail)
    return Runs(tuple(values.tolist()), loads=tuple(np.repeat(np.arange(loads), per_load).tolist()))


def test_the_interval_holds_the_true_ratio_and_finds_a_slowdown():
    random = np.random.default_rng(7)
    held = found = 0
    for trial in range(60):
        a, b = simulated(random, 16), simulated(random, 16)
        held += 1.0 in ratio(a, b, trial).interval
        found += ratio(simulated(random, 16, 1.1), b, trial).interval.low > 1
    assert held >= 58  # 99 % of 60 is 59.4
    assert found >= 50  # sixteen loads that differ by 4 % see most slowdowns of 10 %


def test_runs_of_one_load_alone_would_not_hold_it():
    """Why loads are the unit: within one pair of loads the constant between them looks like a difference."""
    random = np.random.default_rng(3)
    held = 0
    for trial in range(30):
        a, b = (simulated(random, 1, per_load=200) for _ in range(2))
        held += 1.0 in ratio(a, b, trial).interval
    assert held < 15


@settings(max_examples=20)
@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_a_ratio_scales_and_turns_around(factor, seed):
    random = np.random.default_rng(seed)
    a, b = simulated(random, 8), simulated(random, 8)
    scaled = Runs(tuple(factor * t for t in a.times_s), loads=a.loads)
    assert ratio(scaled, b).value == pytest.approx(factor * ratio(a, b).value)
    assert ratio(b, a).value == pytest.approx(1 / ratio(a, b).value)
    assert ratio(a, a).value == 1
    assert 1.0 in ratio(a, a).interval
    assert ratio_across(scaled, a).value == pytest.approx(factor)


def test_interrupted_runs_do_not_count_for_a_load():
    one_load, loads = (0.002, 0.002, 0.001, 0.001, 0.001), tuple(np.repeat(np.arange(8), 5).tolist())
    runs = Runs(one_load * 8, loads=loads, switches=(0, 0, 3, 2, 1) * 8)
    assert set(locations(runs).values()) == {0.002}
    all_torn = Runs(one_load * 8, loads=loads, switches=(2,) * 40)
    assert set(locations(all_torn).values()) == {0.001}  # where all were, all count
    assert locations(Runs(one_load * 8, loads=loads)) == locations(all_torn)


def test_with_few_loads_blocks_of_rounds_take_their_place():
    runs = Runs((0.001,) * 60, rounds=tuple(i // 2 for i in range(60)), loads=(0,) * 30 + (1,) * 30)
    assert len(locations(runs)) == 20
    assert len(locations(Runs((0.001,) * 3))) == 3


@pytest.mark.parametrize("compare", [ratio, ratio_across])
def test_a_single_run_has_no_ratio(compare):
    with pytest.raises(ReportError, match="at least 2"):
        compare(Runs((0.001,)), Runs((0.001,)))


def test_no_run_has_no_figures():
    with pytest.raises(ReportError, match="at least one"):
        describe(Runs())


def test_an_interrupted_run_counts_with_the_time_for_which_it_had_the_core():
    loads = tuple(np.repeat(np.arange(8), 3).tolist())
    runs = Runs((0.005, 0.009, 0.002) * 8, loads=loads, switches=(1, 2, 0) * 8, cpu_s=(0.0021, 0.0022, 0.001) * 8)
    assert list(locations(runs).values()) == pytest.approx([0.00202] * 8)  # lowest decile of 2.1, 2.2 and 2 ms


def expanded(draws, units):
    """Hesterberg's percentiles by scipy's distributions."""
    tail = stats.norm.cdf(-stats.t.ppf(0.995, units - 1) * math.sqrt(units / (units - 1)))
    return np.quantile(draws, (tail, 1 - tail))


def centre(logs):
    return np.median([(a + b) / 2 for a, b in itertools.combinations_with_replacement(logs, 2)])


def drawn(units, seed):
    return np.random.default_rng(seed).integers(0, units, (2000, units))


@pytest.mark.parametrize(("loads", "scale"), [(8, 1.0), (9, 1.3), (13, 0.7)])
def test_a_ratios_interval_is_a_bootstrap_of_loads_in_plain_loops(loads, scale):
    random = np.random.default_rng(loads)
    a, b = simulated(random, loads, scale, per_load=3), simulated(random, loads, per_load=3)
    logs = np.log([locations(a)[load] / locations(b)[load] for load in range(loads)])
    low, high = expanded([centre(logs[draw]) for draw in drawn(loads, 5)], loads)
    found = ratio(a, b, 5)
    assert math.log(found.value) == pytest.approx(centre(logs), abs=1e-9)
    assert (math.log(found.interval.low), math.log(found.interval.high)) == pytest.approx((low, high), abs=1e-6)
    assert (found.units, found.interval.confidence) == (loads, 0.99)


def test_across_sessions_each_draws_its_own_loads():
    random = np.random.default_rng(1)
    a, b = simulated(random, 9, 1.2, per_load=3), simulated(random, 8, per_load=3)
    logs = [np.log(list(locations(runs).values())) for runs in (a, b)]
    first, second = ([centre(side[draw]) for draw in drawn(len(side), 5 + i)] for i, side in enumerate(logs))
    low, high = expanded(np.subtract(first, second), 8)
    found = ratio_across(a, b, 5)
    assert math.log(found.value) == pytest.approx(centre(logs[0]) - centre(logs[1]), abs=1e-9)
    assert (math.log(found.interval.low), math.log(found.interval.high)) == pytest.approx((low, high), abs=1e-6)
    assert (found.units, found.interval.confidence) == (8, 0.99)


def test_without_a_seed_it_is_nought():
    random = np.random.default_rng(2)
    a, b = simulated(random, 8, 1.1, per_load=2), simulated(random, 8, per_load=2)
    for compare in (ratio, ratio_across):
        assert compare(a, b) == compare(a, b, 0) != compare(a, b, 1)
    assert describe(a) == describe(a, 0)


def test_the_medians_interval_draws_whole_loads():
    random = np.random.default_rng(3)
    sizes = (3, 1, 4, 2, 5, 3, 2, 6, 1)
    groups = [random.uniform(1, 2, size) + random.normal(0, 0.2) for size in sizes]
    order = random.permutation(sum(sizes))  # runs of a load need not stand together
    times, loads = np.concatenate(groups)[order], np.repeat(np.arange(9), sizes)[order]
    medians = []
    for draw in drawn(9, 4):
        values = sorted(np.concatenate([groups[unit] for unit in draw]))
        medians.append(values[math.ceil(len(values) / 2) - 1])
    found = describe(Runs(tuple(times.tolist()), loads=tuple(loads.tolist())), 4).median_interval
    assert (found.low, found.high) == pytest.approx(tuple(expanded(medians, 9)), abs=1e-9)


def test_two_loads_or_blocks_are_the_fewest_with_an_interval():
    two = Runs((0.001, 0.002))
    assert describe(two).median_interval is not None
    assert ratio(two, two).units == ratio_across(two, two).units == 2
    apart = Runs((0.001,) * 8, loads=tuple(range(8))), Runs((0.001,) * 8, loads=tuple(range(7, 15)))
    with pytest.raises(ReportError, match=r"^a ratio from 1 shared loads asked for; at least 2 are needed$"):
        ratio(*apart)
    with pytest.raises(ReportError, match=r"^a ratio from 1 loads asked for; at least 2 are needed$"):
        ratio_across(Runs((0.001,)), two)


def test_a_load_that_only_one_has_does_not_count():
    loads = tuple(range(9))
    a = Runs((0.002,) * 9, loads=loads)
    b = Runs((0.5, *(0.001,) * 8), loads=(20, *loads[1:]))
    found = ratio(a, b)
    assert (found.value, found.units) == (pytest.approx(2), 8)


def test_a_mean_of_equal_times_is_that_time():
    for time in (0.1, 1 / 3, 1e-5):
        assert describe(Runs((time,) * 7)).mean_s == time


def test_eight_loads_are_enough_to_stand_for_themselves():
    """With seven, blocks of rounds take their place."""
    eight = Runs(tuple(0.001 * (1 + i) for i in range(16)), loads=tuple(i // 2 for i in range(16)))
    assert list(locations(eight)) == list(range(8))
    seven = Runs(eight.times_s[:14], loads=eight.loads[:14])
    assert list(locations(seven)) == list(range(14))


@pytest.mark.parametrize(("rounds", "blocks"), [(20, 20), (21, 20), (40, 20), (7, 7)])
def test_twenty_blocks_at_most_and_a_round_is_in_one_of_them(rounds, blocks):
    runs = Runs(tuple(0.001 + i for i in range(3 * rounds)), rounds=tuple(i // 3 for i in range(3 * rounds)))
    found = locations(runs)
    assert list(found) == list(range(blocks))
    firsts = [math.ceil(block * rounds / blocks) for block in range(blocks + 1)]
    for block, (start, end) in enumerate(itertools.pairwise(firsts)):
        assert found[block] == pytest.approx(np.quantile([0.001 + i for i in range(3 * start, 3 * end)], 0.1))


def test_without_times_on_the_core_interruptions_are_told_by_switches_alone():
    loads = tuple(np.repeat(np.arange(8), 2).tolist())
    runs = Runs((0.005, 0.009) * 8, loads=loads, cpu_s=(0.001, 0.002) * 8)
    assert list(locations(runs).values()) == pytest.approx([0.0054] * 8)
    unknown = Runs((0.005, 0.009) * 8, loads=loads, switches=(1, 1) * 8, cpu_s=(0.0, 0.002) * 8)
    assert list(locations(unknown).values()) == pytest.approx([0.0023] * 8)  # decile of 2 and 5 ms
