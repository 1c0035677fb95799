"""The models that ship inside the package, each with its card and its calibration cache."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from evit_edge.files import sha256_of

EVERYDAY = "everyday"
"""EfficientViT-M0, 104 classes of everyday things, animals and flowers."""

SHIPPED = {"everyday/everyday.safetensors": "324d2829834abcb8b8f427ecec23d2baa0b52f0f516b71456137abb5e592a2c0"}
"""SHA-256 of the weights that ship, by their place in this folder."""

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


def is_shipped(path: str | Path) -> bool:
    """Whether a name is that of a model that ships, and the file is the one that did."""
    file = checkpoint_path(EVERYDAY) if str(path) == EVERYDAY else Path(path)
    for place, digest in SHIPPED.items():
        if file.is_file() and file.samefile(_HERE / place):
            return _sha256(file.resolve()) == digest
    return False


@cache
def _sha256(file: Path) -> str:
    return sha256_of(file)
