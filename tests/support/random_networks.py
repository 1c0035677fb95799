"""EfficientViT with random weights that all do something."""

from __future__ import annotations

import torch
from torch import nn

from evit_edge.models.config import EfficientViTConfig
from evit_edge.models.efficientvit import EfficientViT


def randomised(config: EfficientViTConfig) -> EfficientViT:
    """A network in which every branch, statistic and bias counts, and no placement is where it starts."""
    generator = torch.Generator().manual_seed(0)
    model = EfficientViT(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
        for name, tensor in model.state_dict().items():
            if name.endswith("attention_biases"):
                tensor.normal_(0, 0.5, generator=generator)
            elif name.endswith("placements.0.index"):
                tensor.add_(2)
    return model.eval()
