"""Every estimator: its ranges round as int8 must, and each keeps what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evit_calibration.estimators import (
    Distribution,
    divergence,
    least_divergence_range,
    least_squares_range,
    minmax_range,
    percentile_range,
    squared_error,
)
from evit_calibration.histogram import StreamingHistogram
from evit_calibration.ranges import Estimator, RangeRule, TensorRange, collect_ranges

IMAGE = np.zeros((4, 4, 3), np.uint8)
values = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-(2.0**60), 2.0**60, width=32))
estimators = pytest.mark.parametrize("estimator", list(Estimator))


def ranges_of(arrays: list[np.ndarray], estimator: Estimator) -> TensorRange:
    shown = iter(arrays)
    return collect_ranges(lambda _: {"t": next(shown)}, [IMAGE] * len(arrays), rule=RangeRule(estimator))["t"]


def coded(x: np.ndarray, span: TensorRange) -> tuple[np.ndarray, float]:
    """int8 there and back, with a whole zero point, as a .tflite stores it."""
    scale = (span.maximum - span.minimum) / 255
    zero_point = np.clip(round(-128 - span.minimum / scale), -128, 127)
    codes = np.clip(np.round(x / scale) + zero_point, -128, 127)
    return (codes - zero_point) * scale, scale


def histogram_of(x: np.ndarray) -> StreamingHistogram:
    histogram = StreamingHistogram()
    histogram.add(x.astype(np.float32))
    return histogram


@estimators
@settings(max_examples=40, deadline=None)
@given(arrays=st.lists(values, min_size=1, max_size=3))
def test_inside_the_range_rounding_costs_half_a_step(estimator: Estimator, arrays: list[np.ndarray]) -> None:
    span = ranges_of(arrays, estimator)
    if span.maximum - span.minimum < 1e-30:
        return
    x = np.concatenate(arrays).astype(np.float64)
    # The zero point is whole, so the codes may be shifted against the range by half a step at either end.
    scale = (span.maximum - span.minimum) / 255
    zero_point = round(-128 - span.minimum / scale)
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    inside = x[(x >= low) & (x <= high)]
    back, _ = coded(inside, span)
    assert np.all(np.abs(back - inside) <= scale / 2 * (1 + 1e-6))


@pytest.mark.parametrize("estimator", [e for e in Estimator if e is not Estimator.MOVING_AVERAGE])
@settings(max_examples=20, deadline=None)
@given(arrays=st.lists(values, min_size=2, max_size=4), data=st.data())
def test_the_order_of_the_photos_does_not_matter(
    estimator: Estimator, arrays: list[np.ndarray], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(arrays))
    assert ranges_of(arrays, estimator) == ranges_of(shuffled, estimator)


def test_the_moving_average_depends_on_the_order_and_clips_what_few_photos_show() -> None:
    small, large = np.float32([-1, 1]), np.float32([-100, 100])
    assert ranges_of([small] * 9 + [large], Estimator.MOVING_AVERAGE).maximum == pytest.approx(0.95 + 5)
    assert ranges_of([large, *[small] * 9], Estimator.MOVING_AVERAGE).maximum > 60


def test_the_moving_average_is_one_of_ends() -> None:
    shown = [np.float32([-1, 2]), np.float32([-3, 8]), np.zeros(0, np.float32), np.float32([-7, 0])]
    activations = iter(shown)
    rule = RangeRule(Estimator.MOVING_AVERAGE, momentum=0.75)
    found = collect_ranges(lambda _: {"t": next(activations)}, [IMAGE] * 4, rule=rule)["t"]
    assert found.minimum == pytest.approx(0.75 * (0.75 * -1 + 0.25 * -3) + 0.25 * -7)
    assert found.maximum == pytest.approx(0.75 * (0.75 * 2 + 0.25 * 8) + 0.25 * 0)


@pytest.mark.parametrize("draw", ["normal", "laplace", "relu", "outliers"])
def test_mse_is_the_best_range_in_squared_error(draw: str) -> None:
    rng = np.random.default_rng(0)
    drawn = {
        "normal": lambda: rng.normal(0, 1, 100_000),
        "laplace": lambda: rng.laplace(0, 1, 100_000),
        "relu": lambda: np.maximum(rng.normal(0, 1, 100_000), 0),
        "outliers": lambda: np.concatenate([rng.normal(0, 1, 100_000), [30.0]]),
    }
    x = drawn[draw]()
    histogram = histogram_of(x)

    def error(low: float, high: float) -> float:
        back, _ = coded(x, TensorRange(low, high))
        return float(((back - x) ** 2).mean())

    found = error(*least_squares_range(histogram))
    assert found <= error(*minmax_range(histogram)) * (1 + 1e-6)
    for factor in (0.9, 0.75, 0.5, 0.25):
        low, high = minmax_range(histogram)
        assert found <= error(low * factor, high * factor) * 1.01


def test_entropy_cuts_a_long_thin_tail_and_keeps_what_is_even() -> None:
    rng = np.random.default_rng(0)
    tailed = np.concatenate([rng.normal(0, 1, 500_000), rng.uniform(-60, 60, 20)])
    low, high = least_divergence_range(histogram_of(tailed))
    assert -40 < low < -2
    assert 2 < high < 40
    even = rng.uniform(-1, 1, 500_000)
    low, high = least_divergence_range(histogram_of(even))
    assert low < -0.9
    assert high > 0.9


def test_costs_vanish_where_codes_express_everything() -> None:
    values = Distribution(np.arange(256.0), np.ones(256))
    assert squared_error(values, 0, 255) == 0
    assert divergence(values, 0, 255) == pytest.approx(0)
    assert squared_error(values, 0, 100) > 0
    assert divergence(values, 0, 100) > 0


def in_plain_loops(values: Distribution, low: float, high: float) -> tuple[float, float]:
    """Squared error and divergence of int8 codes on multiples of a 255th of the range, bin by bin."""
    step = (high - low) / 255
    first = round(low / step)
    error, counts, spread = 0.0, {}, {}
    codes = [int(np.round(centre / step)) - first for centre in values.centres]
    for centre, count, code in zip(values.centres, values.counts, codes, strict=True):
        error += count * (centre - (min(max(code, 0), 255) + first) * step) ** 2
        if 0 <= code <= 255:
            counts[code] = counts.get(code, 0) + count
            spread[code] = spread.get(code, 0) + 1
    inside = [i for i, code in enumerate(codes) if 0 <= code <= 255]
    true = {i: float(values.counts[i]) for i in inside}
    true[inside[0]] += sum(n for n, code in zip(values.counts, codes, strict=True) if code < 0)
    true[inside[-1]] += sum(n for n, code in zip(values.counts, codes, strict=True) if code > 255)
    coded = {i: counts[codes[i]] / spread[codes[i]] for i in inside}
    whole, kept = sum(true.values()), sum(coded.values())
    return error, sum(true[i] / whole * np.log(true[i] / whole / (coded[i] / kept)) for i in inside)


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 1.0), (-0.4, 0.7), (-2.0, 0.5), (0.0, 0.9), (-3.0, 3.0), (-0.1, 2.0)]
)
def test_costs_are_those_of_plain_loops(low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    values = Distribution(np.sort(rng.uniform(-1.3, 1.2, 700)), rng.integers(1, 50, 700).astype(np.float64))
    error, distance = in_plain_loops(values, low, high)
    assert squared_error(values, low, high) == pytest.approx(error, rel=1e-12)
    assert divergence(values, low, high) == pytest.approx(distance, rel=1e-9)


def test_a_range_that_shows_nothing_is_infinitely_far() -> None:
    assert divergence(Distribution(np.array([5.0]), np.array([3.0])), -1, 0) == np.inf


def test_percentiles_of_one_sign_keep_zero_inside() -> None:
    positive = histogram_of(np.linspace(0.3, 0.9, 500))
    assert percentile_range(positive, 99) == (0, pytest.approx(0.894, abs=0.001))
    negative = histogram_of(np.linspace(-0.9, -0.3, 500))
    assert percentile_range(negative, 99) == (pytest.approx(-0.894, abs=0.001), 0)


@pytest.mark.parametrize("find", [least_squares_range, least_divergence_range])
def test_a_tensor_of_zeros_has_the_range_zero(find: object) -> None:
    assert find(histogram_of(np.zeros(9))) == (0, 0)  # type: ignore[operator]
