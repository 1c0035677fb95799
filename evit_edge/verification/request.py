"""What to verify, and against what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from evit_edge.errors import RequestError
from evit_edge.golden import Golden
from evit_edge.manifest import Manifest
from evit_edge.verification.gates import Thresholds

if TYPE_CHECKING:
    from evit_edge.models.checkpoints import Checkpoint


class Architecture(StrEnum):
    """Processors that can be emulated."""

    ARM64 = "arm64"


@dataclass(frozen=True)
class VerifyRequest:
    """What to verify, and against what.

    Attributes:
        artefact: A ``.tflite`` file or a ``.mlpackage``.
        manifest: Its description; read from beside it if not given.
        golden: Its golden vectors; read from beside it if not given.
        weights: The checkpoint that it was made from: for agreement on photos, and to prove a ``.mlpackage``.
        checkpoint: The same, loaded already.
        ranges: Name of a value to the range that it was calibrated to, for a ``.mlpackage`` with quantized
            activations; read from the calibration beside it if not given.
        data: Folders of photos, searched to any depth; labels are not needed.
        samples: Photos to take at most; all if not given.
        thresholds: What counts as answering alike; those of the manifest's quantization if not given.
        threads: Threads of each engine.
        arch: The processor to emulate; none if not given.
        arm64_root: The root that holds its Python and tflite-runtime; the one in the cache folder if not given.
    """

    artefact: Path
    manifest: Manifest | None = None
    golden: Golden | None = None
    weights: str | Path | None = None
    checkpoint: Checkpoint | None = None
    ranges: Mapping[str, tuple[float, float]] | None = None
    data: tuple[Path, ...] = ()
    samples: int | None = None
    thresholds: Thresholds | None = None
    threads: int = 1
    arch: Architecture | None = None
    arm64_root: Path | None = None

    def __post_init__(self) -> None:
        """Counts are positive."""
        if self.threads < 1 or (self.samples is not None and self.samples < 1):
            raise RequestError(f"{self.threads} threads and {self.samples} samples given; at least 1 is needed")
        if self.arm64_root is not None and self.arch is not Architecture.ARM64:
            raise RequestError(f"the root {self.arm64_root} given and no --arch arm64 with it; give both")
        if self.arch is not None and self.artefact.suffix != ".tflite":
            raise RequestError(f"--arch {self.arch} given for {self.artefact.name}; a .tflite is accepted")
