"""Pictures, the answers that a package's file says exactly, and how far a phone may be from them.

The expected scores are those of the reference evaluator in float64 with the package's own weights. In its declared
precision the evaluator is off them by some rounding; a device rounds as often, in another order and maybe with
shorter sums, so it is granted a multiple of that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from evit_edge.errors import ArtefactError
from evit_edge.files import sha256_of
from evit_edge.golden import read_golden
from evit_edge.manifest import golden_path
from evit_edge.publishing import publishing
from evit_edge.runtime.coreml.interface import OutputType
from evit_edge.runtime.coreml.package import Package, read_package
from evit_edge.runtime.coreml.runner import REMARK
from evit_edge.tensors import OutputKind, UInt8Images
from evit_edge.verification.coreml.case import Answered
from evit_edge.verification.coreml.interface import carried_labels

EXPECTED = "expected.json"
SWIFT = "GoldenReplay.swift"
TOLERANCE_FACTOR = 8.0
_LEAST_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Replay:
    """What a device shall answer to some pictures.

    Attributes:
        package: File name.
        sha256: Of the package, as manifests state it.
        input_name: Of the image input.
        scores_name: Of the output with one score per class.
        output_kind: What the scores are.
        labels: Names of the classes, in the order of the scores.
        images: RGB uint8 (N, S, S, 3).
        scores: float64 (N, classes), exact but for float64.
        rounding: Largest error of a score in the declared precision.
    """

    package: str
    sha256: str
    input_name: str
    scores_name: str
    output_kind: OutputKind
    labels: tuple[str, ...]
    images: UInt8Images = field(repr=False)
    scores: npt.NDArray[np.float64] = field(repr=False)
    rounding: float

    @property
    def tolerance(self) -> float:
        """Largest error that a score may have on a device."""
        return max(TOLERANCE_FACTOR * self.rounding, _LEAST_TOLERANCE)


def replay_of(artefact: Path) -> Replay:
    """Answer a package's golden pictures.

    Raises:
        ArtefactError: The package or its golden vectors cannot be read or do not belong together.
    """
    package = read_package(artefact)
    images = read_golden(golden_path(artefact)).images
    if package.image is None or images.shape[1:3] != (package.image.height, package.image.width):
        raise ArtefactError(
            f"{artefact.name} takes no pictures of {images.shape[1:3]}, as its golden vectors hold"
        )
    answered = Answered(package, images)
    scores, rounded = (answers.scores.numpy() for answers in (answered.unrounded, answered.declared))
    if not np.isfinite(scores).all() or not np.isfinite(rounded).all():
        raise ArtefactError(f"{artefact.name} answers NaN or infinity to its golden pictures; verify it first")
    labels = package.labels or carried_labels(package) or tuple(f"class {i}" for i in range(scores.shape[1]))
    return Replay(
        package=artefact.name,
        sha256=sha256_of(artefact),
        input_name=package.image.name,
        scores_name=_scores_name(package),
        output_kind=answered.output_kind,
        labels=labels,
        images=images,
        scores=scores,
        rounding=float(np.abs(rounded - scores).max()),
    )


def _scores_name(package: Package) -> str:
    if package.predicted_probabilities is not None:
        return package.predicted_probabilities
    return next(output.name for output in package.outputs if output.type is OutputType.ARRAY)


def write(replay: Replay, folder: Path) -> None:
    """Write pictures as PNG, what to expect as JSON, and the Swift test that replays them; all or nothing.

    Raises:
        OutputError: The folder cannot be written, or the files are there already.
    """
    with publishing(folder, last=EXPECTED, overwrite=False) as temporary:
        for number, image in enumerate(replay.images):
            Image.fromarray(image).save(temporary / _picture(number))
        source = resources.files("evit_edge.verification.coreml").joinpath(SWIFT)
        (temporary / SWIFT).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        text = json.dumps(document(replay), indent=1, ensure_ascii=False, allow_nan=False)
        (temporary / EXPECTED).write_text(text + "\n", encoding="utf-8")


def document(replay: Replay) -> dict[str, object]:
    """The expectation as JSON: scores in the order of the labels, and which best classes are beyond doubt."""
    best = np.sort(replay.scores, axis=1)
    decided = best[:, -1] - best[:, -2] > 2 * replay.tolerance if replay.scores.shape[1] > 1 else [True]
    return {
        "package": replay.package,
        "sha256": replay.sha256,
        "remark": f"expected scores {REMARK}",
        "input": replay.input_name,
        "scores": replay.scores_name,
        "output_kind": replay.output_kind.value,
        "labels": list(replay.labels),
        "tolerance": replay.tolerance,
        "tolerance_is": f"{TOLERANCE_FACTOR:g} times the largest error of a score in the declared precision",
        "largest_rounding_error": replay.rounding,
        "pictures": [
            {
                "file": _picture(number),
                "top1": replay.labels[int(scores.argmax())],
                "top1_decided": bool(decided[number]),
                "scores": [float(f"{score:.9g}") for score in scores],
            }
            for number, scores in enumerate(replay.scores)
        ],
    }


def _picture(number: int) -> str:
    return f"picture_{number:02}.png"
