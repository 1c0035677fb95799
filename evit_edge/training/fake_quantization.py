"""Quantization-aware training: the network computes in float, on values that int8 can express.

Rounded are what the converter will round: folded weights, symmetric with a scale for each output channel, and what
convolutions read and write (behind their ReLU where one follows), gates and the input, with a scale and zero point
for each tensor. The residual stream with its depthwise convolutions, the attention's core and the classifier stay
float, as in the artefact (``evit_converters.tflite.delicate_operators``). Gradients pass rounding as if it were
not there (Y. Bengio et al., "Estimating or propagating gradients through stochastic neurons", 2013).

A tensor's range is that of the batch. So there is no state beside the weights: checkpoints are those of any other
run, and a run that goes on after a kill ends with the same weights. BatchNorm uses its running statistics, since
they are what is folded.
"""

from __future__ import annotations

from itertools import pairwise
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_edge.models.attention import CascadedGroupAttention
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.models.layers import ConvNorm, FeedForward, PatchEmbedding, PatchMerging, Residual, SqueezeExcite

_LEVELS = 255
_LARGEST = 127
_TINY = 1e-12


def prepare(network: EfficientViT) -> None:
    """Make a network compute on int8's values from now on, in training and in evaluation.

    Args:
        network: In its train form; its parameters, buffers and their names stay as they are.
    """
    for module in network.modules():
        if isinstance(module, ConvNorm):
            _replace_forward(module, _conv_norm)
        elif isinstance(module, SqueezeExcite):
            _replace_forward(module, _squeeze_excite)
        elif isinstance(module, Residual):
            _replace_forward(module, _residual)
        elif isinstance(module, nn.ReLU):
            module.register_forward_hook(_round_output)
    network.patch_embed.register_forward_pre_hook(_round_input)
    for fused in _before_relu(network):
        fused.rounds_result = False  # type: ignore[assignment]
    for module in network.modules():
        if isinstance(module, CascadedGroupAttention):
            for head, conv in enumerate(module.qkvs):
                conv.parts = module.parts(head)  # type: ignore[assignment]


def round_activation(x: Tensor) -> Tensor:
    """On the asymmetric int8 grid of the tensor's own range, which holds zero; any shape."""
    low, high = x.detach().amin().clamp(max=0.0), x.detach().amax().clamp(min=0.0)
    scale = ((high - low) / _LEVELS).clamp(min=_TINY)
    first = torch.round(low / scale)
    codes = (torch.round(x.detach() / scale) - first).clamp(0, _LEVELS) + first
    return x + (codes * scale - x).detach()


def round_weight(weight: Tensor) -> Tensor:
    """On symmetric int8 grids, one for each of the first axis' channels; shape (O, ...)."""
    largest = weight.detach().flatten(1).abs().amax(dim=1)
    scale = (largest / _LARGEST).clamp(min=_TINY).view(-1, *[1] * (weight.dim() - 1))
    return weight + (torch.round(weight.detach() / scale) * scale - weight).detach()


def _replace_forward(module: nn.Module, forward: Any) -> None:
    # A bound method, which copy.deepcopy binds to the copy: the averaged network rounds, too.
    module.forward = MethodType(forward, module)


def _folded(module: ConvNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias with BatchNorm's running statistics inside."""
    bn, state = module.bn, dict(module.bn.named_buffers())
    factor = bn.weight / torch.sqrt(state["running_var"] + bn.eps)  # (O,)
    return module.conv.weight * factor.view(-1, 1, 1, 1), bn.bias - state["running_mean"] * factor


def _convolved(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, round_weight(weight), bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def _conv_norm(self: ConvNorm, x: Tensor) -> Tensor:
    # What was rounded already stays as it is; what comes from the stream is rounded on its way in.
    y = _convolved(self.conv, round_activation(x), *_folded(self))  # (B, O, H, W)
    if not getattr(self, "rounds_result", True):
        return y
    parts: tuple[int, ...] = getattr(self, "parts", (y.shape[1],))
    return torch.cat(
        [round_activation(part) for part in torch.split(y, list(parts), dim=1)], dim=1
    )  # (B, O, H, W)


def _residual(self: Residual, x: Tensor) -> Tensor:
    if not isinstance(self.m, ConvNorm):
        return x + self.m(x)  # (B, C, H, W)
    conv, (weight, bias) = self.m.conv, _folded(self.m)  # a depthwise convolution of the stream
    return x + F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=conv.groups)  # (B, C, H, W)


def _squeeze_excite(self: SqueezeExcite, x: Tensor) -> Tensor:
    gate = round_activation(x.mean((2, 3), keepdim=True))  # (B, C, 1, 1)
    gate = self.act(_convolved(self.fc1, gate, self.fc1.weight, self.fc1.bias))  # (B, C/4, 1, 1)
    gate = round_activation(_convolved(self.fc2, gate, self.fc2.weight, self.fc2.bias))  # (B, C, 1, 1)
    return round_activation(x * round_activation(torch.sigmoid(gate)))  # (B, C, H, W)


def _before_relu(network: EfficientViT) -> list[ConvNorm]:
    """Convolutions whose ReLU is fused into them: their results are rounded behind it."""
    found: list[ConvNorm] = []
    for module in network.modules():
        if isinstance(module, FeedForward):
            found.append(module.pw1)
        elif isinstance(module, PatchMerging):
            found += [module.conv1, module.conv2]
        elif isinstance(module, PatchEmbedding):
            parts = list(module)
            found += [p for p, after in pairwise(parts) if isinstance(p, ConvNorm) and isinstance(after, nn.ReLU)]
    return found


def _round_output(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return round_activation(output)


def _round_input(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(round_activation(x) for x in inputs)
