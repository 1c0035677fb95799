"""The streaming histogram against numpy on all values at once."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evit_calibration.histogram import StreamingHistogram

BINS = 64
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
arrays = hnp.arrays(np.float32, st.integers(1, 60), elements=finite)
percents = st.one_of(st.sampled_from([0.0, 0.01, 50.0, 99.99, 100.0]), st.floats(0, 100))


def filled(chunks: list[np.ndarray], bins: int = BINS) -> StreamingHistogram:
    histogram = StreamingHistogram(bins)
    for chunk in chunks:
        histogram.add(chunk)
    return histogram


def state(histogram: StreamingHistogram) -> tuple[object, ...]:
    return histogram.minimum, histogram.maximum, histogram.size, histogram.width, histogram._counts.tolist()


@given(chunks=st.lists(arrays, min_size=1, max_size=6), percent=percents)
def test_percentiles_are_within_a_bin_of_numpy(chunks: list[np.ndarray], percent: float) -> None:
    histogram = filled(chunks)
    values = np.concatenate(chunks).astype(np.float64)
    exact = np.percentile(values, percent)
    rounding = 1e-12 * np.abs(values).max()
    assert abs(histogram.percentile(percent) - exact) <= histogram.width + rounding
    assert values.min() <= histogram.percentile(percent) <= values.max()


@given(chunks=st.lists(arrays, min_size=1, max_size=6))
def test_a_bin_is_at_most_2_of_bins_of_the_largest_magnitude(chunks: list[np.ndarray]) -> None:
    largest = float(np.abs(np.concatenate(chunks)).max())
    width = filled(chunks).width
    assert largest < BINS * width
    assert width <= max(2 * largest / BINS, 2.0**-100)


@given(chunks=st.lists(arrays, min_size=1, max_size=6), data=st.data())
def test_neither_order_nor_cuts_matter(chunks: list[np.ndarray], data: st.DataObject) -> None:
    """Exactly: growing the range step by step gives the counts of one pass with the final range."""
    shuffled = data.draw(st.permutations(chunks))
    at_once = np.concatenate(chunks)
    assert (
        state(filled(chunks))
        == state(filled(shuffled))
        == state(filled([at_once]))
        == state(filled([at_once[::-1]]))
    )


@given(array=arrays)
def test_no_value_is_lost(array: np.ndarray) -> None:
    histogram = filled(list(array[:, np.newaxis]))
    assert histogram._counts.sum() == histogram.size == array.size


@pytest.mark.parametrize("growth", [1, 3, 40, 190], ids=lambda n: f"2^{n}")
def test_the_range_grows_by_any_power_of_two(growth: int) -> None:
    small, large = np.float32([-1e-20, 1e-20]), np.float32([1e-20 * 2.0**growth])
    histogram = filled([small, large])
    assert histogram._counts.sum() == 3
    assert histogram.percentile(100) == large[0]
    assert histogram.percentile(0) == small[0]


def test_values_longer_than_a_chunk_and_of_any_layout() -> None:
    values = np.random.default_rng(0).standard_normal((3, 200, 333)).astype(np.float32)
    assert state(filled([values])) == state(filled([values.transpose(2, 0, 1)])) == state(filled(list(values)))
    for percent in (0.01, 5, 50, 99.99):
        assert filled([values], 4096).percentile(percent) == pytest.approx(
            np.percentile(values, percent), abs=0.002
        )


def test_zeros_stay_zeros() -> None:
    histogram = filled([np.zeros(1000, np.float32)])
    assert histogram.percentile(0.01) == histogram.percentile(99.99) == 0


def test_denormals_count_as_zero_or_more() -> None:
    histogram = filled([np.float32([1e-45, 2e-45, 0])])
    assert 0 <= histogram.percentile(99.99) <= 2e-45


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="1 of 3 values are NaN or infinite"):
        filled([np.float32([1, bad, 2])])


def test_memory_does_not_grow_with_the_stream() -> None:
    rng = np.random.default_rng(0)
    sizes = []
    tracemalloc.start()
    try:
        histogram = StreamingHistogram()
        for round_ in range(40):
            histogram.add((rng.standard_normal(200_000) * 1.2**round_).astype(np.float32))
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert histogram.size == 8_000_000
    assert max(sizes) - sizes[0] < 10_000
    assert histogram._counts.nbytes == 16 * histogram.bins


@pytest.mark.parametrize("bins", [0, 1, 3, 100])
def test_bins_are_a_power_of_two(bins: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        StreamingHistogram(bins)


def test_an_empty_histogram_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        filled([np.zeros((0, 3), np.float32)]).percentile(50)


@pytest.mark.parametrize("percent", [-0.5, 100.5])
def test_percentiles_lie_within_nought_and_a_hundred(percent: float) -> None:
    histogram = StreamingHistogram()
    histogram.add(np.float32([1, 2]))
    with pytest.raises(ValueError, match=r"of 2 values; at least one value and 0\.\.100 are needed"):
        histogram.percentile(percent)
