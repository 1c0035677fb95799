"""From uint8 pixels to the values that a model's input takes, as a table of 256 values per channel."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_edge.errors import ArtefactError
from evit_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from evit_edge.runtime.tflite_file import Normalization
from evit_edge.tensors import TensorSpec, UInt8Images

PixelTable = npt.NDArray[Any]


class InputRange(StrEnum):
    """What a float input without metadata expects of a pixel.

    ``MINUS_ONE_TO_ONE`` is the rule where nothing else is known: it is that of TensorFlow's own classifiers.
    """

    MINUS_ONE_TO_ONE = "minus-one-to-one"
    ZERO_TO_ONE = "zero-to-one"
    IMAGENET = "imagenet"
    RAW = "raw"

    @property
    def normalization(self) -> Normalization:
        """The same as mean and std of pixels in 0..255."""
        match self:
            case InputRange.MINUS_ONE_TO_ONE:
                return Normalization((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
            case InputRange.ZERO_TO_ONE:
                return Normalization((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
            case InputRange.IMAGENET:
                mean, std = (255 * np.array(values) for values in (IMAGENET_MEAN, IMAGENET_STD))
                return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
        return Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def pixel_table(spec: TensorSpec, normalization: Normalization | None) -> PixelTable:
    """What each pixel value becomes at the model's input.

    A float input gets normalised values. A quantized input gets the normalised value divided by its scale and
    shifted by its zero point where the normalisation is known; else the pixel itself (uint8) or the pixel less
    128 (int8), which is what quantizing the whole range of pixels gives.

    Args:
        spec: The model's input.
        normalization: As the file or the user states it, if at all.

    Returns:
        (3, 256) of the input's dtype: channel, pixel value.

    Raises:
        ArtefactError: The input is of another type than float32, float16, uint8, int8.
    """
    pixels = np.arange(256, dtype=np.float64)
    dtype = np.dtype(spec.dtype)
    if dtype in (np.dtype(np.float32), np.dtype(np.float16)):
        chosen = normalization or InputRange.MINUS_ONE_TO_ONE.normalization
        return _normalised(pixels, chosen).astype(dtype)
    if dtype not in (np.dtype(np.uint8), np.dtype(np.int8)):
        raise ArtefactError(f"input {spec.name!r} takes {dtype}; float32, float16, uint8 and int8 are accepted")
    if normalization is None or spec.scale is None or spec.zero_point is None:
        shift = 0 if dtype == np.dtype(np.uint8) else 128
        return np.tile(pixels - shift, (3, 1)).astype(dtype)
    steps = np.rint(_normalised(pixels, normalization) / spec.scale) + spec.zero_point
    limits = np.iinfo(dtype)
    return np.clip(steps, limits.min, limits.max).astype(dtype)


def _normalised(pixels: npt.NDArray[np.float64], rule: Normalization) -> npt.NDArray[np.float64]:
    normalised: npt.NDArray[np.float64] = (pixels[None] - np.array(rule.mean)[:, None]) / np.array(rule.std)[
        :, None
    ]
    return normalised  # (3, 256)


def look_up(table: PixelTable, images: UInt8Images) -> npt.NDArray[Any]:
    """Apply a table.

    Args:
        table: (3, 256).
        images: uint8 (B, H, W, 3).

    Returns:
        (B, H, W, 3) of the table's dtype.
    """
    if table.dtype == np.uint8 and (table == np.arange(256)).all():
        return images
    return np.stack([table[channel][images[..., channel]] for channel in range(3)], axis=-1)


def dequantize(values: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[np.float32]:
    """Real values of a quantized or float tensor.

    Returns:
        float32 of the same shape: ``scale * (value - zero_point)`` where the tensor is quantized.
    """
    if spec.scale is None or spec.zero_point is None:
        return values.astype(np.float32)
    return (np.float32(spec.scale) * (values.astype(np.int64) - spec.zero_point)).astype(np.float32)
