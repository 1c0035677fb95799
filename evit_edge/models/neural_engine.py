"""EfficientViT, the inference form for the Neural Engine: planes (B, C, H, W), tokens (B, C, 1, S).

The Neural Engine is said to like four dimensions, channels in the second, and nothing moved about. So:

- a head's query, key and value come from one convolution and are cut apart along the channels;
- ``q^T k`` and ``v attention^T`` are products of (B, 1, ., .) whose transposed operand is an attribute of the
  product, not an operation;
- windows are cut out by slices and stacked along the batch, and go back by slices and concatenation, which
  replaces the partition by reshapes of five and six dimensions and its transposes;
- the classifier is a 1x1 convolution on the pooled plane.

Folded as in :mod:`evit_edge.models.deploy`: BatchNorm, ``x + dwconv(x)`` and the factor on the query are in the
weights of the convolution beside them. Source of the layout: Apple, "Deploying Transformers on the Apple Neural
Engine", machinelearning.apple.com, 2022. Nobody measured it on an A13.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_edge.models.attention import CascadedGroupAttention, WindowAttention
from evit_edge.models.deploy import classifier, copied, folded, head_parts, placing
from evit_edge.models.design import HeadInput
from evit_edge.models.efficientvit import EfficientViT, SandwichBlock
from evit_edge.models.layers import ConvNorm, FeedForward, NormLinear, PatchMerging, Residual


def neural_engine(model: EfficientViT) -> nn.Module:
    """Build the inference form of a network for the Neural Engine.

    Args:
        model: The train form; left as it is.

    Returns:
        A module in eval mode without gradients, normalised float (B, 3, S, S) to logits (B, classes), where S is
        ``model.config.image_size``; its weights have the dtype of the network's. It computes the train form's
        function in eval mode: in float64 they differ by rounding alone.
    """
    with torch.no_grad():
        return NeuralEngineEfficientViT(model).eval().requires_grad_(False)


class FeedForwardPlane(nn.Module):
    """``x + pw2(relu(pw1(x)))`` (equation 1's Phi^F with its residual)."""

    def __init__(self, source: FeedForward) -> None:
        super().__init__()
        self.expand = folded(source.pw1)
        self.project = folded(source.pw2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        return x + self.project(F.relu(self.expand(x)))  # (B, C, H, W)


class PatchMergingPlane(nn.Module):
    """Inverted residual block of stride 2 with squeeze-excitation (section 3.2)."""

    def __init__(self, source: PatchMerging) -> None:
        super().__init__()
        self.expand = folded(source.conv1)
        self.spatial = folded(source.conv2)
        self.squeeze = copied(source.se.fc1)
        self.excite = copied(source.se.fc2)
        self.project = folded(source.conv3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/2, W/2)."""
        x = F.relu(self.spatial(F.relu(self.expand(x))))  # (B, 4C, H/2, W/2)
        gate = x.mean((2, 3), keepdim=True)  # (B, 4C, 1, 1)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(gate))))  # (B, 4C, 1, 1)
        return self.project(x * gate)  # (B, C', H/2, W/2)


class HeadPlane(nn.Module):
    """One head of equation 2: its q, k and v, and the bias of its pairs of tokens."""

    bias: Tensor

    def __init__(self, source: CascadedGroupAttention, head: int) -> None:
        super().__init__()
        self.parts = source.parts(head)
        self.qkv, local = head_parts(source, head)
        self.local = nn.Identity() if local is None else local
        bias = source.attention_biases[head][source.attention_bias_idxs]  # (S, S)
        self.register_buffer("bias", bias.detach()[None, None].clone())  # (1, 1, S, S)

    def forward(self, x: Tensor) -> Tensor:
        """What the head sees of the windows, (B, seen, w, w), to (B, dv, w, w)."""
        batch, _, height, width = x.shape
        q, k, v = self.qkv(x).split(self.parts, dim=1)  # (B, dk, w, w) twice, (B, dv, w, w)
        q = self.local(q).reshape(batch, 1, self.parts[0], -1)  # (B, 1, dk, S), S = w*w
        k = k.reshape(batch, 1, self.parts[1], -1)  # (B, 1, dk, S)
        v = v.reshape(batch, 1, self.parts[2], -1)  # (B, 1, dv, S)
        attention = (q.transpose(2, 3) @ k + self.bias).softmax(-1)  # (B, 1, S, S)
        output = v @ attention.transpose(2, 3)  # (B, 1, dv, S)
        return output.reshape(batch, self.parts[2], height, width)  # (B, dv, w, w)


class AttentionPlane(nn.Module):
    """Cascaded group attention on windows (equations 2 and 3), with its residual."""

    def __init__(self, source: WindowAttention) -> None:
        super().__init__()
        self.window = source.window
        self.heads = nn.ModuleList(HeadPlane(source.attn, i) for i in range(source.attn.shape.heads))
        self.proj = folded(cast(ConvNorm, source.attn.proj[1]))
        self.full = source.attn.shape.head_input is HeadInput.FULL
        placed = (placing(placement, self.proj.weight) for placement in source.attn.placements)
        self.placements = nn.ModuleList(nn.Identity() if conv is None else conv for conv in placed)

    def attend(self, x: Tensor) -> Tensor:
        """Windows (B, C, w, w) in and out."""
        outputs: list[Tensor] = []
        seen = (x,) * len(self.heads) if self.full else x.chunk(len(self.heads), dim=1)
        for i, (head, feature) in enumerate(zip(self.heads, seen, strict=True)):  # (B, seen, w, w)
            if i and self.placements:
                feature = feature + self.placements[i - 1](outputs[-1])  # noqa: PLW2901
            outputs.append(head(feature))  # (B, dv, w, w)
        return self.proj(F.relu(torch.cat(outputs, dim=1)))  # (B, C, w, w)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        batch, _, height, width = x.shape
        w = self.window
        if height == w and width == w:
            return x + self.attend(x)  # (B, C, H, W)
        down, across = -(-height // w), -(-width // w)
        y = x
        if (down * w, across * w) != (height, width):
            y = F.pad(x, (0, across * w - width, 0, down * w - height))  # (B, C, rows*w, across*w)
        cut = [y[:, :, i * w : i * w + w, j * w : j * w + w] for i in range(down) for j in range(across)]
        y = self.attend(torch.cat(cut, dim=0))  # (rows*across*B, C, w, w)
        windows = [y[i * batch : (i + 1) * batch] for i in range(len(cut))]  # (B, C, w, w) each
        strips = [torch.cat(windows[i * across : (i + 1) * across], dim=3) for i in range(down)]
        y = torch.cat(strips, dim=2)  # (B, C, rows*w, across*w)
        return x + y[:, :, :height, :width]  # (B, C, H, W)


def _mixed(source: nn.Module, ffn: nn.Module) -> list[nn.Module]:
    """A token interaction and the feed-forward network after it, or what an ablation left of them."""
    layers: list[nn.Module] = []
    if isinstance(source, Residual):
        layers.append(folded(cast(ConvNorm, source.m), residual=True))
    if isinstance(ffn, Residual):
        layers.append(FeedForwardPlane(cast(FeedForward, ffn.m)))
    return layers


def _block(block: SandwichBlock) -> list[nn.Module]:
    attention = AttentionPlane(cast(WindowAttention, block.mixer.m))
    return [*_mixed(block.dw0, block.ffn0), attention, *_mixed(block.dw1, block.ffn1)]


def _subsample(source: nn.Sequential) -> list[nn.Module]:
    before, merge, after = source  # res1, patchmerge, res2
    return [
        *_mixed(*cast(nn.Sequential, before)),
        PatchMergingPlane(cast(PatchMerging, merge)),
        *_mixed(*cast(nn.Sequential, after)),
    ]


def _layers(model: EfficientViT) -> list[nn.Module]:
    """The network between the image and pooling, in order; residuals are inside the layers."""
    layers: list[nn.Module] = []
    for layer in model.patch_embed:
        layers.append(folded(layer) if isinstance(layer, ConvNorm) else nn.ReLU())
    for stage in model.stages:
        if isinstance(stage.downsample, nn.Sequential):
            layers += _subsample(stage.downsample)
        for block in cast(nn.Sequential, stage.blocks):
            layers += _block(cast(SandwichBlock, block))
    return layers


def _pointwise(head: NormLinear) -> nn.Conv2d:
    """``linear(bn(x))`` as a 1x1 convolution."""
    linear = classifier(head)
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1)
    conv.weight = nn.Parameter(linear.weight[:, :, None, None], requires_grad=False)
    conv.bias = linear.bias
    return conv


class NeuralEngineEfficientViT(nn.Module):
    """The whole inference form; made by :func:`neural_engine`."""

    def __init__(self, model: EfficientViT) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layers(model))
        self.head = _pointwise(model.head)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised image (B, 3, S, S) to logits (B, classes)."""
        x = self.layers(x)  # (B, C3, S/64, S/64)
        pooled = x.mean((2, 3), keepdim=True)  # (B, C3, 1, 1)
        return self.head(pooled).flatten(1)  # (B, classes)
