"""What is inside and beside an artefact: metadata, golden vectors, the manifest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata as distributions
from pathlib import Path

import numpy as np
import torch

from evit_calibration.cache import CalibrationCache
from evit_converters.checks import broken_layer
from evit_edge import __version__
from evit_edge.errors import CheckpointError
from evit_edge.files import sha256_of, size_of
from evit_edge.golden import Golden
from evit_edge.images import read_rgb
from evit_edge.manifest import ArtefactEntry, BudgetEntry, CalibrationEntry, Manifest, SourceEntry
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.pipeline.ranges import Calibrated
from evit_edge.pipeline.request import ConvertRequest, Target
from evit_edge.runtime import open_runner
from evit_edge.zoo import golden_photos

_RECORDED = {
    Target.TFLITE: ("torch", "litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer"),
    Target.COREML: ("torch", "coremltools"),
    Target.ONNX: ("torch", "onnx", "onnxscript", "onnxruntime"),
}
_RECORDED_ALWAYS = ("numpy", "pillow")


@dataclass(frozen=True)
class Built:
    """What is known of an artefact that was just written.

    Attributes:
        calibrated: With which ranges; None where none were needed.
        partitions: Pieces that XNNPACK runs a .tflite in.
        deployment_target: The oldest system that opens a .mlpackage.
        exempt: Operators that were left out of the quantization on purpose, and what they are computed in.
        budget: How the promised accuracy is kept; None where nothing was promised.
        tuned: Kinds of operator that stay in float because that was faster here.
    """

    calibrated: Calibrated | None = None
    partitions: int | None = None
    deployment_target: str | None = None
    exempt: dict[str, str] = field(default_factory=dict)
    budget: BudgetEntry | None = None
    tuned: tuple[str, ...] = ()


def carried_description(checkpoint: Checkpoint, request: ConvertRequest) -> str:
    """What an artefact says of itself beyond its format's own fields: a JSON object that any format can carry."""
    described = {
        "preprocessing": checkpoint.preprocessing.to_json(),
        "aliases": checkpoint.aliases,
        "output_kind": request.output_kind.value,
    }
    return json.dumps(described, ensure_ascii=False, sort_keys=True)


def description(checkpoint: Checkpoint, request: ConvertRequest) -> str:
    """One sentence for whoever opens the file."""
    return f"{checkpoint.config.title}, an image classifier; {request.quantization} by evit-edge."


def golden(checkpoint: Checkpoint) -> Golden:
    """Four photos and their mirror images, answered by the training form in float32.

    Raises:
        CheckpointError: A layer answers NaN or infinity to them; names the first.
    """
    images = np.stack([checkpoint.preprocessing.apply(read_rgb(path)) for path in golden_photos()])
    images = np.concatenate([images, images[:, :, ::-1]])  # (8, S, S, 3)
    rule = checkpoint.preprocessing
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255  # (8, 3, S, S)
    x = (x - torch.tensor(rule.mean).view(1, 3, 1, 1)) / torch.tensor(rule.std).view(1, 3, 1, 1)
    if (broken := broken_layer(checkpoint.model, x)) is not None:
        raise CheckpointError(
            f"{checkpoint.name} overflows on ordinary photos: {broken}; its weights are finite but do not fit "
            "together, as after a training that diverged: give other weights"
        )
    with torch.no_grad():
        return Golden(images, checkpoint.model(x).numpy())


def describe(request: ConvertRequest, checkpoint: Checkpoint, artefact: Path, built: Built) -> Manifest:
    """Everything about an artefact but its parity, which is measured later."""
    config = checkpoint.config
    return Manifest(
        tool_version=__version__,
        command=request.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=SourceEntry(
            name=checkpoint.name,
            architecture=config.name,
            num_classes=config.num_classes,
            image_size=config.image_size,
            weights=Path(request.weights).name,
            sha256=checkpoint.sha256,
        ),
        artefact=_artefact_entry(request, checkpoint, artefact, built),
        quantization=request.quantization,
        calibration=None if built.calibrated is None else _calibration_entry(built.calibrated.cache),
        preprocessing=checkpoint.preprocessing,
        versions={name: _version(name) for name in (*_RECORDED[request.target], *_RECORDED_ALWAYS)},
        aliases=checkpoint.aliases,
        exempt=built.exempt,
        budget=built.budget,
        tuned=built.tuned,
    )


def _artefact_entry(
    request: ConvertRequest, checkpoint: Checkpoint, artefact: Path, built: Built
) -> ArtefactEntry:
    runner = open_runner(artefact, preprocessing=checkpoint.preprocessing)
    return ArtefactEntry(
        file=artefact.name,
        format=request.target.value,
        sha256=sha256_of(artefact),
        size_bytes=size_of(artefact),
        input=runner.info.input,
        output=runner.info.output,
        output_kind=request.output_kind,
        labels=len(checkpoint.labels or ()),
        partitions=built.partitions,
        deployment_target=built.deployment_target,
    )


def _calibration_entry(cache: CalibrationCache) -> CalibrationEntry:
    digest = hashlib.sha256(cache.to_json().encode()).hexdigest()
    return CalibrationEntry(digest, cache.samples, cache.seed, cache.rule.estimator.value)


def _version(distribution: str) -> str:
    try:
        return distributions.version(distribution)
    except distributions.PackageNotFoundError:
        return "not installed"
