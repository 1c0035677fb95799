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
    """One attention between N = 1 feed-forward networks on each side (section 3.1, equation 1).

    Without the sandwich layout there is nothing in front of the attention.
    """

    def __init__(self, config: EfficientViTConfig, stage: int, part: str) -> None:
        super().__init__()
        dim = config.embed_dims[stage]
        front = _mixed_ffn(config, dim, f"{part}.ffn0", gamma=0.0) if config.sandwich else ()
        self.dw0, self.ffn0 = front or (nn.Identity(), nn.Identity())
        self.mixer = Residual(WindowAttention(config.attention(stage, f"{part}.mixer")))
        self.dw1, self.ffn1 = _mixed_ffn(config, dim, f"{part}.ffn1", gamma=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        x = self.ffn0(self.dw0(x))  # (B, C, H, W)
        x = self.mixer(x)  # (B, C, H, W)
        return self.ffn1(self.dw1(x))  # (B, C, H, W)


def _mixed_ffn(
    config: EfficientViTConfig, dim: int, part: str, *, gamma: float = 1.0
) -> tuple[nn.Module, nn.Module]:
    """A token interaction and the feed-forward network at ``part`` behind it."""
    interaction = token_interaction(dim, gamma=gamma) if config.token_interaction else nn.Identity()
    return interaction, Residual(FeedForward(dim, config.hidden(dim, part)))


def subsample(config: EfficientViTConfig, stage: int, part: str) -> nn.Sequential:
    """EfficientViT subsample block: FFN, patch merging, FFN; the sandwich without attention (section 3.2)."""
    dim, out_dim = config.embed_dims[stage - 1], config.embed_dims[stage]
    before = nn.Sequential(*_mixed_ffn(config, dim, f"{part}.res1.1"))
    merge = PatchMerging(dim, out_dim)
    after = nn.Sequential(*_mixed_ffn(config, out_dim, f"{part}.res2.1"))
    return nn.Sequential(OrderedDict(res1=before, patchmerge=merge, res2=after))


class Stage(nn.Module):
    """A subsample block (but in the first stage), then L sandwich blocks."""

    def __init__(self, config: EfficientViTConfig, stage: int) -> None:
        super().__init__()
        part = f"stages.{stage}"
        self.downsample: nn.Module = subsample(config, stage, f"{part}.downsample") if stage else nn.Identity()
        blocks = (SandwichBlock(config, stage, f"{part}.blocks.{i}") for i in range(config.depths[stage]))
        self.blocks = nn.Sequential(*blocks)

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
