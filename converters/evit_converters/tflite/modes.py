"""The quantization modes; light to import, so that a command line can name them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Quantization(StrEnum):
    """What a model's weights and activations are stored as.

    ``INT8`` is the fastest on a CPU: static int8 wherever the delegate takes it, float elsewhere. ``INT8_FULL``
    makes every operator integer, for processors that know nothing else. ``INT8_DYNAMIC`` stores int8 weights and
    quantizes activations at run time; ``INT8_WEIGHTS`` stores int8 weights and computes in float; ``INT16_ACT``
    has int8 weights and 16-bit activations, for LiteRT's own kernels.
    """

    NONE = "none"
    FP16 = "fp16"
    INT8 = "int8"
    INT8_FULL = "int8-full"
    INT8_DYNAMIC = "int8-dynamic"
    INT8_WEIGHTS = "int8-weights"
    INT16_ACT = "int16-act"


NEED_RANGES = frozenset({Quantization.INT8, Quantization.INT8_FULL, Quantization.INT16_ACT})
"""Modes whose activations are stored as integers, so that their value ranges have to be known."""


class Precision(StrEnum):
    """What an operator that is exempted from int8 is computed in.

    ``INT16``: 16-bit activations and 8-bit weights, on LiteRT's own kernels, outside the delegate.
    """

    FLOAT = "float"
    INT16 = "int16"


@dataclass(frozen=True)
class QuantizableOperator:
    """An operator that int8 would change.

    Attributes:
        name: Of its first output tensor, by which it can be exempted.
        kind: In the schema's spelling, such as ``CONV_2D``.
        place: In the order of execution of the graph that is quantized, which rewrites have prepared for int8.
    """

    name: str
    kind: str
    place: int
