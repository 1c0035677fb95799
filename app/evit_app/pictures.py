"""What is drawn: the square that the model sees, labels on a snapshot, a small chart."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from evit_edge.preprocessing import Preprocessing, UInt8Image

LIVE_SIDE = 640
"""Longest side of a live picture on the screen, in pixels."""

Box = tuple[int, int, int, int]


def seen_square(width: int, height: int, rule: Preprocessing) -> Box:
    """Left, top, right, bottom of what the model sees of a picture, in its pixels."""
    side = min(width, height) * rule.image_size / rule.resize_to
    left, top = (width - side) / 2, (height - side) / 2
    return round(left), round(top), round(left + side), round(top + side)


def live_jpeg(image: UInt8Image, rule: Preprocessing) -> bytes:
    """A frame as the screen gets it: at most ``LIVE_SIDE`` long, with the square.

    Args:
        image: RGB uint8 (H, W, 3).
        rule: The model's.
    """
    picture = Image.fromarray(image)
    if max(picture.size) > LIVE_SIDE:
        scale = LIVE_SIDE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    _frame(picture, rule)
    return _jpeg(picture, 80)


def snapshot_jpeg(image: UInt8Image, rule: Preprocessing, lines: Sequence[str]) -> bytes:
    """A frame at full size with the square and lines of text, for a file."""
    picture = Image.fromarray(image)
    _frame(picture, rule)
    size = max(12, picture.height // 24)
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture)
    top = picture.height - (len(lines) * size * 5 // 4) - size // 2
    draw.rectangle((0, top - size // 4, picture.width, picture.height), fill=(0, 0, 0))
    for i, line in enumerate(lines):
        draw.text((size // 2, top + i * size * 5 // 4), _printable(line), fill=(255, 255, 255), font=font)
    return _jpeg(picture, 92)


def chart_png(values: Sequence[float], size: tuple[int, int], colour: tuple[int, int, int]) -> bytes:
    """A line from the oldest value to the newest, from 0 at the bottom; transparent elsewhere."""
    width, height = size
    picture = Image.new("RGBA", size, (*colour, 0))
    draw = ImageDraw.Draw(picture)
    draw.line((0, height - 1, width, height - 1), fill=(*colour, 90))
    if len(values) > 1:
        top = 1.2 * max(values) or 1.0
        step = (width - 1) / (len(values) - 1)
        points = [(i * step, (height - 2) * (1 - value / top)) for i, value in enumerate(values)]
        draw.line(points, fill=(*colour, 255), width=2, joint="curve")
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _frame(picture: Image.Image, rule: Preprocessing) -> None:
    left, top, right, bottom = seen_square(*picture.size, rule)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=(0, 0, 0), width=4)
    draw.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline=(255, 255, 255), width=2)


def _printable(line: str) -> str:
    """Pillow's own font knows Latin letters only."""
    return line.encode("latin-1", "replace").decode("latin-1")


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()
