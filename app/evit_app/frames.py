"""One type for a picture on its way to the model, wherever it comes from."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from evit_edge.errors import DataError, EvitEdgeError, RequestError
from evit_edge.preprocessing import UInt8Image


class SourceError(EvitEdgeError):
    """A camera, a video or a folder that gives no pictures, or gives none any more."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture as the model is to see it: upright, not mirrored, RGB.

    Attributes:
        image: uint8 (H, W, 3), RGB, C-contiguous.
        captured_s: When the picture was taken, seconds on the pipeline's clock.
        read_s: From then until the pixels were here, seconds.
    """

    image: UInt8Image
    captured_s: float
    read_s: float

    def __post_init__(self) -> None:
        """Refuse what is no picture."""
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise RequestError(
                f"a frame of {self.image.dtype} {self.image.shape} given; uint8 (H, W, 3) is accepted"
            )
        if self.read_s < 0:
            raise RequestError(f"a frame read in {self.read_s} s given; time runs forwards")


@dataclass(frozen=True)
class Orientation:
    """What puts a picture right; turning comes first.

    Attributes:
        quarter_turns: Turns by 90 degrees, clockwise; any whole number.
        mirrored: Left and right change places.
        flipped: Top and bottom change places.
    """

    quarter_turns: int = 0
    mirrored: bool = False
    flipped: bool = False

    def apply(self, image: UInt8Image) -> UInt8Image:
        """Put a picture right.

        Args:
            image: uint8 (H, W, 3).

        Returns:
            uint8 (H, W, 3), or (W, H, 3) after an odd number of turns; the same object where nothing is to do.
        """
        if self.quarter_turns % 4:
            image = np.rot90(image, -self.quarter_turns % 4)
        if self.mirrored:
            image = image[:, ::-1]
        if self.flipped:
            image = image[::-1]
        return np.ascontiguousarray(image)


class FrameSource(Protocol):
    """Something that gives one picture after the other."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    def read(self) -> Frame | None:
        """Wait for the next picture, a fraction of a second at most.

        Returns:
            The picture; None where none came in that time.

        Raises:
            SourceError: None will come any more.
        """
        ...

    def close(self) -> None:
        """Let go of the device or file. Called by the thread that reads; a second call does nothing."""
        ...


def decode_jpeg(content: bytes) -> UInt8Image:
    """Pixels of an encoded picture, turned upright by its EXIF tag.

    Returns:
        RGB uint8 (H, W, 3).

    Raises:
        DataError: It is no picture, or a truncated one.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.uint8)
    except Exception as exc:  # Pillow's decoders raise whatever their parsers stumble on
        raise DataError(f"{len(content)} bytes given that are no picture: {exc}") from exc
