"""Convolutional parts of EfficientViT. Everything is NCHW; BatchNorm follows each convolution.

State-dict names are those of timm's ``efficientvit_m*``, so that a checkpoint moves between the two freely.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """A convolution without bias, then BatchNorm (section 3.1: BN, since it folds into the convolution)."""

    conv: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        gamma: float = 1.0,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.add_module("conv", conv)
        self.add_module("bn", nn.BatchNorm2d(out_channels))
        nn.init.constant_(self.bn.weight, gamma)  # 0 starts a residual branch as the identity


class NormLinear(nn.Sequential):
    """BatchNorm on the pooled features, then the classifier."""

    bn: nn.BatchNorm1d
    linear: nn.Linear

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.add_module("bn", nn.BatchNorm1d(in_features))
        self.add_module("linear", nn.Linear(in_features, out_features))
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)


class Residual(nn.Module):
    """``x + m(x)``."""

    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to its input; shape (B, C, H, W) in and out."""
        return x + self.m(x)  # (B, C, H, W)


class FeedForward(nn.Module):
    """Pointwise expansion, ReLU, pointwise projection (section 3.1, the Phi^F of equation 1)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.pw1 = ConvNorm(dim, hidden_dim)
        self.act = nn.ReLU()
        self.pw2 = ConvNorm(hidden_dim, dim, gamma=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        x = self.act(self.pw1(x))  # (B, hidden, H, W)
        return self.pw2(x)  # (B, C, H, W)


class SqueezeExcite(nn.Module):
    """Scale channels by a gate computed from their means (Hu et al., 2018), reduction 4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, dim // 4, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(dim // 4, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        gate = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        gate = self.fc2(self.act(self.fc1(gate)))  # (B, C, 1, 1)
        return x * torch.sigmoid(gate)  # (B, C, H, W)


class PatchMerging(nn.Module):
    """An inverted residual block of stride 2 with squeeze-excitation (section 3.2, EfficientViT subsample)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        hidden = 4 * dim
        self.conv1 = ConvNorm(dim, hidden)
        self.act = nn.ReLU()
        self.conv2 = ConvNorm(hidden, hidden, 3, stride=2, groups=hidden)
        self.se = SqueezeExcite(hidden)
        self.conv3 = ConvNorm(hidden, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Halve each side and change the channels."""
        x = self.act(self.conv1(x))  # (B, 4C, H, W)
        x = self.act(self.conv2(x))  # (B, 4C, H/2, W/2)
        return self.conv3(self.se(x))  # (B, C', H/2, W/2)


class PatchEmbedding(nn.Sequential):
    """Overlapping patch embedding: four 3x3 convolutions of stride 2, 1/16 of the side (section 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = (3, dim // 8, dim // 4, dim // 2, dim)
        for i in range(4):
            self.add_module(f"conv{i + 1}", ConvNorm(widths[i], widths[i + 1], 3, stride=2))
            if i < 3:
                self.add_module(f"relu{i + 1}", nn.ReLU())


def token_interaction(dim: int, *, gamma: float = 1.0) -> Residual:
    """The depthwise 3x3 convolution in front of each FFN (section 3.1)."""
    return Residual(ConvNorm(dim, dim, 3, groups=dim, gamma=gamma))
