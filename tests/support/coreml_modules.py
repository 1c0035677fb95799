"""Small torch modules that coremltools converts through torch.export, for a fuzz against torch itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Branch:
    """One layer and the shape of what it takes."""

    title: str
    layer: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]


class Branches(nn.Module):
    """Many layers side by side, each with its own input and output."""

    def __init__(self, branches: list[Branch]) -> None:
        super().__init__()
        self.functions = [branch.layer for branch in branches]
        self.layers = nn.ModuleList(layer for layer in self.functions if isinstance(layer, nn.Module))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer, x in zip(self.functions, inputs, strict=True))


def branches(rng: np.random.Generator, opset: str) -> list[Branch]:
    """Layers that image classifiers are made of, with random sizes and weights.

    Left out is what coremltools 9.0 cannot convert by way of torch.export (celu, logsigmoid, channel_shuffle,
    unfold, prod, gather with int64 indices), and what it converts to something else: see MENDED.
    """
    torch.manual_seed(int(rng.integers(2**31)))
    makers = (_convolutions, _poolings, _norms, _activations, _attentions, _shapes)
    made = [branch for maker in makers for branch in maker(rng)]
    if opset == "iOS15":
        made = [branch for branch in made if branch.title != "pixel_unshuffle"]
    for branch in made:
        if isinstance(branch.layer, nn.Module):
            _randomize(branch.layer.eval())
    return made


def _randomize(module: nn.Module) -> None:
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data.normal_(1, 0.5)


MENDED: dict[str, nn.Module | Callable[[Tensor], Tensor]] = {
    "gelu": nn.GELU(),
    "gelu-tanh": nn.GELU("tanh"),
    "reciprocal": torch.reciprocal,
}
"""Layers of which coremltools 9.0 alone makes other functions when they come from torch.export."""


def _int(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def _convolutions(rng: np.random.Generator) -> Iterator[Branch]:
    for _ in range(6):
        groups, kernel = _int(rng, 1, 3), _int(rng, 1, 5)
        c, o = groups * _int(rng, 1, 3), groups * _int(rng, 1, 3)
        stride, dilation, padding = _int(rng, 1, 2), _int(rng, 1, 2), _int(rng, 0, 3)
        bias = bool(rng.integers(2))
        conv = nn.Conv2d(c, o, kernel, stride, padding, dilation, groups, bias)
        yield Branch("conv2d", conv, (1, c, 11, 12))
        yield Branch("conv-bn-relu", nn.Sequential(conv, nn.BatchNorm2d(o), nn.ReLU6()), (1, c, 12, 10))
    yield Branch("conv1d", nn.Conv1d(4, 6, 3, 2, 1), (1, 4, 9))
    yield Branch("conv3d", nn.Conv3d(2, 3, 3, 1, 1), (1, 2, 4, 5, 6))
    yield Branch("same", nn.Conv2d(3, 4, (3, 4), padding="same"), (1, 3, 7, 8))
    for extra in (0, 1):
        yield Branch("transposed", nn.ConvTranspose2d(4, 6, 3, 2, 1, extra, groups=2), (1, 4, 5, 6))
    yield Branch("asymmetric", nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(3, 4, 3, 2)), (1, 3, 8, 9))


def _poolings(rng: np.random.Generator) -> Iterator[Branch]:
    for ceil in (False, True):
        kernel, stride = _int(rng, 2, 3), _int(rng, 1, 2)
        padding, count = _int(rng, 0, 1), bool(rng.integers(2))
        yield Branch("max_pool", nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil), (1, 3, 10, 11))
        average = nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=count)
        yield Branch("avg_pool", average, (1, 3, 10, 11))
    yield Branch("max_pool1d", nn.MaxPool1d(3, 2, 1), (1, 3, 11))
    yield Branch("adaptive", nn.AdaptiveAvgPool2d(1), (1, 5, 6, 7))
    yield Branch("adaptive-n", nn.AdaptiveAvgPool2d((2, 3)), (1, 2, 8, 9))
    yield Branch("adaptive-max", nn.AdaptiveMaxPool2d(1), (1, 5, 6, 7))
    yield Branch("nearest", nn.Upsample(scale_factor=2), (1, 2, 3, 4))
    yield Branch("bilinear", nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 3, 4))
    yield Branch("bilinear-corners", nn.Upsample(size=(7, 9), mode="bilinear", align_corners=True), (1, 2, 3, 4))
    yield Branch("bilinear-size", nn.Upsample(size=(7, 9), mode="bilinear"), (1, 2, 3, 4))


def _norms(rng: np.random.Generator) -> Iterator[Branch]:
    c = 2 * _int(rng, 1, 3)
    yield Branch("batch_norm", nn.BatchNorm2d(c), (1, c, 5, 6))
    yield Branch("batch_norm1d", nn.BatchNorm1d(c), (1, c))
    yield Branch("layer_norm", nn.LayerNorm(c), (1, 7, c))
    yield Branch("layer_norm2", nn.LayerNorm((3, c), elementwise_affine=False), (1, 7, 3, c))
    yield Branch("group_norm", nn.GroupNorm(2, c), (1, c, 5, 6))
    yield Branch("instance_norm", nn.InstanceNorm2d(c, affine=True), (1, c, 5, 6))
    yield Branch("response_norm", nn.LocalResponseNorm(3), (1, 6, 5, 4))
    yield Branch("l2", lambda x: F.normalize(x, dim=1), (1, 9))
    yield Branch("rms", lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-3), (1, 4, c))
    yield Branch("var_mean", lambda x: x.var(1, unbiased=False) + x.std(1) + x.mean(1), (1, 9, 3))


def _activations(rng: np.random.Generator) -> Iterator[Branch]:
    layers = (
        nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.ELU(0.7), nn.GELU(), nn.SiLU(),
        nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(-0.5, 0.7), nn.Sigmoid(), nn.Tanh(), nn.Softplus(),
        nn.Mish(), nn.Softsign(), nn.PReLU(3), nn.Softmax(1), nn.LogSoftmax(1), nn.Threshold(0.25, 0.0),
    )  # fmt: skip
    for layer in layers:
        yield Branch(type(layer).__name__, layer, (1, 3, _int(rng, 2, 5), _int(rng, 2, 5)))
    functions = (
        torch.abs, torch.exp, torch.square, torch.sign, torch.floor, torch.ceil, torch.round, torch.erf, torch.cos,
        torch.sin, torch.atan, lambda x: torch.log(x.abs() + 0.5), lambda x: torch.rsqrt(x.abs() + 0.5),
        lambda x: torch.sqrt(x.abs()), lambda x: x.clamp(-0.3, 0.4), lambda x: x.pow(3),
        lambda x: x / (x.abs() + 0.5), lambda x: torch.where(x > 0, x, -2 * x),
        lambda x: torch.maximum(x, x.flip(-1)), lambda x: (x > 0).float(),
        lambda x: torch.logsumexp(x, -1), lambda x: x.cumsum(-1), lambda x: x.amax((-1, -2)),
        lambda x: x.norm(dim=-1), lambda x: x.argmax(-1).float(), lambda x: x.topk(2, -1).values, torch.sum,
        lambda x: (x.softmax(-1) * torch.arange(x.shape[-1])).sum(-1), lambda x: x // 0.75, lambda x: x % 0.75,
    )  # fmt: skip
    for number, function in enumerate(functions):
        yield Branch(f"function {number}", function, (1, 3, _int(rng, 2, 5), _int(rng, 2, 5)))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.fused = heads, fused
        self.bias = nn.Parameter(torch.randn(heads, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        split = self.qkv(x).reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + self.bias
            mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(n, length, width))


class _Squeeze(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.less, self.more = nn.Conv2d(width, 2, 1), nn.Conv2d(2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.more(F.silu(self.less(x.mean((2, 3), keepdim=True)))))


def _attentions(rng: np.random.Generator) -> Iterator[Branch]:
    heads = _int(rng, 1, 3)
    for fused in (False, True):
        yield Branch(f"attention {fused}", _Attention(4 * heads, heads, fused=fused), (1, 6, 4 * heads))
    yield Branch("squeeze-excite", _Squeeze(5), (1, 5, 4, 6))
    yield Branch("linear", nn.Linear(7, 5), (1, 7))
    yield Branch("linear-tokens", nn.Linear(7, 5, bias=False), (1, 3, 7))
    yield Branch("bilinear form", lambda x: x @ x.transpose(-1, -2), (1, 2, 3, 4))
    yield Branch("einsum", lambda x: torch.einsum("bhwc,bhvc->bhwv", x, x), (1, 2, 3, 4))
    yield Branch("embedding", nn.Sequential(_Floor(), nn.Embedding(9, 4)), (1, 6))


class _Floor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs().floor().clamp(max=8).long()


def _shapes(rng: np.random.Generator) -> Iterator[Branch]:
    def windows(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)

    yield Branch("pixel_unshuffle", nn.PixelUnshuffle(2), (1, 3, 4, 6))
    table = torch.randn(5, 7)
    index = torch.from_numpy(rng.integers(0, 7, (3, 4)))
    functions: tuple[Callable[[Tensor], Tensor], ...] = (
        windows, lambda x: x.roll((1, -1), (2, 3)), lambda x: F.pixel_shuffle(x, 2),
        lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), lambda x: x[:, 1:3, ::2, -1],
        lambda x: torch.stack([x, x.flip(2)], 1), lambda x: F.pad(x, (1, 2, 0, 1), value=0.5),
        lambda x: F.pad(x, (1, 2, 1, 1), mode="reflect"), lambda x: F.pad(x, (1, 2, 1, 1), mode="replicate"),
        lambda x: x.repeat(1, 2, 1, 3), lambda x: x.expand(2, -1, -1, -1), lambda x: x.flatten(1), lambda x: x.mT,
        lambda x: x.unsqueeze(1).squeeze(0), lambda x: x.movedim(1, -1),
        lambda x: x[..., 0:1] + table[:, index].sum(),
        lambda x: x.split((3, 5), 1)[1], lambda x: x.triu(), lambda x: torch.zeros_like(x) + x.new_full((1,), 2.0),
        lambda x: x.index_select(1, index[0]), lambda x: x.masked_fill(x > 0.5, -1.0), lambda x: x.sort(-1).values,
    )  # fmt: skip
    for number, function in enumerate(functions):
        yield Branch(f"shape {number}", function, (1, 8, 4, 6))
