"""What is minimised, and what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_edge.errors import CheckpointError
from evit_edge.models.checkpoints import load_checkpoint
from evit_edge.preprocessing import Preprocessing
from evit_edge.training.augment import normalised
from evit_edge.training.config import TrainConfig


class Teachers(nn.Module):
    """Averages the logits of one or more trained networks on the very pictures that the student sees.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015); same crops and mixes for both,
    as in Beyer et al., "Knowledge distillation: A good teacher is patient and consistent" (2022).
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(network.requires_grad_(requires_grad=False) for network in networks)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Normalised (B, 3, S, S) to logits (B, classes)."""
        return torch.stack([network(x) for network in self.networks]).mean(0)


def load_teachers(config: TrainConfig, labels: tuple[str, ...]) -> list[nn.Module]:
    """Load ``config.teachers``.

    Raises:
        CheckpointError: A teacher cannot be read or answers with other classes than the data's.
    """
    networks: list[nn.Module] = []
    for source in config.teachers:
        checkpoint = load_checkpoint(source, image_size=config.image_size)
        if checkpoint.labels != labels:
            raise CheckpointError(f"teacher {source} knows other classes than the data; train it on the same")
        networks.append(checkpoint.model)
    return networks


def training_loss(logits: Tensor, targets: Tensor, taught: Tensor | None, config: TrainConfig) -> Tensor:
    """Cross entropy with soft targets, blended with the divergence from the teachers' answers.

    Args:
        logits: Student's, (B, classes).
        targets: Soft targets, (B, classes), rows sum to 1.
        taught: Teachers' logits, (B, classes), or None.
        config: Gives the weight and the temperature.

    Returns:
        Mean over the batch, a scalar.
    """
    logits = logits.float()
    labelled = -(targets * F.log_softmax(logits, dim=1)).sum(1).mean()
    if taught is None:
        return labelled
    t = config.temperature
    answers = F.log_softmax(taught.float() / t, dim=1)
    divergence = F.kl_div(F.log_softmax(logits / t, dim=1), answers, log_target=True, reduction="batchmean")
    return (1 - config.distillation) * labelled + config.distillation * t * t * divergence


@dataclass(frozen=True)
class Score:
    """Accuracy on the held-out photos, 0..1, and their number."""

    top1: float
    top5: float
    count: int


@torch.no_grad()
def score(
    model: nn.Module,
    batches: Sequence[tuple[Tensor, Tensor]],
    preprocessing: Preprocessing,
    device: torch.device,
) -> Score:
    """Evaluate in float32 on prepared photos."""
    first = fifth = count = 0
    for images, class_ids in batches:
        logits = model(normalised(images.to(device), preprocessing))  # (B, classes)
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices.cpu()  # (B, 5)
        hits = best == class_ids[:, None]
        first += int(hits[:, 0].sum())
        fifth += int(hits.any(1).sum())
        count += len(class_ids)
    return Score(first / max(1, count), fifth / max(1, count), count)
