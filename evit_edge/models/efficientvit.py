"""EfficientViT, the trainable form: NCHW float in, logits out.

Source: "EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention", arXiv 2305.07027.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from evit_edge.models.attention import WindowAttention
from evit_edge.models.config import EfficientViTConfig
from evit_edge.models.layers import (
    FeedForward,
    NormLinear,
    PatchEmbedding,
    PatchMerging,
    Residual,
    token_interaction,
)


class SandwichBlock(nn.Module):
    """One attention between N = 1 feed-forward networks on each side (section 3.1, equation 1)."""

    def __init__(self, config: EfficientViTConfig, stage: int) -> None:
        super().__init__()
        dim, hidden = config.embed_dims[stage], config.embed_dims[stage] * config.ffn_ratio
        self.dw0 = token_interaction(dim, gamma=0.0)
        self.ffn0 = Residual(FeedForward(dim, hidden))
        self.mixer = Residual(
            WindowAttention(
                dim,
                config.key_dim,
                config.num_heads[stage],
                config.resolutions[stage],
                config.window_size,
                config.kernel_sizes,
            )
        )
        self.dw1 = token_interaction(dim, gamma=0.0)
        self.ffn1 = Residual(FeedForward(dim, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        x = self.ffn0(self.dw0(x))  # (B, C, H, W)
        x = self.mixer(x)  # (B, C, H, W)
        return self.ffn1(self.dw1(x))  # (B, C, H, W)


def subsample(dim: int, out_dim: int, ffn_ratio: int) -> nn.Sequential:
    """EfficientViT subsample block: FFN, patch merging, FFN; the sandwich without attention (section 3.2)."""

    def mixed_ffn(width: int) -> nn.Sequential:
        return nn.Sequential(token_interaction(width), Residual(FeedForward(width, ffn_ratio * width)))

    return nn.Sequential(
        OrderedDict(res1=mixed_ffn(dim), patchmerge=PatchMerging(dim, out_dim), res2=mixed_ffn(out_dim))
    )


class Stage(nn.Module):
    """A subsample block (but in the first stage), then L sandwich blocks."""

    def __init__(self, config: EfficientViTConfig, stage: int) -> None:
        super().__init__()
        dims = config.embed_dims
        self.downsample: nn.Module = (
            subsample(dims[stage - 1], dims[stage], config.ffn_ratio) if stage else nn.Identity()
        )
        self.blocks = nn.Sequential(*(SandwichBlock(config, stage) for _ in range(config.depths[stage])))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W'); H' = H in the first stage, else about H/2."""
        return self.blocks(self.downsample(x))


class EfficientViT(nn.Module):
    """The classifier.

    Args:
        config: The variant with its classes and input size.

    Input: float (B, 3, S, S), ImageNet-normalised, S = ``config.image_size``. Output: logits (B, classes).
    """

    def __init__(self, config: EfficientViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.embed_dims[0])
        self.stages = nn.Sequential(*(Stage(config, i) for i in range(3)))
        self.head = NormLinear(config.embed_dims[-1], config.num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Image (B, 3, S, S) to the last stage's plane (B, C3, S/64, S/64)."""
        return self.stages(self.patch_embed(x))

    def forward(self, x: Tensor) -> Tensor:
        """Image (B, 3, S, S) to logits (B, classes)."""
        pooled = self.forward_features(x).mean((2, 3))  # (B, C3)
        return self.head(pooled)  # (B, classes)
