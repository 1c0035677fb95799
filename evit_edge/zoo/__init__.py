"""The models that ship inside the package, each with its card and its calibration cache."""

from __future__ import annotations

from pathlib import Path

EVERYDAY = "everyday"
"""EfficientViT-M0, 104 classes of everyday things, animals and flowers."""

_HERE = Path(__file__).parent


def checkpoint_path(name: str) -> Path:
    """The shipped model's weights."""
    return _HERE / name / f"{name}.safetensors"


def calibration_path(name: str, target: str) -> Path:
    """The shipped model's calibration cache for a file format, such as ``tflite``: its graph's tensors by name."""
    return _HERE / name / f"{name}.{target}.calibration.json"


def golden_photos() -> tuple[Path, ...]:
    """The photos that golden vectors are made of, in a fixed order."""
    return tuple(sorted((_HERE / "golden").glob("*.jpg")))
