"""A ``.mlpackage`` of this project against its manifest, its golden vectors and the weights that it is of."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from evit_calibration.cache import CalibrationCache
from evit_calibration.errors import CalibrationError
from evit_converters.coreml import DeploymentTarget
from evit_edge.errors import ArtefactError, DataError
from evit_edge.evaluation.prediction import Progress
from evit_edge.files import sha256_of, size_of
from evit_edge.golden import Golden, read_golden
from evit_edge.images import read_rgb
from evit_edge.manifest import Manifest, calibration_path, golden_path, manifest_path, read_manifest
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.models.neural_engine import neural_engine
from evit_edge.preprocessing import UInt8Image
from evit_edge.runtime.coreml.description import distinct_labels, read_description
from evit_edge.runtime.coreml.package import Package, read_package
from evit_edge.runtime.coreml.runner import REMARK, CoreMLRunner
from evit_edge.runtime.torch_checkpoint import TorchRunner
from evit_edge.verification.agreement import agreement_gate, find_photos
from evit_edge.verification.coreml.case import Answered, centred
from evit_edge.verification.coreml.interface import Claims, carried_labels
from evit_edge.verification.coreml.limits import Limits
from evit_edge.verification.coreml.network import Network
from evit_edge.verification.coreml.proof import prove
from evit_edge.verification.coreml.standalone import prove_alone
from evit_edge.verification.gates import Gate, Thresholds, VerificationReport
from evit_edge.verification.parity import measure_parity
from evit_edge.verification.request import VerifyRequest
from evit_edge.verification.sources import load_source, source_weights
from evit_edge.verification.structure import budget_gates, rule_gate, same_sha256

_SAME_WEIGHTS = 8.0
"""Error of golden logits over torch's own float32 error: another machine sums in another order."""
_PHOTOS = 16
_PHOTO_ROUNDING = 16.0
"""Error of a photo's logits over torch's own in the same precision: single photos differ more than their mean."""


@dataclass(frozen=True)
class _Subject:
    """What is verified, everything read."""

    request: VerifyRequest
    package: Package
    manifest: Manifest
    golden: Golden
    thresholds: Thresholds


def verify_package(request: VerifyRequest, progress: Progress | None = None) -> VerificationReport:
    """As :func:`evit_edge.verification.verify` says, for a ``.mlpackage``.

    Without weights (given, or the shipped ones that the manifest names by their hash) only the interface and the
    golden answers can be checked; the rest is reported as skipped.
    """
    if torch.get_num_threads() != request.threads:
        torch.set_num_threads(request.threads)
    manifest = request.manifest or read_manifest(manifest_path(request.artefact))
    subject = _Subject(
        request,
        read_package(request.artefact),
        manifest,
        request.golden or read_golden(golden_path(request.artefact)),
        request.thresholds or Thresholds.of(manifest.quantization),
    )
    paths = find_photos(request)
    runner = CoreMLRunner(subject.package, threads=request.threads, preprocessing=manifest.preprocessing)
    checkpoint, weights = _checkpoint(subject)
    gates = _manifest_gates(subject, runner)
    if checkpoint is None:
        report = prove_alone(subject.package, manifest, subject.golden, _claims(subject, None), subject.thresholds)
        reference = None
    else:
        network = _network(checkpoint)
        report, source_gates = _proved(subject, checkpoint, network)
        gates += source_gates
        report = _with_photos(report, subject, network, paths)
        reference = TorchRunner(checkpoint, Path(weights), threads=request.threads)
    agreement, more = agreement_gate(runner, reference, paths, subject.thresholds, progress)
    runtime = f"{runner.info.runtime} {runner.info.runtime_version}"
    everything = (*gates, *report.gates, agreement)
    return VerificationReport(request.artefact, runtime, everything, report.figures | more, (REMARK,))


def _checkpoint(subject: _Subject) -> tuple[Checkpoint | None, str]:
    if subject.request.checkpoint is not None:
        return subject.request.checkpoint, subject.manifest.source.weights
    weights = source_weights(subject.request, subject.manifest)
    if weights is None:
        return None, ""
    return load_source(weights, subject.request.artefact, subject.manifest), weights


def _manifest_gates(subject: _Subject, runner: CoreMLRunner) -> list[Gate]:
    """The package is the one that the manifest describes."""
    path, stated, info = subject.request.artefact, subject.manifest.artefact, runner.info
    size = size_of(path)
    return [
        same_sha256("sha256", sha256_of(path), stated.sha256),
        Gate.check("size", size == stated.size_bytes, f"{size} bytes", f"{stated.size_bytes} bytes"),
        *(
            Gate.check(name, found == wanted, f"{found.name} {found.shape}", f"{wanted.name} {wanted.shape}")
            for name, found, wanted in (
                ("input", info.input, stated.input),
                ("output", info.output, stated.output),
            )
        ),
        rule_gate(read_description(subject.package).preprocessing, subject.manifest.preprocessing),
        *budget_gates(subject.manifest),
    ]


