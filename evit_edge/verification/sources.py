"""The weights that an artefact was made from, and whether they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evit_edge.errors import RequestError, require
from evit_edge.golden import Golden
from evit_edge.manifest import Manifest
from evit_edge.runtime.info import Runner
from evit_edge.tensors import OutputKind, centred_logits
from evit_edge.verification.gates import Gate
from evit_edge.verification.parity import measure_parity
from evit_edge.verification.request import VerifyRequest
from evit_edge.verification.structure import same_sha256
from evit_edge.zoo import EVERYDAY, is_shipped_checkpoint

if TYPE_CHECKING:
    from evit_edge.models.checkpoints import Checkpoint

_SAME_WEIGHTS = 1e-4


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


def load_reference(request: VerifyRequest, manifest: Manifest, golden: Golden) -> tuple[Runner, list[Gate]]:
    """The weights in torch, at the artefact's input size, and whether they are the artefact's."""
    weights = str(request.weights)
    checkpoint = load_source(weights, request.artefact, manifest)
    from evit_edge.runtime.torch_checkpoint import TorchRunner

    runner = TorchRunner(checkpoint, Path(weights), threads=request.threads)
    logits = runner.run(golden.images)
    error = measure_parity(
        centred_logits(logits, OutputKind.LOGITS), centred_logits(golden.logits, OutputKind.LOGITS)
    ).relative_error
    return runner, [
        same_sha256("weights", checkpoint.sha256, manifest.source.sha256),
        Gate.check("golden of weights", error <= _SAME_WEIGHTS, f"{error:.1e}", f"at most {_SAME_WEIGHTS:.0e}"),
    ]
