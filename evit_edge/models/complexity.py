"""Parameters and multiply-accumulates of a configuration, counted layer by layer without torch."""

from __future__ import annotations

from dataclasses import dataclass

from evit_edge.models.config import EfficientViTConfig, halved
from evit_edge.models.design import AttentionShape


@dataclass(frozen=True)
class Complexity:
    """What a network costs.

    Attributes:
        parameters: Trainable values, BatchNorm's scale and shift among them.
        macs: Multiply-accumulates for one picture: convolutions, linear layers and both products of attention.
            The paper calls them FLOPs.
    """

    parameters: int = 0
    macs: int = 0

    def __add__(self, other: Complexity) -> Complexity:
        return Complexity(self.parameters + other.parameters, self.macs + other.macs)

    def __mul__(self, times: int) -> Complexity:
        return Complexity(self.parameters * times, self.macs * times)


def count(config: EfficientViTConfig) -> Complexity:
    """Count a configuration at its input size and number of classes."""
    total = _patch_embedding(config)
    for stage, side in enumerate(config.resolutions):
        if stage:
            total += _subsample(config, stage)
        for block in range(config.depths[stage]):
            total += _block(config, stage, side * side, f"stages.{stage}.blocks.{block}")
    return total + _head(config)


def _conv_norm(in_channels: int, out_channels: int, kernel: int, positions: int, groups: int = 1) -> Complexity:
    weights = in_channels // groups * out_channels * kernel**2
    return Complexity(weights + 2 * out_channels, weights * positions)


def _depthwise(channels: int, kernel: int, positions: int) -> Complexity:
    return _conv_norm(channels, channels, kernel, positions, groups=channels)


def _patch_embedding(config: EfficientViTConfig) -> Complexity:
    dim, side, total = config.embed_dims[0], config.image_size, Complexity()
    widths = (3, dim // 8, dim // 4, dim // 2, dim)
    for i in range(4):
        side = halved(side)
        total += _conv_norm(widths[i], widths[i + 1], 3, side * side)
    return total


def _mixed_ffn(config: EfficientViTConfig, dim: int, positions: int, part: str) -> Complexity:
    """Token interaction and the feed-forward network at ``part``."""
    hidden = config.hidden(dim, part)
    ffn = _conv_norm(dim, hidden, 1, positions) + _conv_norm(hidden, dim, 1, positions)
    return ffn + _depthwise(dim, 3, positions) if config.token_interaction else ffn


def _block(config: EfficientViTConfig, stage: int, positions: int, part: str) -> Complexity:
    dim = config.embed_dims[stage]
    total = _mixed_ffn(config, dim, positions, f"{part}.ffn1")
    if config.sandwich:
        total += _mixed_ffn(config, dim, positions, f"{part}.ffn0")
    return total + _attention(config.attention(stage, f"{part}.mixer"), config.resolutions[stage])


def _attention(shape: AttentionShape, side: int) -> Complexity:
    windows, tokens = (-(-side // shape.window)) ** 2, shape.window**2
    positions = windows * tokens  # padded tokens are computed too
    total = Complexity(parameters=shape.heads * tokens)  # the position biases
    for key, value in zip(shape.keys, shape.values, strict=True):
        total += _conv_norm(shape.seen, 2 * key + value, 1, positions)
        total += Complexity(macs=windows * tokens * tokens * (key + value))  # q k^T and attention v
    for key, kernel in zip(shape.keys, shape.kernels, strict=False):  # no kernels: no convolutions
        total += _depthwise(key, kernel, positions)
    return total + _conv_norm(sum(shape.values), shape.dim, 1, positions)


def _subsample(config: EfficientViTConfig, stage: int) -> Complexity:
    dim, out = config.embed_dims[stage - 1], config.embed_dims[stage]
    before, after = (config.resolutions[i] ** 2 for i in (stage - 1, stage))
    hidden = 4 * dim
    squeeze = hidden // 4
    excite = Complexity(parameters=2 * hidden * squeeze + squeeze + hidden, macs=2 * hidden * squeeze)
    merge = _conv_norm(dim, hidden, 1, before) + _depthwise(hidden, 3, after) + excite
    merge += _conv_norm(hidden, out, 1, after)
    part = f"stages.{stage}.downsample"
    front = _mixed_ffn(config, dim, before, f"{part}.res1.1")
    return front + merge + _mixed_ffn(config, out, after, f"{part}.res2.1")


def _head(config: EfficientViTConfig) -> Complexity:
    dim, classes = config.embed_dims[-1], config.num_classes
    return Complexity(parameters=2 * dim + dim * classes + classes, macs=dim * classes)
