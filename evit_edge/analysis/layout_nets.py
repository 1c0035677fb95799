"""Plain transformers whose share of attention layers can be chosen: DeiT-T's parts in another mixture.

A DeiT block is one attention and one feed-forward network, so that half of its layers attend. Here layers of both
kinds stand in one column, attention spread evenly in it, as in section 2.1 of the EfficientViT paper, which scales
DeiT-T down with other mixtures. Attention is computed operator by operator, as it was then.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evit_edge.errors import RequestError

PATCH = 16


@dataclass(frozen=True)
class LayoutConfig:
    """What a plain transformer is built from.

    Attributes:
        width: Channels, a multiple of the heads.
        layers: Attention layers and feed-forward networks together; a DeiT block is two.
        attention_layers: Of these, how many attend; at least 1.
        heads: Of each attention.
        ffn_ratio: Hidden over outer channels of a feed-forward network.
        image_size: Side of the input in pixels, a multiple of 16.
        num_classes: Outputs.
    """

    width: int = 192
    layers: int = 24
    attention_layers: int = 12
    heads: int = 3
    ffn_ratio: int = 4
    image_size: int = 224
    num_classes: int = 1000

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        if self.width < self.heads or self.width % self.heads:
            raise RequestError(f"{self.width} channels given; a multiple of {self.heads} heads is needed")
        if not 1 <= self.attention_layers <= self.layers:
            raise RequestError(f"{self.attention_layers} of {self.layers} layers given; 1 to all may attend")
        if self.image_size < PATCH or self.image_size % PATCH:
            raise RequestError(f"image size {self.image_size} given; a multiple of {PATCH} is needed")

    @property
    def attends(self) -> tuple[bool, ...]:
        """For each layer whether it attends: spread evenly, none at the edge where there is room."""
        places = {int((i + 0.5) * self.layers / self.attention_layers) for i in range(self.attention_layers)}
        return tuple(i in places for i in range(self.layers))


class Attention(nn.Module):
    """Multi-head self-attention on full features, with its norm; the residual is the caller's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.scale = (width // heads) ** -0.5
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) in and out."""
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, tokens, 3, self.num_heads, -1)  # (B, N, 3, h, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, h, N, d) each
        attention = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, h, N, N)
        joined = (attention @ v).transpose(1, 2).reshape(batch, tokens, width)  # (B, N, C)
        projected: Tensor = self.proj(joined)  # (B, N, C)
        return projected


class FeedForward(nn.Module):
    """Expansion, GELU, projection, with the norm before; the residual is the caller's."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, ratio * width)
        self.act = nn.GELU()
        self.project = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) in and out."""
        projected: Tensor = self.project(self.act(self.expand(self.norm(x))))  # (B, N, C)
        return projected


class PlainTransformer(nn.Module):
    """A column of attention layers and feed-forward networks on the patches of a picture, then their mean."""

    def __init__(self, config: LayoutConfig) -> None:
        super().__init__()
        self.config = config
        side = config.image_size // PATCH
        self.patches = nn.Conv2d(3, config.width, PATCH, stride=PATCH)
        self.position = nn.Parameter(torch.zeros(1, side * side, config.width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.layers = nn.ModuleList(
            Attention(config.width, config.heads) if attends else FeedForward(config.width, config.ffn_ratio)
            for attends in config.attends
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Image (B, 3, S, S) to logits (B, classes)."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position  # (B, N, C)
        for layer in self.layers:
            x = x + layer(x)  # (B, N, C)
        logits: Tensor = self.head(self.norm(x).mean(dim=1))  # (B, classes)
        return logits
