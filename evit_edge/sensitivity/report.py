"""What a sensitivity analysis is told and what it finds. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from evit_calibration.ranges import Estimator
from evit_calibration.sensitivity import OperatorLoss
from evit_edge.errors import RequestError
from evit_edge.files import replacing
from evit_edge.strict_json import to_json
from evit_edge.zoo import EVERYDAY

SCHEMA = "evit-edge-sensitivity/1"


@dataclass(frozen=True)
class SensitivityRequest:
    """What to analyse.

    Attributes:
        weights: A checkpoint, ``hf:OWNER/NAME`` or ``everyday``.
        model: Variant that the weights must be of.
        calibration: Folders of photos; the same photos are calibrated with and measured on.
        samples: Photos to calibrate with at most.
        photos: Of these, photos to measure each operator on, at most.
        seed: Of their choice.
        estimator: How ranges are told.
        threads: Threads of the engine.
        command: The command line, for the record.
    """

    calibration: tuple[Path, ...]
    weights: str = EVERYDAY
    model: str | None = None
    samples: int = 256
    photos: int = 64
    seed: int = 0
    estimator: Estimator = Estimator.MSE
    threads: int = 1
    command: str = ""

    def __post_init__(self) -> None:
        """Counts are positive, and there are photos."""
        if not self.calibration:
            raise RequestError("no photos given; give --calibration DIR with photos like those of later use")
        if min(self.samples, self.photos, self.threads) < 1 or self.seed < 0:
            raise RequestError(
                f"{self.samples} samples, {self.photos} photos, {self.threads} threads, seed {self.seed} given; "
                "at least 1, 1, 1 and 0 are needed"
            )


@dataclass(frozen=True)
class SensitivityReport:
    """What each operator costs.

    Attributes:
        name: Of the model.
        weights_sha256: Of the checkpoint, hex.
        photos: Photos that were measured on.
        calibration_photos: Photos that the ranges come from.
        estimator: How ranges were told.
        engine: What ran the models.
        operators: In execution order.
        command: The command line.
        tool_version: Of evit-edge.
    """

    name: str
    weights_sha256: str
    photos: int
    calibration_photos: int
    estimator: str
    engine: str
    operators: tuple[OperatorLoss, ...]
    command: str
    tool_version: str


def write_sensitivity(path: Path, report: SensitivityReport) -> None:
    """Write all figures as JSON, whole or not at all.

    Raises:
        OutputError: The file cannot be written there.
    """
    text = json.dumps({"schema": SCHEMA, **to_json(report)}, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
