"""What is inside and beside an artefact: metadata, golden vectors, the manifest."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib import metadata as distributions
from pathlib import Path

import numpy as np
import torch

from evit_calibration.cache import CalibrationCache
from evit_converters import tflite
from evit_edge import __version__
from evit_edge.files import sha256_of
from evit_edge.golden import Golden
from evit_edge.images import read_rgb
from evit_edge.manifest import ArtefactEntry, CalibrationEntry, Manifest, SourceEntry
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.pipeline.ranges import Calibrated
from evit_edge.pipeline.request import ConvertRequest
from evit_edge.runtime.tflite import TfliteRunner
from evit_edge.runtime.tflite_file import DESCRIPTION_NAME
from evit_edge.zoo import golden_photos

_RECORDED = ("torch", "litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer", "numpy", "pillow")


def packed(content: bytes, checkpoint: Checkpoint, request: ConvertRequest) -> bytes:
    """Put labels, name, description and the resize rule into a .tflite.

    Raises:
        ConverterError: The labels cannot be stored.
    """
    described = {
        "preprocessing": checkpoint.preprocessing.to_json(),
        "aliases": checkpoint.aliases,
        "output_kind": request.output_kind.value,
    }
    side = checkpoint.config.image_size
    metadata = tflite.ModelMetadata(
        name=checkpoint.name,
        description=f"{checkpoint.config.name}, an image classifier; {request.quantization} by evit-edge.",
        version=__version__,
        labels=checkpoint.labels or (),
        image_size=(side, side),
        files={DESCRIPTION_NAME: json.dumps(described, ensure_ascii=False, sort_keys=True).encode()},
    )
    return tflite.pack_metadata(content, metadata)


def golden(checkpoint: Checkpoint) -> Golden:
    """Four photos and their mirror images, answered by the training form in float32."""
    images = np.stack([checkpoint.preprocessing.apply(read_rgb(path)) for path in golden_photos()])
    images = np.concatenate([images, images[:, :, ::-1]])  # (8, S, S, 3)
    rule = checkpoint.preprocessing
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255  # (8, 3, S, S)
    x = (x - torch.tensor(rule.mean).view(1, 3, 1, 1)) / torch.tensor(rule.std).view(1, 3, 1, 1)
    with torch.no_grad():
        return Golden(images, checkpoint.model(x).numpy())


def describe(
    request: ConvertRequest, checkpoint: Checkpoint, artefact: Path, calibrated: Calibrated | None
) -> Manifest:
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
        artefact=_artefact_entry(request, checkpoint, artefact),
        quantization=request.quantization,
        calibration=None if calibrated is None else _calibration_entry(calibrated.cache),
        preprocessing=checkpoint.preprocessing,
        versions={name: _version(name) for name in _RECORDED},
        aliases=checkpoint.aliases,
    )


def _artefact_entry(request: ConvertRequest, checkpoint: Checkpoint, artefact: Path) -> ArtefactEntry:
    runner = TfliteRunner(artefact, preprocessing=checkpoint.preprocessing)
    return ArtefactEntry(
        file=artefact.name,
        format=request.target.value,
        sha256=sha256_of(artefact),
        size_bytes=artefact.stat().st_size,
        input=runner.info.input,
        output=runner.info.output,
        output_kind=request.output_kind,
        labels=len(checkpoint.labels or ()),
        partitions=tflite.partitions(artefact.read_bytes()).partitions,
    )


def _calibration_entry(cache: CalibrationCache) -> CalibrationEntry:
    digest = hashlib.sha256(cache.to_json().encode()).hexdigest()
    return CalibrationEntry(digest, cache.samples, cache.seed, cache.rule.estimator.value)


def _version(distribution: str) -> str:
    try:
        return distributions.version(distribution)
    except distributions.PackageNotFoundError:
        return "not installed"
