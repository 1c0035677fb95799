"""EfficientViT, the inference form: uint8 NHWC in, probabilities or logits out, batch 1.

Computes what the train form computes in eval mode, with fewer and larger operations:

- BatchNorm is folded into the convolution or linear layer beside it;
- ``x + dwconv(x)`` is one depthwise convolution whose centre tap is larger by 1;
- the factor ``key_dim ** -0.5`` is folded into each head's depthwise convolution on the query;
- q, k and v are convolutions of their own, so that nothing is cut apart after a product;
- what pruning left of a head's output goes to its places in the next head's split by a 1x1 convolution;
- planes are (B, H, W, C) and tokens (B, H*W, C). A convolution stands between two permutes that cancel
  against the layout of the file format, which leaves only the transposes of the window partition;
- in an attention, what is computed of each token alone is 1x1 convolutions on planes, or linear layers on tokens:
  a tenth fewer operations, since nothing is reshaped between them. XNNPACK runs int8 2 % faster so, ONNX Runtime,
  which adds a linear layer's bias by itself, 4 to 7 % slower.

Folding is done in float64. The result shares no storage with the network that it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_edge.errors import RequestError
from evit_edge.models.attention import CascadedGroupAttention, Placement, WindowAttention
from evit_edge.models.config import OutputKind
from evit_edge.models.design import HeadInput
from evit_edge.models.efficientvit import EfficientViT, SandwichBlock
from evit_edge.models.layers import ConvNorm, FeedForward, NormLinear, PatchMerging, Residual


def deploy(
    model: EfficientViT,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    output_kind: OutputKind = OutputKind.PROBABILITIES,
    tokenwise: bool = False,
) -> nn.Module:
    """Build the inference form of a network.

    Args:
        model: The train form; left as it is.
        mean: Mean of R, G and B, of values scaled to 0..1.
        std: Standard deviation of R, G and B, of values scaled to 0..1, positive.
        output_kind: Softmax inside, or logits.
        tokenwise: Project tokens in attentions with linear layers, not with 1x1 convolutions.

    Returns:
        A module in eval mode without gradients, uint8 (1, S, S, 3) to float32 (1, classes), where S is
        ``model.config.image_size``.

    Raises:
        RequestError: ``mean`` or ``std`` are not three numbers, or ``std`` is not positive.
    """
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise RequestError(f"mean {mean} and std {std} given; three values each, std positive")
    with torch.no_grad():
        return DeployedEfficientViT(model, mean, std, output_kind, tokenwise).float().eval().requires_grad_(False)


def folded(layer: ConvNorm, *, residual: bool = False, scale: float = 1.0) -> nn.Conv2d:
    """A convolution that computes ``scale * (bn(conv(x)) [+ x])`` with the statistics of eval mode.

    It is computed in float64 and stored as the source's weights are.

    Args:
        layer: Convolution and BatchNorm.
        residual: Add the input; for depthwise convolutions of stride 1, whose centre tap takes it.
        scale: Factor on the whole.
    """
    source, (gain, shift) = layer.conv, _affine(layer.bn)
    weight = source.weight.double() * gain[:, None, None, None]  # (C', C/groups, k, k)
    if residual:
        weight[:, 0, weight.shape[2] // 2, weight.shape[3] // 2] += 1
    conv = nn.Conv2d(
        source.in_channels,
        source.out_channels,
        cast("tuple[int, int]", source.kernel_size),
        cast("tuple[int, int]", source.stride),
        cast("tuple[int, int]", source.padding),
        groups=source.groups,
    )
    return cast(nn.Conv2d, _filled(conv, weight * scale, shift * scale, source.weight.dtype))


def rows(conv: nn.Conv2d, start: int, stop: int) -> nn.Conv2d:
    """The 1x1 convolution that computes output channels ``start`` to ``stop`` alone."""
    part = nn.Conv2d(conv.in_channels, stop - start, 1)
    weight, bias = conv.weight[start:stop], cast(Tensor, conv.bias)[start:stop]
    return cast(nn.Conv2d, _filled(part, weight, bias, conv.weight.dtype))


def head_parts(source: CascadedGroupAttention, head: int) -> tuple[nn.Conv2d, nn.Conv2d | None]:
    """A head's convolutions: the one for query, key and value, and the depthwise one on the query, if any.

    The factor on the query is folded into the depthwise convolution, or else into the query's rows.
    """
    qkv = folded(cast(ConvNorm, source.qkvs[head]))
    if source.dws:
        return qkv, folded(cast(ConvNorm, source.dws[head]), scale=source.shape.scale)
    factors = torch.ones(qkv.out_channels, dtype=qkv.weight.dtype)
    factors[: source.parts(head)[0]] = source.shape.scale
    weight, bias = qkv.weight * factors[:, None, None, None], cast(Tensor, qkv.bias) * factors
    return cast(nn.Conv2d, _filled(qkv, weight, bias, qkv.weight.dtype)), None


def placing(source: nn.Module, weight: Tensor) -> nn.Conv2d | None:
    """A placement as a 1x1 convolution of ones and zeros, of ``weight``'s dtype; None where all stays in place."""
    if not isinstance(source, Placement):
        return None
    conv = nn.Conv2d(len(source.index), source.split, 1)
    ones = torch.zeros(source.split, len(source.index), 1, 1)
    ones[source.index, torch.arange(len(source.index))] = 1
    return cast(nn.Conv2d, _filled(conv, ones, torch.zeros(source.split), weight.dtype))


