"""Every kind of picture that people hand over, through the commands: answered rightly, or refused by name."""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from evit_edge.cli.main import app
from evit_edge.errors import DataError
from evit_edge.images import read_rgb
from evit_edge.runtime import open_runner

COLOURS = ("red", "green", "blue")


def scene(colour: str) -> Image.Image:
    """A photo tinted so that a model that names the strongest channel names this colour."""
    photo = skimage.data.coffee()[:240, :320].astype(float)
    tint = np.full(3, 0.35)
    tint[COLOURS.index(colour)] = 1.0
    return Image.fromarray((photo.mean(axis=2, keepdims=True) * tint).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(scene("red"), kind, exif=exif)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def deep_rgb() -> bytes:
    """A 16-bit RGB PNG, which Pillow cannot write."""
    pixels = np.asarray(scene("green")).astype(">u2") * 257
    return png(320, 240, 16, 2, b"".join(b"\0" + row.tobytes() for row in pixels))


def animation(kind: str) -> bytes:
    frames = [scene(colour) for colour in ("blue", "red", "green")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=40)


def transparent() -> bytes:
    image = scene("red").convert("RGBA")
    image.putalpha(220)
    return encoded(image, "PNG")


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header claims another size than its data has."""
    content = bytearray(encoded(scene("red"), "JPEG"))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def gif_of(width: int, height: int) -> bytes:
    content = bytearray(encoded(scene("red"), "GIF"))
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def tiff_of(width: int, height: int) -> bytes:
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 9)]
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + fields + bytes(4)


GOOD = {
    **{f"EXIF orientation {n}, JPEG": (f"{n}.jpg", turned(n, "JPEG"), "red") for n in range(1, 9)},
    **{f"EXIF orientation {n}, WebP": (f"{n}.webp", turned(n, "WEBP"), "red") for n in (6, 8)},
    "CMYK JPEG": ("a.jpg", encoded(scene("green").convert("CMYK"), "JPEG"), "green"),
    "CMYK TIFF": ("a.tif", encoded(scene("blue").convert("CMYK"), "TIFF"), "blue"),
    "YCbCr TIFF": ("a.tif", encoded(scene("blue").convert("YCbCr"), "TIFF"), "blue"),
    "16-bit RGB": ("a.png", deep_rgb(), "green"),
    "palette PNG": ("a.png", encoded(scene("red").quantize(64), "PNG"), "red"),
    "palette GIF": ("a.gif", encoded(scene("blue"), "GIF"), "blue"),
    "palette of two colours": ("a.png", encoded(scene("green").quantize(2), "PNG"), "green"),
    "alpha": ("a.png", transparent(), "red"),
    "alpha WebP": ("a.webp", encoded(scene("red").convert("RGBA"), "WEBP", lossless=True), "red"),
    "animated GIF": ("a.gif", animation("GIF"), "blue"),
    "animated WebP": ("a.webp", animation("WEBP"), "blue"),
    "animated PNG": ("a.png", animation("PNG"), "blue"),
    "multi-page TIFF": ("a.tif", animation("TIFF"), "blue"),
    "1x1": ("a.png", png(1, 1, 8, 2, b"\0\xc8\x28\x28"), "red"),
    "1x3000": ("a.png", png(1, 3000, 8, 2, b"\0\x28\xc8\x28" * 3000), "green"),
    "progressive JPEG": ("a.jpg", encoded(scene("green"), "JPEG", progressive=True), "green"),
    "wrong suffix, PNG as JPEG": ("a.jpg", encoded(scene("blue"), "PNG"), "blue"),
    "wrong suffix, JPEG as text": ("a.txt", encoded(scene("blue"), "JPEG"), "blue"),
    "no suffix": ("photo", encoded(scene("blue"), "JPEG"), "blue"),
    "rubbish behind the end": ("a.jpg", encoded(scene("red"), "JPEG") + b"\0" * 5000, "red"),
}

# Grey has no colour to be named: all three classes must be equally likely.
GREY = {
    "grey": ("a.png", encoded(scene("red").convert("L"), "PNG")),
    "grey and alpha": ("a.png", encoded(scene("red").convert("LA"), "PNG")),
    "black and white": ("a.png", encoded(scene("red").convert("1"), "PNG")),
    "16-bit grey": (
        "a.png",
        encoded(Image.fromarray(np.asarray(scene("red"))[..., 0].astype(np.uint16) * 257), "PNG"),
    ),
    "16-bit grey TIFF": (
        "a.tif",
        encoded(Image.fromarray(np.asarray(scene("red"))[..., 0].astype(np.uint16) * 257), "TIFF"),
    ),
    "float grey": (
        "a.tif",
        encoded(Image.fromarray(np.asarray(scene("red"))[..., 0].astype(np.float32) / 255), "TIFF"),
    ),
}

PHOTO = encoded(scene("red"), "JPEG")
BAD = {
    "zero bytes": ("a.jpg", b"", "the file is empty"),
    "one byte": ("a.jpg", b"\xff", "not an image"),
    "text": ("a.jpg", b"no photo", "not an image"),
    "a page of the web": ("a.jpg", b"<!DOCTYPE html><html></html>", "not an image"),
    "truncated JPEG": ("a.jpg", PHOTO[: len(PHOTO) // 2], "truncated"),
    "truncated PNG": ("a.png", encoded(scene("red"), "PNG")[:-4000], "truncated"),
    "truncated WebP": ("a.webp", encoded(scene("red"), "WEBP")[:3000], "truncated|not an image"),
    "truncated GIF": ("a.gif", encoded(scene("red"), "GIF")[:1000], "truncated"),
    "truncated TIFF": ("a.tif", encoded(scene("red"), "TIFF")[:5000], "truncated|not an image"),
    "header bomb, PNG": ("a.png", png(30000, 30000, 8, 2, bytes(100)), "134,217,728 pixels"),
    "header bomb, 16-bit PNG": ("a.png", png(30000, 30000, 16, 6, bytes(100)), "134,217,728 pixels"),
    "header bomb, JPEG": ("a.jpg", jpeg_of(30000, 30000), "134,217,728 pixels"),
    "header bomb, GIF": ("a.gif", gif_of(30000, 30000), "134,217,728 pixels"),
    "header bomb, TIFF": ("a.tif", tiff_of(30000, 30000), "134,217,728 pixels"),
    "header bomb, long and thin": ("a.png", png(2**31 - 1, 1, 8, 0, bytes(100)), "134,217,728 pixels"),
    "PostScript": ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "printer"),
}


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def laid_down(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(("name", "content", "colour"), GOOD.values(), ids=GOOD)
def test_pictures_of_any_kind_are_classified_rightly(colour_runner, tmp_path, name, content, colour):
    image = read_rgb(laid_down(tmp_path, name, content))
    scores = colour_runner.run(colour_runner.info.preprocessing.apply(image)[None])
    assert COLOURS[int(scores.argmax())] == colour
    assert scores.max() > 0.5


@pytest.mark.parametrize(("name", "content"), GREY.values(), ids=GREY)
def test_pictures_without_colour_get_no_colour(colour_runner, tmp_path, name, content):
    image = read_rgb(laid_down(tmp_path, name, content))
    assert image.std() > 10  # not clipped to one value either
    scores = colour_runner.run(colour_runner.info.preprocessing.apply(image)[None])
    np.testing.assert_allclose(scores, 1 / 3, atol=1e-3)


@pytest.mark.parametrize(("name", "content", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_picture_is_refused_by_name(tmp_path, name, content, reason):
    with pytest.raises(DataError, match=rf"{name}: .*({reason})") as caught:
        read_rgb(laid_down(tmp_path, name, content))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: a pipe or a device"):
        read_rgb(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="a pipe or a device"):
        read_rgb(Path("/dev/zero"))


@pytest.fixture(scope="module")
def colour_runner(colour_model):
    return open_runner(colour_model)


@pytest.fixture(scope="module")
def every_picture(tmp_path_factory) -> Path:
    """All good pictures in class folders; read only."""
    folder = tmp_path_factory.mktemp("every")
    for i, (name, content, colour) in enumerate(GOOD.values()):
        (folder / colour).mkdir(exist_ok=True)
        laid_down(folder / colour, f"{i} {name if Path(name).suffix not in ('', '.txt') else 'a.jpg'}", content)
    return folder


def test_classify_answers_all_of_them_at_once(colour_model, every_picture):
    paths = sorted(path for path in every_picture.rglob("*") if path.is_file())
    result = invoke("classify", colour_model, *paths, "--top", 1, "--json")
    assert result.exit_code == 0, result.output
    answers = json.loads(result.stdout)["images"]
    assert [answer["predictions"][0]["label"] for answer in answers] == [path.parent.name for path in paths]


@pytest.mark.parametrize(("name", "content", "reason"), list(BAD.values())[:6], ids=list(BAD)[:6])
def test_classify_names_the_bad_one_in_one_line(colour_model, every_picture, tmp_path, name, content, reason):
    good = next(path for path in every_picture.rglob("*.jpg"))
    result = invoke("classify", colour_model, good, laid_down(tmp_path, name, content))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"evit-edge: error: {tmp_path / name}: ")
    assert result.stderr.count("\n") == 1


def test_evaluate_counts_bad_photos_up_to_5_percent(colour_model, every_picture, tmp_path):
    for path in every_picture.rglob("*"):
        if path.is_file():
            (tmp_path / path.parent.name).mkdir(exist_ok=True)
            (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    photos = len(GOOD)
    laid_down(tmp_path / "red", "bad.png", BAD["header bomb, PNG"][1])
    result = invoke("evaluate", colour_model, "--data", tmp_path, "--threads", 1, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["photos"] == photos
    assert document["models"][0]["top1"]["count"] == photos
    assert [Path(reason.split(":")[0]).name for reason in document["unreadable"]] == ["bad.png"]
    assert "bad.png" in result.stderr
    laid_down(tmp_path / "green", "worse.png", b"")
    result = invoke("evaluate", colour_model, "--data", tmp_path, "--threads", 1, "--json")
    assert result.exit_code == 1
    assert f"2 of {photos + 2} photos cannot be read, more than 5%" in result.stderr
    assert result.stdout == ""


@pytest.fixture(scope="module")
def exported_once():
    """Exporting takes most of a conversion, and is not what is tested."""
    onnx = pytest.importorskip("evit_converters.onnx")
    real, made = onnx.export, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "export", lambda *a, **o: (made or made.append(real(*a, **o)) or made)[0])
        yield


@pytest.fixture
def photos_to_calibrate_with(tmp_path: Path) -> Path:
    """Twenty photos, one of them bad: exactly 5 %."""
    folder = tmp_path / "calibration"
    folder.mkdir()
    for i in range(19):
        scene(COLOURS[i % 3]).rotate(3 * i).save(folder / f"{i:02}.jpg")
    return laid_down(folder, "bad.jpg", BAD["truncated JPEG"][1]).parent


@pytest.mark.usefixtures("exported_once")
def test_a_calibration_reports_and_counts_bad_photos(m0_checkpoint, photos_to_calibrate_with, tmp_path):
    arguments = ("convert", "--weights", m0_checkpoint, "--to", "onnx", "--quantize", "int8")
    options = ("--calibration", photos_to_calibrate_with, "--output", tmp_path / "out", "--json")
    result = invoke(*arguments, *options)
    assert result.exit_code == 0, result.output
    told = " ".join(result.stderr.split())
    assert "left out: " in told
    assert "bad.jpg: truncated or corrupt image" in told
    assert "1 of 20 photos could not be read and were left out; 19 were calibrated with" in told
    assert json.loads(result.stdout)["manifest"]["calibration"]["samples"] == 19


@pytest.mark.usefixtures("exported_once")
def test_more_than_5_percent_bad_photos_stop_a_calibration(m0_checkpoint, photos_to_calibrate_with, tmp_path):
    laid_down(photos_to_calibrate_with, "empty.jpg", b"")
    arguments = ("convert", "--weights", m0_checkpoint, "--to", "onnx", "--quantize", "int8")
    result = invoke(*arguments, "--calibration", photos_to_calibrate_with, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "2 of 21 photos cannot be read, more than 5%" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()
