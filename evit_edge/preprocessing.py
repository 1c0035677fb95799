"""The one rule that turns a picture into what a model sees: training, calibration and every consumer use it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from evit_edge.errors import RequestError

UInt8Image = npt.NDArray[np.uint8]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Interpolation(StrEnum):
    """Resampling filter, with the anti-aliasing of Pillow's ``Image.resize``."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side to ``image_size / crop_fraction``, cut the central square, normalise.

    Attributes:
        image_size: Side of the square that the model sees, in pixels.
        crop_fraction: Part of the resized picture's shorter side that the square covers, in (0, 1].
        interpolation: Filter of the resize.
        mean: Per channel (R, G, B), of values scaled to 0..1.
        std: Per channel (R, G, B), of values scaled to 0..1, positive.

    Scaling and normalisation are listed for the record; an artefact carries them inside.
    """

    image_size: int = 224
    crop_fraction: float = 0.875
    interpolation: Interpolation = Interpolation.BICUBIC
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Refuse what no picture can be prepared by."""
        if self.image_size < 1:
            raise RequestError(f"image size {self.image_size} given; a positive number of pixels is needed")
        if not 0 < self.crop_fraction <= 1:
            raise RequestError(f"crop fraction {self.crop_fraction} given; a value in (0, 1] is needed")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise RequestError(f"mean {self.mean} and std {self.std} given; three values each, std positive")

    @property
    def resize_to(self) -> int:
        """Shorter side after the resize, in pixels."""
        return round(self.image_size / self.crop_fraction)

    def apply(self, image: UInt8Image) -> UInt8Image:
        """Cut the square that the model sees.

        Args:
            image: RGB uint8 (H, W, 3).

        Returns:
            RGB uint8 (image_size, image_size, 3).
        """
        height, width = image.shape[:2]
        scale = self.resize_to / min(height, width)
        size = (max(self.resize_to, round(width * scale)), max(self.resize_to, round(height * scale)))
        # Resizing only what the crop keeps saves most of the work on large photos, with the same pixels.
        left, top = (size[0] - self.image_size) // 2, (size[1] - self.image_size) // 2
        sx, sy = width / size[0], height / size[1]
        box = (left * sx, top * sy, (left + self.image_size) * sx, (top + self.image_size) * sy)
        resample = Image.Resampling[self.interpolation.name]
        side = self.image_size
        return np.array(Image.fromarray(image).resize((side, side), resample, box=box), dtype=np.uint8)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Preprocessing:
        """Read what :meth:`to_json` wrote.

        Raises:
            RequestError: A field is missing, unknown or out of range.
        """
        try:
            return cls(
                image_size=int(fields["image_size"]),
                crop_fraction=float(fields["crop_fraction"]),
                interpolation=Interpolation(fields["interpolation"]),
                mean=_triple(fields["mean"]),
                std=_triple(fields["std"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise RequestError(f"preprocessing {fields!r} cannot be read: {exc!r}") from exc


def _triple(values: Any) -> tuple[float, float, float]:
    r, g, b = (float(value) for value in values)
    return r, g, b
