"""AdamW with its groups and schedule, adaptive gradient clipping, the average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import nn

from evit_edge.training.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; biases, norms and position biases are not decayed (as in the paper's released recipe)."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim < 2 or name.endswith("attention_biases")
        (plain if exempt else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    fused = next(model.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=peak_learning_rate(config), fused=fused)


def peak_learning_rate(config: TrainConfig) -> float:
    """Scaled linearly with the batch, from 512 photos."""
    return config.learning_rate * config.batch_size / 512


def learning_rate_at(step: int, total: int, per_epoch: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to the last rate."""
    peak = peak_learning_rate(config)
    warmup = min(total - 1, round(config.warmup_epochs * per_epoch))
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    floor = config.min_learning_rate
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], clip: float, *, eps: float = 1e-3) -> None:
    """Adaptive gradient clipping, in place: no output unit's gradient exceeds ``clip`` times its weight's norm.

    Source: Brock et al., "High-Performance Large-Scale Image Recognition Without Normalization" (2021),
    equation 3. Weights of two and more dimensions only: the gains and biases of BatchNorm, hundreds of tiny
    tensors, cost more to visit than their steps can harm under AdamW.
    """
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None or parameter.ndim < 2:
            continue
        units = tuple(range(1, parameter.ndim))
        allowed = torch.linalg.vector_norm(parameter, dim=units, keepdim=True).clamp_min_(eps).mul_(clip)
        actual = torch.linalg.vector_norm(gradient, dim=units, keepdim=True).clamp_min_(1e-6)
        gradient.mul_((allowed / actual).clamp_max_(1.0))


class WeightAverage:
    """Exponential moving average of all weights and statistics; what is evaluated and saved.

    Early on the decay is lower, (1 + t) / (10 + t), so that the start is forgotten soon.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step towards ``model``."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        averaged, current = [], []
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                averaged.append(mine)
                current.append(theirs)
            else:
                mine.copy_(theirs)
        torch._foreach_lerp_(averaged, current, 1 - decay)
