"""One function that the conversion and the command line both call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evit_calibration.errors import PhotosError
from evit_calibration.photos import list_photos, sample_photos
from evit_edge.errors import DataError, RequestError, require
from evit_edge.evaluation.prediction import Progress, rank
from evit_edge.evaluation.report import Share
from evit_edge.golden import Golden, read_golden
from evit_edge.manifest import Manifest, golden_path, manifest_path, read_manifest
from evit_edge.runtime.info import Runner
from evit_edge.runtime.tflite import TfliteRunner
from evit_edge.runtime.tflite_file import read_tflite_file
from evit_edge.tensors import OutputKind, centred_logits
from evit_edge.verification.gates import Gate, Thresholds, VerificationReport
from evit_edge.verification.parity import golden_gates, measure_parity
from evit_edge.verification.structure import same_sha256, structure_gates

if TYPE_CHECKING:
    from evit_edge.models.checkpoints import Checkpoint

_SAME_WEIGHTS = 1e-4
_AGREEMENT = "top-1 agreement"


@dataclass(frozen=True)
class VerifyRequest:
    """What to verify, and against what.

    Attributes:
        artefact: The file.
        manifest: Its description; read from beside it if not given.
        golden: Its golden vectors; read from beside it if not given.
        weights: The checkpoint that it was made from, for agreement on photos.
        data: Folders of photos, searched to any depth; labels are not needed.
        samples: Photos to take at most; all if not given.
        thresholds: What counts as answering alike; those of the manifest's quantization if not given.
        threads: Threads of each engine.
    """

    artefact: Path
    manifest: Manifest | None = None
    golden: Golden | None = None
    weights: str | Path | None = None
    data: tuple[Path, ...] = ()
    samples: int | None = None
    thresholds: Thresholds | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        """Counts are positive."""
        if self.threads < 1 or (self.samples is not None and self.samples < 1):
            raise RequestError(f"{self.threads} threads and {self.samples} samples given; at least 1 is needed")


def verify(request: VerifyRequest, progress: Progress | None = None) -> VerificationReport:
    """Measure every gate.

    Raises:
        ArtefactError: The artefact, its manifest or its golden vectors are missing or unreadable.
        CheckpointError: The weights are missing, unreadable or of another model.
        DataError: A folder holds no photos, or more than 5 % of them cannot be read.
        MissingExtraError: An engine is not installed.
    """
    file = read_tflite_file(request.artefact)
    manifest = request.manifest or read_manifest(manifest_path(request.artefact))
    runner = TfliteRunner(request.artefact, threads=request.threads, preprocessing=manifest.preprocessing)
    golden = request.golden or read_golden(golden_path(request.artefact))
    thresholds = request.thresholds or Thresholds.of(manifest.quantization)
    paths = _photos(request)
    gates = structure_gates(file, runner.info, manifest)
    parity, figures = golden_gates(runner, golden, thresholds)
    gates += parity
    reference = None
    if request.weights is not None:
        reference, source_gates = _reference(request, manifest, golden)
        gates += source_gates
    agreement, more = _agreement(runner, reference, paths, thresholds, progress)
    runtime = f"{runner.info.runtime} {runner.info.runtime_version}"
    return VerificationReport(request.artefact, runtime, (*gates, agreement), figures | more)


def _photos(request: VerifyRequest) -> list[Path]:
    try:
        paths = [path for folder in request.data for path in list_photos(folder)]
        return paths if request.samples is None or not paths else sample_photos(paths, request.samples, seed=0)
    except PhotosError as exc:
        raise DataError(str(exc)) from exc


def _reference(request: VerifyRequest, manifest: Manifest, golden: Golden) -> tuple[Runner, list[Gate]]:
    """The weights in torch, at the artefact's input size, and whether they are the artefact's."""
    require("torch", extra="convert")
    from evit_edge.models.checkpoints import load_checkpoint
    from evit_edge.runtime.torch_checkpoint import TorchRunner

    source = manifest.source
    weights = str(request.weights)
    checkpoint: Checkpoint = load_checkpoint(weights, model=source.architecture, image_size=source.image_size)
    if checkpoint.config.num_classes != source.num_classes:
        raise RequestError(
            f"{weights} has {checkpoint.config.num_classes} classes and {request.artefact.name} "
            f"{source.num_classes}; give the weights that it was made from"
        )
    runner = TorchRunner(checkpoint, Path(weights), threads=request.threads)
    logits = runner.run(golden.images)
    error = measure_parity(
        centred_logits(logits, OutputKind.LOGITS), centred_logits(golden.logits, OutputKind.LOGITS)
    ).relative_error
    return runner, [
        same_sha256("weights", checkpoint.sha256, source.sha256),
        Gate.check("golden of weights", error <= _SAME_WEIGHTS, f"{error:.1e}", f"at most {_SAME_WEIGHTS:.0e}"),
    ]


def _agreement(
    runner: Runner, reference: Runner | None, paths: list[Path], thresholds: Thresholds, progress: Progress | None
) -> tuple[Gate, dict[str, float]]:
    required = f"at least {100 * thresholds.min_agreement:g} %"
    if not paths:
        return Gate.skip(_AGREEMENT, "no photos given (--data DIR)", required), {}
    if reference is None:
        return Gate.skip(_AGREEMENT, "no weights to agree with (--weights CHECKPOINT)", required), {}
    (ours, theirs), used, bad = rank([runner, reference], paths, progress)
    share = Share.of(np.equal(ours[:, 0], theirs[:, 0]))
    low, high = 100 * share.interval.low, 100 * share.interval.high
    unread = f", {len(bad)} unreadable" if bad else ""
    measured = f"{100 * share.value:.1f} % [{low:.1f}, {high:.1f}] of {len(used)} photos{unread}"
    gate = Gate.check(_AGREEMENT, share.value >= thresholds.min_agreement, measured, required)
    return gate, {"photo_top1_agreement": share.value, "photos": float(len(used))}
