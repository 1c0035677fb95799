"""Inputs and outputs of a classifier: their description, and scores in one unit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from evit_edge.errors import ArtefactError
from evit_edge.models.config import OutputKind

__all__ = [
    "Float32Array",
    "Layout",
    "OutputKind",
    "TensorSpec",
    "UInt8Images",
    "centred_logits",
    "probabilities",
]

UInt8Images = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


class Layout(StrEnum):
    """Order of an input's axes."""

    NHWC = "NHWC"
    NCHW = "NCHW"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: As the file calls it.
        shape: With the batch axis.
        dtype: numpy's name, such as ``uint8``.
        scale: Real value of one quantization step; None where the tensor is not quantized.
        zero_point: Quantized value that means 0; None where the tensor is not quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def __post_init__(self) -> None:
        """A scale and a zero point come together."""
        if (self.scale is None) != (self.zero_point is None):
            raise ArtefactError(f"tensor {self.name!r} has scale {self.scale} and zero point {self.zero_point}")


def probabilities(scores: Float32Array, kind: OutputKind) -> Float32Array:
    """Scores as probabilities: softmax of logits, probabilities as they are.

    Args:
        scores: float32 (B, classes).
        kind: What the scores are.

    Returns:
        float32 (B, classes) in 0..1.
    """
    if kind is OutputKind.PROBABILITIES:
        return scores
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float32)


def centred_logits(scores: Float32Array, kind: OutputKind) -> npt.NDArray[np.float64]:
    """Logits up to each picture's constant, with that constant taken out.

    Softmax forgets a constant added to all of a picture's logits; its logarithm gives the rest back. So logits
    and probabilities of one model can be compared in the same unit.

    Args:
        scores: float32 (B, classes).
        kind: What the scores are.

    Returns:
        float64 (B, classes), each row with mean 0.
    """
    values = scores.astype(np.float64)
    if kind is OutputKind.PROBABILITIES:
        values = np.log(np.maximum(values, np.finfo(np.float32).tiny))
    return np.asarray(values - values.mean(axis=-1, keepdims=True), dtype=np.float64)
