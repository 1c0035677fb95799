"""Photo files to RGB arrays: the one reader that calibration, evaluation and the command line share."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from evit_edge.errors import DataError
from evit_edge.preprocessing import UInt8Image

MAX_PIXELS = 2**27
"""Largest picture that is decoded: 134 million pixels (400 MB as RGB), above every phone's full mode of 108."""

# EXIF 2.32, tag 0x0112: what turns the stored pixels upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Decoding them means to start Ghostscript on a file from anywhere.
_REFUSED_FORMATS = {"EPS"}

# warnings.catch_warnings is not safe between threads before Python 3.14.
_WARNINGS_LOCK = threading.Lock()


def read_rgb(path: Path) -> UInt8Image:
    """Read a photo of any format that Pillow decodes.

    The EXIF orientation is applied. Of an animation or a multi-page file, the first frame is read. Transparent
    pixels are laid over white. 16-bit grey is scaled to 8 bits (65535 becomes 255), never clipped; float grey
    is taken as 0..1. Palettes, greys, CMYK and YCbCr become RGB by Pillow's rules; colour profiles are ignored,
    as they are in training.

    Args:
        path: The file; its suffix does not matter.

    Returns:
        RGB uint8 (H, W, 3), 0..255, C-contiguous and writable.

    Raises:
        DataError: There is no such file, it is no picture, it is truncated or corrupt, it has more than
            ``MAX_PIXELS`` pixels, or its values have no known range. The message names the file.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe would wait for ever
        raise DataError(f"{path}: a pipe or a device, not a photo")
    try:
        with _silent(), Image.open(path) as image:
            _check_header(image, path)
            image.load()
            return np.array(_to_rgb(_upright(image), path), dtype=np.uint8)
    except DataError:
        raise
    except Image.DecompressionBombError as exc:
        raise DataError(f"{path}: more than the {MAX_PIXELS:,} pixels that are accepted; scale it down") from exc
    except Exception as exc:  # Pillow's decoders raise whatever their parsers stumble on, struct.error included
        raise DataError(f"{path}: {_reason(path, exc)}") from exc


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Pillow's remarks about odd metadata from the user, who cannot act on them."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_header(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{path}: {width}x{height} pixels; at most {MAX_PIXELS:,} are accepted; scale it down")
    if image.format in _REFUSED_FORMATS:
        raise DataError(f"{path}: {image.format} is a program for a printer, not a photo; convert it to PNG")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a photo with broken metadata is still a photo
        return image
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scaled_grey(np.asarray(image, dtype=np.float64), 65535.0, path)
    if image.mode == "F":
        return _scaled_grey(np.asarray(image, dtype=np.float64), 1.0, path)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _scaled_grey(values: npt.NDArray[np.float64], white: float, path: Path) -> Image.Image:
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # written so that NaN is refused
        raise DataError(f"{path}: grey values {low:g} to {high:g}; 0 to {white:g} are accepted; save as 8 bits")
    return Image.fromarray(np.rint(values * (255.0 / white)).astype(np.uint8)).convert("RGB")


def _reason(path: Path, exc: Exception) -> str:
    if isinstance(exc, FileNotFoundError):
        return "no such file"
    if isinstance(exc, IsADirectoryError) or path.is_dir():
        return "a folder, not a photo"
    if isinstance(exc, PermissionError):
        return "may not be read (permission denied)"
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(exc, UnidentifiedImageError):
        return "not an image in a format that Pillow decodes (JPEG, PNG, WebP, TIFF, BMP, GIF and others)"
    return f"truncated or corrupt image ({exc or type(exc).__name__})"