def _claims(subject: _Subject, checkpoint: Checkpoint | None) -> Claims:
    """What the package has to say of itself; its labels are the checkpoint's unless others were given for it."""
    target, manifest = subject.manifest.artefact.deployment_target, subject.manifest
    labels, of = carried_labels(subject.package), "metadata"
    if checkpoint is not None and (subject.request.checkpoint is not None or "--labels" not in manifest.command):
        labels, of = checkpoint.labels and distinct_labels(checkpoint.labels), "source"
    return Claims(
        labels=labels,
        labels_of=of,
        output_kind=manifest.artefact.output_kind,
        specification_version=None if target is None else DeploymentTarget(target).specification_version,
    )


def _network(checkpoint: Checkpoint) -> Network:
    """The checkpoint's network, and the form of it that is converted, in float64."""
    rule = checkpoint.preprocessing
    return Network(
        checkpoint.model,
        image_size=checkpoint.config.image_size,
        mean=rule.mean,
        std=rule.std,
        form=neural_engine(copy.deepcopy(checkpoint.model).double()),
    )


def _proved(subject: _Subject, checkpoint: Checkpoint, network: Network) -> tuple[VerificationReport, list[Gate]]:
    golden = subject.golden
    limits = Limits(
        sqnr_db=subject.thresholds.min_sqnr_db or Limits.sqnr_db,
        cosine=subject.thresholds.min_cosine or Limits.cosine,
    )
    ranges, calibration = _ranges(subject)
    report = prove(
        subject.package,
        network,
        golden.images,
        claims=_claims(subject, checkpoint),
        ranges=ranges,
        limits=limits,
    )
    gates = [same_sha256("weights", checkpoint.sha256, subject.manifest.source.sha256)]
    return report, [*gates, _golden_gate(network, golden), *calibration]


def _with_photos(
    report: VerificationReport, subject: _Subject, network: Network, paths: list[Path]
) -> VerificationReport:
    """A report with one more gate: the smallest cosine between logits on some photos."""
    name, own = "cosine on photos", report.figures.get("torch_declared_error", 1.0)
    least = subject.thresholds.min_cosine or 1 - (_PHOTO_ROUNDING * own) ** 2 / 2
    required = f"at least {least:.6g}"
    squares = [image for path in paths[:_PHOTOS] if (image := _square(path, subject.manifest)) is not None]
    if not squares or len(squares[0]) != network.image_size:
        return replace(report, gates=(*report.gates, Gate.skip(name, "no photos given (--data DIR)", required)))
    images = np.stack(squares)
    answered = Answered(subject.package, images)
    logits, truth = answered.logits(answered.declared), centred(network.logits(images))
    parity = measure_parity(logits.numpy(), truth.numpy())
    told = f"{parity.min_cosine:.6f} at least, {parity.sqnr_db:.1f} dB, {len(images)} photos"
    gate = Gate.check(name, parity.min_cosine >= least, told, required)
    figures = {"photo_min_cosine": parity.min_cosine, "photo_sqnr_db": min(parity.sqnr_db, 200.0)}
    finite = {key: value for key, value in figures.items() if math.isfinite(value)}
    return replace(report, gates=(*report.gates, gate), figures=report.figures | finite)


def _square(path: Path, manifest: Manifest) -> UInt8Image | None:
    try:
        return manifest.preprocessing.apply(read_rgb(path))
    except DataError:
        return None  # counted where all photos are read


def _golden_gate(network: Network, golden: Golden) -> Gate:
    """The golden vectors are the weights'."""
    name = "golden of weights"
    truth, own = network.logits(golden.images), network.logits(golden.images, torch.float32)
    stated = torch.from_numpy(golden.logits.astype("f8"))
    if stated.shape != truth.shape:
        return Gate.check(name, False, f"{stated.shape[1]} classes", f"{truth.shape[1]} classes")
    error, rounding = (float((logits - truth).norm() / truth.norm()) for logits in (stated, own))
    limit = _SAME_WEIGHTS * rounding
    return Gate.check(name, error <= limit, f"{error:.1e}", f"at most {_SAME_WEIGHTS:g} of torch's {rounding:.1e}")


def _ranges(subject: _Subject) -> tuple[Mapping[str, tuple[float, float]] | None, list[Gate]]:
    """The calibrated ranges, given or beside the package, and whether they are those of the manifest."""
    if subject.request.ranges is not None or subject.manifest.calibration is None:
        return subject.request.ranges, []
    path = calibration_path(subject.request.artefact)
    if not path.is_file():
        required = "the ranges that it was calibrated with"
        return None, [Gate.skip("calibration", f"no {path.name} beside the package", required)]
    try:
        cache = CalibrationCache.load(path)
    except CalibrationError as exc:
        raise ArtefactError(f"{path} cannot be read: {exc}") from exc
    spans = {name: (span.minimum, span.maximum) for name, span in cache.ranges.items()}
    return spans, [
        same_sha256(
            "calibration",
            hashlib.sha256(cache.to_json().encode()).hexdigest(),
            subject.manifest.calibration.sha256,
        )
    ]
