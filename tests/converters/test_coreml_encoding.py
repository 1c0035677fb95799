"""float16 weights in fewer bits: the promises of both encodings, on any weights and on known ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from evit_converters.coreml.encoding import int8_per_channel, palette

weights = arrays(
    np.float16,
    array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9),
    elements=st.floats(-65504, 65504, width=16) | st.floats(-(2**-17), 2**-17, width=16) | st.just(0.0),
)


@given(weights)
def test_int8_is_within_half_a_step(weight: np.ndarray) -> None:
    codes, scale = int8_per_channel(weight)
    assert codes.dtype == np.int8
    assert scale.dtype == np.float16
    assert np.all(scale > 0)
    assert np.all(np.abs(codes.astype(int)) <= 127)
    steps = scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    assert np.all(np.abs(codes * steps - weight) <= steps / 2)


@given(weights, st.sampled_from([4, 6]))
def test_palette_takes_the_nearest_entry(weight: np.ndarray, bits: int) -> None:
    found = palette(weight, bits)
    if found is None:
        assert len(np.unique(weight)) < 2**bits
        return
    indices, table = found
    assert table.shape == (2**bits,)
    assert np.all(np.diff(table.astype(np.float64)) >= 0)
    distance = np.abs(table.astype(np.float64) - weight.astype(np.float64)[..., None])  # (..., entries)
    assert np.array_equal(
        np.take_along_axis(distance, indices[..., None].astype(int), -1)[..., 0], distance.min(-1)
    )


def test_palette_of_as_many_values_as_entries_is_exact() -> None:
    weight = np.repeat(np.arange(16, dtype=np.float16), 3).reshape(4, 12)
    found = palette(weight, 4)
    assert found is not None
    assert np.array_equal(found[1][found[0]], weight)
    assert palette(weight[:, :9], 6) is None


def test_the_scale_is_rounded_up_so_that_the_largest_weight_is_within_reach() -> None:
    peaks = np.float16([127, 126.9, 1, 1e-5, 65504])
    codes, scale = int8_per_channel(np.stack([peaks, -peaks / 2, np.zeros(5, np.float16)], axis=1))
    exact = peaks.astype(np.float64) / 127
    assert np.all(scale >= exact)
    assert np.all(np.nextafter(scale, np.float16(0)) < exact)  # and no more than needed
    assert scale[0] == 1
    assert codes[0].tolist() == [127, -64, 0]  # of halves the even one
    assert np.all(codes[:3, 0] == 127)


def test_a_channel_has_its_own_scale_whatever_its_shape() -> None:
    weight = np.float16([[[[1, -2], [3, 4]]], [[[10, 0], [-12.7, 5]]]])  # (2, 1, 2, 2)
    codes, scale = int8_per_channel(weight)
    assert scale.shape == (2,)
    assert codes.shape == weight.shape
    assert codes.reshape(2, 4).tolist() == [[32, -63, 95, 127], [100, 0, -127, 50]]


def test_a_channel_of_zeros_has_a_scale_all_the_same() -> None:
    codes, scale = int8_per_channel(np.float16([[0, 0], [1, 2]]))
    assert scale[0] == 1
    assert codes[0].tolist() == [0, 0]


def test_a_palette_puts_its_entries_where_the_weights_are() -> None:
    """Two thousand weights around each of sixteen places, and one far from all."""
    rng = np.random.default_rng(0)
    places = np.arange(-8, 8, dtype=np.float64)
    weight = np.float16(np.repeat(places, 2000) + rng.normal(0, 0.01, 32000)).reshape(160, 200)
    found = palette(weight, 4)
    assert found is not None
    indices, table = found
    assert (indices.dtype, table.dtype) == (np.uint8, np.float16)
    np.testing.assert_allclose(table, places, atol=0.01)
    np.testing.assert_array_equal(indices.ravel(), np.repeat(np.arange(16), 2000))


def test_what_is_frequent_pulls_an_entry_to_itself() -> None:
    """Seventeen values for sixteen entries: the two nearest share one, near the more frequent of them."""
    values = np.float16([0, 1, *range(100, 115 * 100, 800)])[:17]
    weight = np.concatenate([np.repeat(values[:1], 99), np.repeat(values[1:], 1)])
    found = palette(weight, 4)
    assert found is not None
    assert found[1][0] == pytest.approx(0.01, abs=1e-3)
    assert found[0][:100].tolist() == [0] * 100


@pytest.mark.parametrize("bits", [4, 6])
def test_fewer_values_than_entries_are_left_alone(bits: int) -> None:
    values = np.arange(2**bits, dtype=np.float16)
    assert palette(np.repeat(values[:-1], 5), bits) is None
    assert palette(np.repeat(values, 5), bits) is not None
