"""Augmentation on the training device, by kornia: flip, RandAugment, normalise, erase, mix."""

from __future__ import annotations

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from evit_edge.preprocessing import Preprocessing
from evit_edge.training.config import TrainConfig

_GROUP = 32
"""Photos that share one draw of operations (kornia draws them per call); strengths are drawn per photo."""


def randaugment(operations: int, magnitude: int) -> nn.Module:
    """A few operations drawn from a list, all of one magnitude (Cubuk et al., 2020, section 3).

    The list is kornia's own operations with strengths around "no change", as in the paper's released recipe.
    ``kornia.augmentation.auto.RandAugment`` is not used: at a middle magnitude its brightness, contrast and
    colour always weaken the picture (factor 0.64 at 9) and its solarize inverts nearly all of it. Equalize is
    left out since kornia computes it photo by photo, longer than the network's step.

    Args:
        operations: How many are applied to each photo.
        magnitude: 1 to 29; 10 is the full strength of the original, 9 the paper's.
    """
    m = magnitude / 10
    factors = (max(0.05, 1 - 0.9 * m), 1 + 0.9 * m)
    shear = (-17.0 * m, 17.0 * m)  # degrees: atan 0.3
    still = (0.0, 0.0)
    return K.AugmentationSequential(
        K.RandomAutoContrast(p=1.0),
        K.RandomRotation(30.0 * m, p=1.0),
        K.RandomAffine(0.0, shear=(*shear, *still), p=1.0),
        K.RandomAffine(0.0, shear=(*still, *shear), p=1.0),
        K.RandomAffine(0.0, translate=(min(1.0, 0.3 * m), 0.0), p=1.0),
        K.RandomAffine(0.0, translate=(0.0, min(1.0, 0.3 * m)), p=1.0),
        K.RandomBrightness((1 - 0.4 * m, 1 + 0.4 * m), p=1.0),  # kornia adds where others multiply
        K.RandomContrast(factors, p=1.0),
        K.RandomSaturation(factors, p=1.0),
        K.RandomSharpness(0.9 * m, p=1.0),
        K.RandomPosterize((max(1.0, 8 - 4 * m), 8.0), p=1.0),
        K.RandomSolarize(thresholds=(max(0.0, 1 - 0.7 * m), 1.0), additions=(0.0, 0.0), p=1.0),
        random_apply=operations,
    )


def normalised(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (B, S, S, 3) to float32 (B, 3, S, S), scaled to 0..1 and normalised, channels-last in memory."""
    mean = torch.tensor(preprocessing.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=images.device).view(1, 3, 1, 1)
    planes = images.permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S)
    return (planes - mean) / std


class Augmentation(nn.Module):
    """Everything between the crop and the network.

    Input: uint8 (B, S, S, 3) and int64 (B,). Output: normalised float32 (B, 3, S, S) and soft targets
    float32 (B, classes) whose rows sum to 1.
    """

    def __init__(self, config: TrainConfig, preprocessing: Preprocessing, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.smoothing = config.label_smoothing
        self.mixup, self.cutmix = config.mixup, config.cutmix
        self.flip = K.RandomHorizontalFlip(p=0.5)
        self.randaugment: nn.Module | None = None
        if config.randaugment_ops and config.randaugment_magnitude:
            self.randaugment = randaugment(config.randaugment_ops, config.randaugment_magnitude)
        self.finish = K.AugmentationSequential(
            K.Normalize(torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)),
            K.RandomErasing(p=config.erasing, scale=(0.02, 0.33), ratio=(0.3, 3.3)),
        )
        self.blend = K.RandomMixUpV2(p=1.0, data_keys=["input", "class"])
        self.paste = K.RandomCutMixV2(p=1.0, data_keys=["input", "class"], use_correct_lambda=True)

    @torch.no_grad()
    def forward(self, images: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Augment a batch."""
        x = images.permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S)
        x = self.flip(x)
        if self.randaugment is not None:
            x = torch.cat([self.randaugment(group).clamp(0, 1) for group in x.split(_GROUP)])
        x = self.finish(x)
        first = second = class_ids
        weight = torch.ones_like(class_ids, dtype=torch.float32)  # (B,), of the first label
        draw = float(torch.rand(()))
        if draw < self.mixup:
            x, mixed = self.blend(x, class_ids)
            first, second, weight = mixed[:, 0].long(), mixed[:, 1].long(), 1 - mixed[:, 2].float()
        elif draw < self.mixup + self.cutmix:
            x, mixed = self.paste(x, class_ids)
            first, second, weight = mixed[0, :, 0].long(), mixed[0, :, 1].long(), mixed[0, :, 2].float()
        return x, self._targets(first, second, weight)

    def _targets(self, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        one_hot = torch.nn.functional.one_hot
        target = weight[:, None] * one_hot(first, self.num_classes)  # (B, classes)
        target = target + (1 - weight[:, None]) * one_hot(second, self.num_classes)
        return target * (1 - self.smoothing) + self.smoothing / self.num_classes
