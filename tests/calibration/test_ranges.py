"""collect_ranges: what the ranges keep, that they do not depend on order, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_calibration.errors import CalibrationError, RangesError
from evit_calibration.ranges import Activations, Estimator, RangeRule, TensorRange, collect_ranges

MINMAX = RangeRule(Estimator.MINMAX)


def images(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 12, 10, 3), np.uint8))


def net(image: np.ndarray) -> Activations:
    """A fixed random layer with its ReLU, and the mean of it: signed, non-negative, tiny tensors."""
    assert image.shape == (1, 12, 10, 3)
    assert image.dtype == np.uint8
    weights = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    conv = (image.astype(np.float32) / 255 - 0.5) @ weights
    return {"conv": conv, "relu": np.maximum(conv, 0), "pool": conv.mean((1, 2)), "minus": -np.maximum(conv, 0)}


def all_values(photos: list[np.ndarray]) -> dict[str, np.ndarray]:
    runs = [net(image[np.newaxis]) for image in photos]
    return {name: np.concatenate([run[name].ravel() for run in runs]) for name in runs[0]}


def test_minmax_keeps_every_value() -> None:
    photos = images(7)
    ranges = collect_ranges(net, photos, rule=MINMAX)
    for name, values in all_values(photos).items():
        assert np.float32(ranges[name].minimum) == min(values.min(), 0)
        assert np.float32(ranges[name].maximum) == max(values.max(), 0)


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.99, 100.0])
def test_percentiles_are_those_of_all_values_of_all_photos(percentile: float) -> None:
    photos = images(20)
    ranges = collect_ranges(net, photos, rule=RangeRule(Estimator.PERCENTILE, percentile))
    for name, values in all_values(photos).items():
        low, high = np.percentile(values.astype(np.float64), [100 - percentile, percentile])
        step = float(np.abs(values).max()) / 2048  # the widest that a bin can be
        assert ranges[name].minimum == pytest.approx(min(low, 0), abs=step)
        assert ranges[name].maximum == pytest.approx(max(high, 0), abs=step)


def test_the_100th_percentile_is_minmax() -> None:
    photos = images(3)
    assert collect_ranges(net, photos, rule=RangeRule(Estimator.PERCENTILE, 100)) == collect_ranges(
        net, photos, rule=MINMAX
    )


def test_an_outlier_costs_minmax_its_resolution_and_the_percentile_nothing() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 200_000).astype(np.float32)
    values[1234] = 1000
    run = {"t": values}
    assert collect_ranges(lambda _: run, images(1), rule=MINMAX)["t"].maximum == 1000
    assert collect_ranges(lambda _: run, images(1), rule=RangeRule(Estimator.PERCENTILE))[
        "t"
    ].maximum == pytest.approx(1, abs=1000 / 2048)


@settings(max_examples=20)
@given(order=st.permutations(range(6)), rule=st.sampled_from([MINMAX, RangeRule()]))
def test_the_order_of_the_photos_does_not_matter(order: list[int], rule: RangeRule) -> None:
    photos = images(6)
    assert collect_ranges(net, [photos[i] for i in order], rule=rule) == collect_ranges(net, photos, rule=rule)


@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=30),
    rule=st.sampled_from([MINMAX, RangeRule(), RangeRule(Estimator.PERCENTILE, 60)]),
)
def test_zero_lies_inside_every_range_so_int8_has_a_zero_point(values: list[float], rule: RangeRule) -> None:
    span = collect_ranges(lambda _: {"t": np.float32(values)}, images(1), rule=rule)["t"]
    assert span.minimum <= 0 <= span.maximum
    assert np.float32(span.minimum) >= min(*values, 0)
    assert np.float32(span.maximum) <= max(*values, 0)
    scale = (span.maximum - span.minimum) / 255
    if scale > 0:
        assert -128 <= round(-128 - span.minimum / scale) <= 127


def test_after_relu_the_lower_end_is_exactly_zero() -> None:
    for rule in (MINMAX, RangeRule()):
        ranges = collect_ranges(net, images(5), rule=rule)
        assert ranges["relu"].minimum == 0
        assert ranges["minus"].maximum == 0


def test_buffers_may_be_reused_between_photos() -> None:
    buffer = np.zeros(4, np.float32)
    seen = iter([1.0, 5.0, -3.0])

    def run(_: np.ndarray) -> Activations:
        buffer[:] = next(seen)
        return {"t": buffer}

    assert collect_ranges(run, images(3), rule=MINMAX) == {"t": TensorRange(-3, 5)}


def test_progress_counts_photos() -> None:
    counts: list[int] = []
    collect_ranges(net, images(3), progress=counts.append)
    assert counts == [1, 2, 3]


@pytest.mark.parametrize("rule", [MINMAX, RangeRule()], ids=lambda rule: rule.estimator)
@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
def test_nan_is_named_by_its_tensor(rule: RangeRule, bad: float) -> None:
    def run(image: np.ndarray) -> Activations:
        activations = dict(net(image))
        activations["relu"][0, 3, 3, 0] = bad
        return activations

    with pytest.raises(RangesError, match="tensor 'relu' on image 1: 1 of 960 values are NaN or infinite"):
        collect_ranges(run, images(2), rule=rule)


def test_no_photo_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="0 images"):
        collect_ranges(net, [])


def test_no_tensor_is_an_error() -> None:
    with pytest.raises(RangesError, match="no tensors"):
        collect_ranges(lambda _: {}, images(2))


def test_tensors_that_change_are_an_error() -> None:
    names = iter(["a", "b"])
    with pytest.raises(RangesError, match="image 2 showed other tensors than the first: a, b"):
        collect_ranges(lambda _: {next(names): np.ones(3, np.float32)}, images(2))


def test_other_types_are_an_error() -> None:
    with pytest.raises(RangesError, match="'t' is int8; float32"):
        collect_ranges(lambda _: {"t": np.ones(3, np.int8)}, images(1))


def test_a_tensor_without_values_has_the_range_zero() -> None:
    assert collect_ranges(lambda _: {"t": np.ones((0, 3), np.float32)}, images(1)) == {"t": TensorRange(0, 0)}


@pytest.mark.parametrize("ends", [(1, 2), (-2, -1), (0, np.inf), (np.nan, 0), (-np.inf, 0)], ids=str)
def test_a_range_holds_zero_and_ends(ends: tuple[float, float]) -> None:
    with pytest.raises(RangesError, match="finite ends around zero"):
        TensorRange(*ends)


@pytest.mark.parametrize(
    "options", [{"percentile": 50}, {"percentile": 101}, {"bins": 1000}, {"bins": 0}], ids=str
)
def test_a_rule_is_checked(options: dict[str, int]) -> None:
    with pytest.raises(RangesError, match="needed"):
        RangeRule(**options)


@pytest.mark.parametrize(
    "options", [{"percentile": 50.5}, {"percentile": 100}, {"bins": 2}, {"momentum": 0}], ids=str
)
def test_a_rules_limits_are_inside(options: dict[str, float]) -> None:
    assert RangeRule(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"percentile": 100.5}, {"bins": 1}, {"momentum": 1}, {"momentum": -0.1}], ids=str
)
def test_just_outside_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(RangesError, match=r"given; .* is needed"):
        RangeRule(**options)  # type: ignore[arg-type]
