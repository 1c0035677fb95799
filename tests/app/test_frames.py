import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evit_app.frames import Frame, Orientation, decode_jpeg
from evit_edge.errors import DataError, RequestError

PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.mark.parametrize(
    ("orientation", "transpose"),
    [
        (Orientation(quarter_turns=1), Image.Transpose.ROTATE_270),
        (Orientation(quarter_turns=-1), Image.Transpose.ROTATE_90),
        (Orientation(quarter_turns=2), Image.Transpose.ROTATE_180),
        (Orientation(mirrored=True), Image.Transpose.FLIP_LEFT_RIGHT),
        (Orientation(flipped=True), Image.Transpose.FLIP_TOP_BOTTOM),
    ],
    ids=["clockwise", "counterclockwise", "half", "mirror", "flip"],
)
def test_pictures_are_turned_as_pillow_turns_them(orientation, transpose):
    turned = orientation.apply(PICTURE)
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, np.asarray(Image.fromarray(PICTURE).transpose(transpose)))


@given(turns=st.integers(-9, 9), mirrored=st.booleans(), flipped=st.booleans())
def test_what_was_turned_can_be_turned_back(turns, mirrored, flipped):
    there = Orientation(turns, mirrored, flipped).apply(PICTURE)
    unflipped = Orientation(0, mirrored, flipped).apply(there)
    np.testing.assert_array_equal(Orientation(-turns).apply(unflipped), PICTURE)


def test_nothing_to_do_copies_nothing():
    assert Orientation(quarter_turns=4).apply(PICTURE) is PICTURE


@pytest.mark.parametrize(
    ("image", "read_s"),
    [(PICTURE.astype(np.float32), 0), (PICTURE[..., :1], 0), (PICTURE[0], 0), (PICTURE, -1)],
    ids=["float", "grey", "flat", "backwards"],
)
def test_what_is_no_frame_is_refused(image, read_s):
    with pytest.raises(RequestError, match="given"):
        Frame(image, 0.0, read_s)


def test_a_jpeg_is_decoded_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (8, 4), (250, 0, 0)).save(stream, "JPEG", exif=exif)
    image = decode_jpeg(stream.getvalue())
    assert image.shape == (8, 4, 3)
    assert image[0, 0, 0] > 200
    assert image[0, 0, 2] < 50


@pytest.mark.parametrize("content", [b"", b"milk", b"\xff\xd8\xff\xe0 cut"], ids=["empty", "text", "truncated"])
def test_what_is_no_picture_is_refused(content):
    with pytest.raises(DataError, match="no picture"):
        decode_jpeg(content)