def classifier(head: NormLinear) -> nn.Linear:
    """``linear(bn(x))`` as one linear layer."""
    gain, shift = _affine(head.bn)
    weight = head.linear.weight.double()  # (classes, C)
    bias = head.linear.bias.double() + weight @ shift
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    return cast(nn.Linear, _filled(linear, weight * gain, bias, head.linear.weight.dtype))


def _affine(bn: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode as ``gain * x + shift``; float64 (C,) each."""
    mean, var = cast(Tensor, bn.running_mean).double(), cast(Tensor, bn.running_var).double()
    gain = bn.weight.double() / torch.sqrt(var + bn.eps)
    return gain, bn.bias.double() - mean * gain


def copied(conv: nn.Conv2d) -> nn.Conv2d:
    """A 1x1 convolution with weights of its own."""
    return rows(conv, 0, conv.out_channels)


def _filled(
    layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor, dtype: torch.dtype
) -> nn.Conv2d | nn.Linear:
    layer.weight = nn.Parameter(weight.to(dtype, copy=True).contiguous(), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(dtype, copy=True).contiguous(), requires_grad=False)
    return layer


class PlaneConv(nn.Module):
    """A convolution, and ReLU if asked for, on planes (B, H, W, C)."""

    def __init__(self, conv: nn.Conv2d, *, relu: bool = False) -> None:
        super().__init__()
        self.conv = conv
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H', W', C')."""
        x = self.conv(x.permute(0, 3, 1, 2))  # (B, C', H', W')
        x = F.relu(x) if self.relu else x
        return x.permute(0, 2, 3, 1)  # (B, H', W', C')


def projection(conv: nn.Conv2d, *, tokenwise: bool) -> nn.Module:
    """A 1x1 convolution on planes (B, H, W, C), or as a linear layer on tokens (B, S, C)."""
    if not tokenwise:
        return PlaneConv(conv)
    linear = nn.Linear(conv.in_channels, conv.out_channels)
    return _filled(linear, conv.weight[:, :, 0, 0], cast(Tensor, conv.bias), conv.weight.dtype)


class DeployedFeedForward(nn.Module):
    """``x + pw2(relu(pw1(x)))`` (equation 1's Phi^F with its residual)."""

    def __init__(self, source: FeedForward) -> None:
        super().__init__()
        self.expand = PlaneConv(folded(source.pw1), relu=True)
        self.project = PlaneConv(folded(source.pw2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) in and out."""
        return x + self.project(self.expand(x))  # (B, H, W, C)


class DeployedPatchMerging(nn.Module):
    """Inverted residual block of stride 2 with squeeze-excitation (section 3.2)."""

    def __init__(self, source: PatchMerging) -> None:
        super().__init__()
        self.expand = PlaneConv(folded(source.conv1), relu=True)
        self.spatial = PlaneConv(folded(source.conv2), relu=True)
        self.squeeze = PlaneConv(copied(source.se.fc1), relu=True)
        self.excite = PlaneConv(copied(source.se.fc2))
        self.project = PlaneConv(folded(source.conv3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H/2, W/2, C')."""
        x = self.spatial(self.expand(x))  # (B, H/2, W/2, 4C)
        gate = x.mean((1, 2), keepdim=True)  # (B, 1, 1, 4C)
        gate = torch.sigmoid(self.excite(self.squeeze(gate)))  # (B, 1, 1, 4C)
        return self.project(x * gate)  # (B, H/2, W/2, C')


class DeployedHead(nn.Module):
    """One head of equation 2: its own q, k and v, and the bias of its pairs of tokens."""

    bias: Tensor

    def __init__(self, source: CascadedGroupAttention, head: int, window: int, tokenwise: bool) -> None:
        super().__init__()
        qkv, local = head_parts(source, head)
        dk, _, dv = source.parts(head)
        self.window = window
        self.q = projection(rows(qkv, 0, dk), tokenwise=tokenwise)
        self.k = projection(rows(qkv, dk, 2 * dk), tokenwise=tokenwise)
        self.v = projection(rows(qkv, 2 * dk, 2 * dk + dv), tokenwise=tokenwise)
        self.local = nn.Identity() if local is None else PlaneConv(local)
        bias = source.attention_biases[head][source.attention_bias_idxs]  # (S, S)
        self.register_buffer("bias", bias.detach()[None].clone())  # (1, S, S)

    def forward(self, x: Tensor) -> Tensor:
        """What the head sees, (B, w, w, seen) or tokens (B, S, seen) with S = w*w, to the same with dv."""
        q = self.q(x)  # (B, w, w, dk) or (B, S, dk), as all three
        plane = q.unflatten(1, (self.window, self.window)) if q.dim() == 3 else q  # (B, w, w, dk)
        q = self.local(plane).flatten(1, 2)  # (B, S, dk)
        k, v = self.k(x).flatten(1, -2), self.v(x).flatten(1, -2)  # (B, S, dk), (B, S, dv)
        attention = q @ k.transpose(1, 2) + self.bias  # (B, S, S)
        return (attention.softmax(-1) @ v).reshape(*x.shape[:-1], -1)  # (B, w, w, dv) or (B, S, dv)


class DeployedAttention(nn.Module):
    """Cascaded group attention on windows (equations 2 and 3), with its residual."""

    def __init__(self, source: WindowAttention, *, tokenwise: bool) -> None:
        super().__init__()
        self.window, self.tokenwise = source.window, tokenwise
        self.full = source.attn.shape.head_input is HeadInput.FULL
        heads = range(source.attn.shape.heads)
        self.heads = nn.ModuleList(DeployedHead(source.attn, head, source.window, tokenwise) for head in heads)
        proj = folded(cast(ConvNorm, source.attn.proj[1]))
        self.proj = projection(proj, tokenwise=tokenwise)
        placed = (placing(placement, proj.weight) for placement in source.attn.placements)
        self.placements = nn.ModuleList(
            nn.Identity() if conv is None else projection(conv, tokenwise=tokenwise) for conv in placed
        )

    def attend(self, x: Tensor) -> Tensor:
        """Windows (B, w, w, C) in and out."""
        outputs: list[Tensor] = []
        features = x.flatten(1, 2) if self.tokenwise else x  # (B, S, C), S = w*w, or (B, w, w, C)
        seen = (features,) * len(self.heads) if self.full else features.chunk(len(self.heads), dim=-1)
        for i, (head, feature) in enumerate(zip(self.heads, seen, strict=True)):  # (B, S, seen) or (B, w, w, seen)
            if i and self.placements:
                feature = feature + self.placements[i - 1](outputs[-1])  # noqa: PLW2901
            outputs.append(head(feature))  # (B, S, dv) or (B, w, w, dv)
        y: Tensor = self.proj(F.relu(torch.cat(outputs, dim=-1)))  # (B, S, C) or (B, w, w, C)
        return y.reshape(x.shape)  # (B, w, w, C)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) in and out."""
        batch, height, width, channels = x.shape
        w = self.window
        if height == w and width == w:
            return x + self.attend(x)  # (B, H, W, C)
        rows, columns = -(-height // w), -(-width // w)
        y = F.pad(x, (0, 0, 0, columns * w - width, 0, rows * w - height))  # (B, rows*w, columns*w, C)
        y = y.reshape(batch * rows, w, columns, w * channels).transpose(1, 2)  # (B*rows, columns, w, w*C)
        y = self.attend(y.reshape(-1, w, w, channels))  # (B*rows*columns, w, w, C)
        y = y.reshape(batch * rows, columns, w, w * channels).transpose(1, 2)  # (B*rows, w, columns, w*C)
        y = y.reshape(batch, rows * w, columns * w, channels)  # (B, rows*w, columns*w, C)
        return x + y[:, :height, :width]  # (B, H, W, C)


def _mixed(source: nn.Module, ffn: nn.Module) -> list[nn.Module]:
    """A token interaction and the feed-forward network after it, or what an ablation left of them."""
    layers: list[nn.Module] = []
    if isinstance(source, Residual):
        layers.append(PlaneConv(folded(cast(ConvNorm, source.m), residual=True)))
    if isinstance(ffn, Residual):
        layers.append(DeployedFeedForward(cast(FeedForward, ffn.m)))
    return layers


def _block(block: SandwichBlock, tokenwise: bool) -> list[nn.Module]:
    attention = DeployedAttention(cast(WindowAttention, block.mixer.m), tokenwise=tokenwise)
    return [*_mixed(block.dw0, block.ffn0), attention, *_mixed(block.dw1, block.ffn1)]


def _subsample(source: nn.Sequential) -> list[nn.Module]:
    before, merge, after = source  # res1, patchmerge, res2
    return [
        *_mixed(*cast(nn.Sequential, before)),
        DeployedPatchMerging(cast(PatchMerging, merge)),
        *_mixed(*cast(nn.Sequential, after)),
    ]


def _layers(model: EfficientViT, tokenwise: bool) -> list[nn.Module]:
    """The network between normalised planes and pooling, in order; residuals are inside the layers."""
    convs = [layer for layer in model.patch_embed if isinstance(layer, ConvNorm)]
    layers: list[nn.Module] = [PlaneConv(folded(conv), relu=conv is not convs[-1]) for conv in convs]
    for stage in model.stages:
        if isinstance(stage.downsample, nn.Sequential):
            layers += _subsample(stage.downsample)
        for block in cast(nn.Sequential, stage.blocks):
            layers += _block(cast(SandwichBlock, block), tokenwise)
    return layers


class DeployedEfficientViT(nn.Module):
    """The whole inference form; made by :func:`deploy`."""

    offset: Tensor

    def __init__(
        self,
        model: EfficientViT,
        mean: Sequence[float],
        std: Sequence[float],
        output_kind: OutputKind,
        tokenwise: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layers(model, tokenwise))
        # Centring stays an operation of its own: the first convolution pads with zeros, and those must be
        # zero after centring. Division by std moves into its weights. The offset is a whole row of pixels,
        # since XNNPACK repeats an operand of three numbers three numbers at a time: five times slower.
        offset = torch.tensor(mean, dtype=torch.float64).mul(255).float()
        self.register_buffer("offset", offset.repeat(model.config.image_size, 1))  # (S, 3)
        stem = cast(PlaneConv, self.layers[0]).conv
        stem.weight /= 255 * torch.tensor(std, dtype=torch.float64).float()[:, None, None]
        self.head = classifier(model.head)
        self.softmax = output_kind is OutputKind.PROBABILITIES

    def forward(self, image: Tensor) -> Tensor:
        """Image uint8 (1, S, S, 3) to float32 (1, classes)."""
        x = image.float() - self.offset  # (1, S, S, 3)
        x = self.layers(x)  # (1, S/64, S/64, C3)
        logits = self.head(x.mean((1, 2)))  # (1, classes)
        return logits.softmax(-1) if self.softmax else logits  # (1, classes)
