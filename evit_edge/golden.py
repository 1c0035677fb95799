"""NAME.tflite.golden.npz beside an artefact: a few pictures and what the float model answers to them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evit_edge.errors import ArtefactError
from evit_edge.files import replacing
from evit_edge.tensors import Float32Array, OutputKind, UInt8Images, probabilities


@dataclass(frozen=True)
class Golden:
    """Inputs and the float model's answers; any consumer can replay them.

    Attributes:
        images: uint8 (N, S, S, 3), RGB, already cut to the model's input.
        logits: float32 (N, classes).
    """

    images: UInt8Images
    logits: Float32Array

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        images, logits = self.images, self.logits
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
            raise ArtefactError(f"golden images are {images.dtype} {images.shape}; uint8 (N, S, S, 3) is needed")
        if logits.dtype != np.float32 or logits.ndim != 2 or len(logits) != len(images):
            raise ArtefactError(
                f"golden logits are {logits.dtype} {logits.shape}; float32 ({len(images)}, classes) is needed"
            )
        if not np.isfinite(logits).all():
            raise ArtefactError("golden logits hold NaN or infinity")

    @property
    def probabilities(self) -> Float32Array:
        """Softmax of the logits, float32 (N, classes)."""
        return probabilities(self.logits, OutputKind.LOGITS)


def write_golden(path: Path, golden: Golden) -> None:
    """Write images, logits and probabilities, whole or not at all.

    Raises:
        OutputError: The file cannot be written there.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, images=golden.images, logits=golden.logits, probabilities=golden.probabilities)


def read_golden(path: Path) -> Golden:
    """Read and check what :func:`write_golden` wrote.

    Raises:
        ArtefactError: There is no such file, it is damaged, or its arrays do not belong together.
    """
    if not path.is_file():
        raise ArtefactError(
            f"no golden vectors at {path}; they are written beside the artefact by evit-edge convert"
        )
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            golden = Golden(arrays["images"], arrays["logits"])
            stated = arrays["probabilities"]
    except ArtefactError as exc:
        raise ArtefactError(f"{path}: {exc}") from exc
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as exc:
        raise ArtefactError(f"{path} holds no golden vectors (images, logits, probabilities): {exc}") from exc
    if stated.shape != golden.logits.shape or not np.allclose(stated, golden.probabilities, atol=1e-6):
        raise ArtefactError(f"{path}: its probabilities are not the softmax of its logits")
    return golden
