"""The models that ship inside the package, each with its card and its calibration cache."""

from __future__ import annotations

from pathlib import Path

EVERYDAY = "everyday"
"""EfficientViT-M0, 104 classes of everyday things, animals and flowers."""

_HERE = Path(__file__).parent


def checkpoint_path(name: str) -> Path:
    """The shipped model's weights."""
    return _HERE / name / f"{name}.safetensors"


def calibration_path(name: str) -> Path:
    """The shipped model's calibration cache."""
    return _HERE / name / f"{name}.calibration.json"


def golden_photos() -> tuple[Path, ...]:
    """The photos that golden vectors are made of, in a fixed order."""
    return tuple(sorted((_HERE / "golden").glob("*.jpg")))
