import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.errors import ArtefactError
from evit_edge.runtime.pixels import InputRange, dequantize, look_up, pixel_table
from evit_edge.runtime.tflite_file import Normalization
from evit_edge.tensors import OutputKind, TensorSpec, centred_logits, probabilities

finite = st.floats(-200, 200)
scales = st.floats(1e-3, 1.0)


def spec(dtype, scale=None, zero_point=None):
    return TensorSpec("image", (1, 8, 8, 3), dtype, scale, zero_point)


@given(finite, st.floats(1.0, 200.0), scales, st.integers(-128, 127))
def test_quantized_pixels_stand_for_the_normalised_ones(mean, std, scale, zero_point):
    rule = Normalization((mean,) * 3, (std,) * 3)
    quantized = spec("int8", scale, zero_point)
    table = pixel_table(quantized, rule)
    real = (np.arange(256) - mean) / std
    inside = np.clip(real, scale * (-128 - zero_point), scale * (127 - zero_point))
    np.testing.assert_allclose(dequantize(table, quantized)[0], inside, atol=scale / 2 + 1e-4)


@pytest.mark.parametrize(
    ("dtype", "first"), [("uint8", 0), ("int8", -128)], ids=["uint8 is the pixel", "int8 is the pixel less 128"]
)
def test_without_normalisation_a_quantized_input_takes_pixels(dtype, first):
    table = pixel_table(spec(dtype, 0.02, 3), None)
    assert table.dtype == dtype
    np.testing.assert_array_equal(table[1].astype(int), np.arange(first, first + 256))


def test_float_inputs_take_minus_one_to_one_where_nothing_is_known():
    table = pixel_table(spec("float32"), None)
    np.testing.assert_array_equal(table, pixel_table(spec("float32"), InputRange.MINUS_ONE_TO_ONE.normalization))
    assert (table[0, 0], table[0, 255]) == (-1.0, 1.0)


def test_look_up_keeps_channels_apart():
    table = np.stack([np.arange(256) + 1000 * channel for channel in range(3)]).astype(np.float32)
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(look_up(table, image), image + 1000.0 * np.arange(3))


def test_other_inputs_are_refused():
    with pytest.raises(ArtefactError, match="int32"):
        pixel_table(spec("int32"), None)
    with pytest.raises(ArtefactError, match="zero point None"):
        spec("int8", 0.1, None)


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=8), st.floats(-50, 50))
def test_softmax_and_its_inverse(values, constant):
    logits = np.array([values], dtype=np.float32)
    chances = probabilities(logits, OutputKind.LOGITS)
    assert chances.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(probabilities(logits + np.float32(constant), OutputKind.LOGITS), chances, atol=1e-4)
    back = centred_logits(chances, OutputKind.PROBABILITIES)
    np.testing.assert_allclose(back, centred_logits(logits, OutputKind.LOGITS), atol=1e-3)
