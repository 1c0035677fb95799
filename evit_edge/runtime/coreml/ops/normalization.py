"""Normalisations. Source: coremltools' definitions ``normalization`` (iOS 15 and 17)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Call, op, positive


@op("batch_norm", parameters="x mean variance gamma beta epsilon")
def batch_norm(call: Call) -> Tensor:
    """Per channel of (N, C, ...): gamma (x - mean) / sqrt(variance + epsilon) + beta."""
    x = call.tensor("x")
    spread = torch.sqrt(call.tensor("variance") + call.number("epsilon", 1e-5))
    normalised = (x - _channels(call.tensor("mean"), x)) / _channels(spread, x)
    return _affine(call, normalised)


@op("instance_norm", parameters="x gamma beta epsilon")
def instance_norm(call: Call) -> Tensor:
    """Per picture and channel of (N, C, ...), over the spatial axes."""
    x = call.tensor("x")
    return _affine(call, _standardised(x, list(range(2, x.ndim)), call.number("epsilon", 1e-5)))


@op("layer_norm", parameters="x axes gamma beta epsilon")
def layer_norm(call: Call) -> Tensor:
    """Over the axes given; gamma and beta have the shape of those axes."""
    x = call.tensor("x")
    axes = sorted(positive(axis, x.ndim) for axis in call.ints("axes", list(range(x.ndim))))
    shape = [x.shape[i] if i in axes else 1 for i in range(x.ndim)]
    result = _standardised(x, axes, call.number("epsilon", 1e-5))
    gamma, beta = call.optional("gamma"), call.optional("beta")
    if gamma is not None:
        result = result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


@op("l2_norm", parameters="x epsilon")
def l2_norm(call: Call) -> Tensor:
    """The input over the square root of its sum of squares along the last three axes, epsilon added to the sum."""
    x = call.tensor("x")
    return x / torch.sqrt(x.square().sum((-3, -2, -1), keepdim=True) + call.number("epsilon", 1e-6))


@op("local_response_norm", parameters="x size alpha beta k")
def local_response_norm(call: Call) -> Tensor:
    """The input over (k + alpha mean(x^2 of neighbouring channels))^beta."""
    x = call.tensor("x")  # (N, C, ...)
    size = call.integer("size")
    squares = F.pad(x.square(), [0, 0] * (x.ndim - 2) + [size // 2, (size - 1) // 2])
    sums = squares.unfold(1, size, 1).sum(-1)  # (N, C, ...)
    base = call.number("k", 1.0) + call.number("alpha", 1e-4) / size * sums
    return x / base ** call.number("beta", 0.75)


def _standardised(x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(axes, keepdim=True) + epsilon)


def _affine(call: Call, x: Tensor) -> Tensor:
    gamma, beta = call.optional("gamma"), call.optional("beta")
    if gamma is not None:
        x = x * _channels(gamma, x)
    return x if beta is None else x + _channels(beta, x)


def _channels(values: Tensor, x: Tensor) -> Tensor:
    """(C,) shaped to go with (N, C, ...)."""
    return values.reshape(1, -1, *[1] * (x.ndim - 2))
