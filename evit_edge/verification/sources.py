"""The weights that an artefact was made from, and whether they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evit_edge.errors import RequestError, require
from evit_edge.manifest import Manifest
from evit_edge.verification.request import VerifyRequest
from evit_edge.zoo import EVERYDAY, is_shipped_checkpoint

if TYPE_CHECKING:
    from evit_edge.models.checkpoints import Checkpoint


def source_weights(request: VerifyRequest, manifest: Manifest) -> str | None:
    """What was given after ``--weights``, or the shipped model where the manifest states its hash."""
    if request.weights is not None:
        return str(request.weights)
    return EVERYDAY if is_shipped_checkpoint(manifest.source.sha256) else None


def load_source(weights: str, artefact: Path, manifest: Manifest) -> Checkpoint:
    """Load weights at the artefact's input size.

    Raises:
        CheckpointError: They are missing, unreadable or of another model.
        RequestError: They have another number of classes.
        MissingExtraError: torch is not installed.
    """
    require("torch", extra="convert")
    from evit_edge.models.checkpoints import load_checkpoint

    source = manifest.source
    checkpoint = load_checkpoint(weights, model=source.architecture, image_size=source.image_size)
    if checkpoint.config.num_classes != source.num_classes:
        raise RequestError(
            f"{weights} has {checkpoint.config.num_classes} classes and {artefact.name} "
            f"{source.num_classes}; give the weights that it was made from"
        )
    return checkpoint
