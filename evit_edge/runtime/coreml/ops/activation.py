"""Activations. Source: coremltools' definitions ``activation`` (iOS 15 and 17)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Batching, Call, op, positive

_GELU = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
_SIGMOID_GELU = "SIGMOID_APPROXIMATION"


@op("relu", parameters="x", batching=Batching.POINTWISE, moves=True)
def relu(call: Call) -> Tensor:
    """max(x, 0)."""
    return F.relu(call.tensor("x"))


@op("relu6", parameters="x", batching=Batching.POINTWISE, moves=True)
def relu6(call: Call) -> Tensor:
    """min(max(x, 0), 6)."""
    return torch.clamp(call.tensor("x"), 0, 6)


@op("leaky_relu", parameters="x alpha", batching=Batching.POINTWISE)
def leaky_relu(call: Call) -> Tensor:
    """The input, below 0 times alpha."""
    return F.leaky_relu(call.tensor("x"), call.number("alpha"))


@op("prelu", parameters="x alpha")
def prelu(call: Call) -> Tensor:
    """The input, below 0 times its channel's alpha."""
    x = call.tensor("x")  # (N, C, ...)
    return torch.where(x > 0, x, x * _per_channel(call, "alpha", x))


@op("clamped_relu", parameters="x alpha beta", batching=Batching.POINTWISE)
def clamped_relu(call: Call) -> Tensor:
    """The input, below 0 times alpha, at most beta."""
    x = call.tensor("x")
    return torch.clamp(torch.where(x >= 0, x, x * call.number("alpha")), max=call.number("beta"))


@op("thresholded_relu", parameters="x alpha", batching=Batching.POINTWISE, moves=True)
def thresholded_relu(call: Call) -> Tensor:
    """The input from alpha on, else 0."""
    x = call.tensor("x")
    return torch.where(x >= call.number("alpha"), x, torch.zeros_like(x))


@op("elu", parameters="x alpha", batching=Batching.POINTWISE)
def elu(call: Call) -> Tensor:
    """The input, below 0 alpha (e^x - 1)."""
    x = call.tensor("x")
    return torch.where(x > 0, x, call.number("alpha") * torch.expm1(torch.clamp(x, max=0)))


@op("linear_activation", parameters="x alpha beta", batching=Batching.POINTWISE)
def linear_activation(call: Call) -> Tensor:
    """Alpha x + beta."""
    return call.tensor("x") * call.number("alpha") + call.number("beta")


@op("scaled_tanh", parameters="x alpha beta", batching=Batching.POINTWISE)
def scaled_tanh(call: Call) -> Tensor:
    """Alpha tanh(beta x)."""
    return call.number("alpha") * torch.tanh(call.tensor("x") * call.number("beta"))


@op("sigmoid", parameters="x", batching=Batching.POINTWISE)
def sigmoid(call: Call) -> Tensor:
    """1 / (1 + e^-x)."""
    return torch.sigmoid(call.tensor("x"))


@op("sigmoid_hard", parameters="x alpha beta", batching=Batching.POINTWISE)
def sigmoid_hard(call: Call) -> Tensor:
    """Alpha x + beta, limited to 0..1."""
    return torch.clamp(call.tensor("x") * call.number("alpha") + call.number("beta"), 0, 1)


@op("silu", parameters="x", batching=Batching.POINTWISE)
def silu(call: Call) -> Tensor:
    """The input times its sigmoid."""
    return F.silu(call.tensor("x"))


@op("softplus", parameters="x", batching=Batching.POINTWISE)
def softplus(call: Call) -> Tensor:
    """ln(1 + e^x)."""
    x = call.tensor("x")
    return torch.logaddexp(x, torch.zeros_like(x))


@op("softplus_parametric", parameters="x alpha beta")
def softplus_parametric(call: Call) -> Tensor:
    """Alpha ln(1 + e^(beta x)), alpha and beta per channel."""
    x = call.tensor("x")  # (N, C, ...)
    inner = x * _per_channel(call, "beta", x)
    return _per_channel(call, "alpha", x) * torch.logaddexp(inner, torch.zeros_like(inner))


@op("softsign", parameters="x", batching=Batching.POINTWISE)
def softsign(call: Call) -> Tensor:
    """The input over 1 + |x|."""
    return F.softsign(call.tensor("x"))


@op("gelu", parameters="x mode", batching=Batching.POINTWISE)
def gelu(call: Call) -> Tensor:
    """The input times the normal distribution's probability below x, or one of two approximations."""
    x = call.tensor("x")
    mode = call.choice("mode", (*_GELU, _SIGMOID_GELU), "EXACT")
    return x * torch.sigmoid(1.702 * x) if mode == _SIGMOID_GELU else F.gelu(x, approximate=_GELU[mode])


@op("softmax", parameters="x axis")
def softmax(call: Call) -> Tensor:
    """e^x over its sum along the axis."""
    x = call.tensor("x")
    return torch.softmax(x, positive(call.integer("axis", -1), x.ndim))


def _per_channel(call: Call, key: str, x: Tensor) -> Tensor:
    """(C,) shaped to go with (N, C, ...)."""
    return call.tensor(key).reshape(1, -1, *[1] * (x.ndim - 2))
