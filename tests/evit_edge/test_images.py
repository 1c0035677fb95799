"""read_rgb: every kind of picture that people have, and every way in which a file can fail to be one."""

import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from evit_edge.errors import DataError
from evit_edge.images import read_rgb

# Columns red, green, blue, white; the two rows differ in brightness, so that every flip and turn shows.
SMALL = np.array(
    [
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]],
        [[128, 0, 0], [0, 128, 0], [0, 0, 128], [64, 64, 64]],
    ],
    dtype=np.uint8,
)


def save(array: np.ndarray, path: Path, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "gif", "tga", "pcx"])
def test_lossless_formats_come_back_bit_exact(tmp_path: Path, suffix: str) -> None:
    image = read_rgb(save(SMALL, tmp_path / f"a.{suffix}"))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_array_equal(image, SMALL)


def test_lossless_webp(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_rgb(save(SMALL, tmp_path / "a.webp", lossless=True)), SMALL)


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    path = save(SMALL, tmp_path / "a.png").rename(tmp_path / "photo.jpg")
    np.testing.assert_array_equal(read_rgb(path), SMALL)


def test_a_photo_survives_jpeg(coffee: np.ndarray, coffee_jpg: Path) -> None:
    error = read_rgb(coffee_jpg).astype(int) - coffee
    assert np.sqrt((error**2).mean()) < 5


# Tag 0x0112: what the stored rows and columns are, so what makes the upright picture from them.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(SMALL, tmp_path / f"a.{suffix}", exif=exif, **options)
    np.testing.assert_array_equal(read_rgb(path), UPRIGHT[orientation](SMALL))


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    big = SMALL.repeat(32, 0).repeat(32, 1)
    image = read_rgb(save(big, tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0))
    assert image.shape == (128, 64, 3)
    assert np.abs(image.astype(int) - np.rot90(big, -1)).mean() < 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_leaves_the_picture_as_it_is(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_rgb(save(SMALL, tmp_path / "a.png", exif=exif)), SMALL)


def test_broken_exif_does_not_cost_the_photo(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_rgb(save(SMALL, tmp_path / "a.png", exif=b"Exif\0\0nonsense")), SMALL)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_has_three_equal_channels(tmp_path: Path, mode: str) -> None:
    image = read_rgb(save(np.array([[0, 255]], np.uint8), tmp_path / "a.png", mode))
    np.testing.assert_array_equal(image, [[[0] * 3, [255] * 3]])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = save(np.array([[0, 128, 257, 32768, 65535]], np.uint16), tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_rgb(path)[0, :, 0], [0, 0, 1, 128, 255])


def test_16_bit_grey_in_big_endian(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 32768, 65535))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.pgm")[0, :, 0], [0, 128, 255])


def test_32_bit_grey_with_16_bit_values(tmp_path: Path) -> None:
    path = save(np.array([[0, 65535]], np.int32), tmp_path / "a.tif")
    np.testing.assert_array_equal(read_rgb(path)[0, :, 0], [0, 255])


def test_float_grey_is_0_to_1(tmp_path: Path) -> None:
    path = save(np.array([[0, 0.5, 1]], np.float32), tmp_path / "a.tif")
    np.testing.assert_array_equal(read_rgb(path)[0, :, 0], [0, 128, 255])


@pytest.mark.parametrize("values", [[0, 100000], [-1, 5], [0.0, 1.5], [0.0, np.nan]], ids=str)
def test_grey_without_a_known_range_is_refused(tmp_path: Path, values: list[float]) -> None:
    kind = np.float32 if isinstance(values[0], float) else np.int32
    path = save(np.array([values], kind), tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: grey values .* are accepted"):
        read_rgb(path)


def test_16_bit_rgb(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"\0" + struct.pack(">3H", 0, 0x80FF, 0xFFFF))
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), [[[0, 128, 255]]])


def test_transparent_pixels_lie_over_white(tmp_path: Path) -> None:
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    image = read_rgb(save(rgba, tmp_path / "a.png"))
    np.testing.assert_array_equal(image, [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]])


def test_transparent_grey(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), mode=None)
    assert image.mode == "LA"
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), [[[10] * 3, [255] * 3]])


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"], ids=["index", "table"])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=transparency)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), [[[10, 20, 30], [255, 255, 255]]])


def test_rgb_with_a_transparent_colour(tmp_path: Path) -> None:
    path = save(SMALL, tmp_path / "a.png", transparency=(255, 0, 0))
    expected = SMALL.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(read_rgb(path), expected)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path: Path, suffix: str) -> None:
    big = SMALL.repeat(16, 0).repeat(16, 1)
    image = read_rgb(save(big, tmp_path / f"a.{suffix}", "CMYK"))
    assert np.abs(image.astype(int) - big).mean() < 4


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_an_animation_the_first_frame(tmp_path: Path, suffix: str) -> None:
    first, second = Image.fromarray(SMALL), Image.fromarray(255 - SMALL)
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(read_rgb(tmp_path / f"a.{suffix}"), SMALL)


BAD_BYTES = {
    "zero-byte": (b"", "the file is empty"),
    "text": (b"not a picture at all\n" * 50, "not an image"),
    "jpeg-head-only": (b"\xff\xd8\xff\xe0", "not an image|truncated"),
    "png-head-only": (b"\x89PNG\r\n\x1a\n", "not an image|truncated"),
    "bmp-of-2-gigapixels": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 50000, 50000, 1, 24, 0, 0, 0, 0, 0, 0),
        "134,217,728 pixels",
    ),
    "bmp-just-above-the-limit": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 12000, 12000, 1, 24, 0, 0, 0, 0, 0, 0),
        "12000x12000 pixels; at most",
    ),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "printer"),
}


@pytest.mark.parametrize(("content", "reason"), BAD_BYTES.values(), ids=BAD_BYTES)
def test_bad_files_are_named_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.jpg: .*({reason})") as caught:
        read_rgb(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fixture", ["coffee_jpg", "coffee_png"])
def test_truncated_photos(tmp_path: Path, fixture: str, request: pytest.FixtureRequest) -> None:
    whole = request.getfixturevalue(fixture).read_bytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jpg: truncated or corrupt"):
        read_rgb(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jpg: no such file"):
        read_rgb(tmp_path / "none.jpg")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder, not a photo"):
        read_rgb(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_a_picture_or_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    """Nothing but DataError comes out, and no warning, whatever bytes change."""
    source = tmp_path / f"a.{data.draw(st.sampled_from(['png', 'gif', 'jpg', 'tif', 'webp', 'bmp']))}"
    content = bytearray(save(SMALL, source).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    source.write_bytes(content)
    try:
        image = read_rgb(source)
    except DataError:
        event("refused")
    else:
        event("read")
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)


def test_warning_filters_survive_threads(coffee_png: Path) -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(read_rgb, [coffee_png] * 24))
    assert warnings.filters == before
    assert all(np.array_equal(image, images[0]) for image in images)


def test_reading_photos_needs_the_base_installation_only() -> None:
    code = "import sys, evit_edge.images; assert not {'torch', 'cv2', 'skimage'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
