"""The quantization modes; light to import, so that a command line can name them."""

from __future__ import annotations

from enum import StrEnum


class Quantization(StrEnum):
    """What a model's weights and activations are stored as."""

    NONE = "none"
    FP16 = "fp16"
    INT8 = "int8"
