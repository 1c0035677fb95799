"""Weights as coremltools folds them: a layer with the constant factors and summands after it, in float64.

coremltools does this in float32 and gives the results new names; here it is done on its own, from the parameters.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from evit_edge.verification.coreml.source import SourceGraph

_aten = torch.ops.aten
_CONVOLUTIONS = {_aten.conv2d.default, _aten.conv1d.default, _aten.convolution.default, _aten.conv2d.padding}
_THROUGH = {_aten.clone.default, _aten.alias.default, _aten.dropout.default, _aten._unsafe_view.default}
_ARITHMETIC: dict[Any, str] = {
    _aten.mul.Tensor: "mul",
    _aten.mul.Scalar: "mul",
    _aten.add.Tensor: "add",
    _aten.add.Scalar: "add",
    _aten.sub.Tensor: "sub",
    _aten.div.Tensor: "div",
}
_FOLDING = 8 * 2.0**-24
"""A few roundings of float32, for coremltools folds in it."""


@dataclass(frozen=True)
class Expected:
    """A tensor that a program may hold, as the source has it.

    Attributes:
        value: float64.
        origin: The parameters that it comes from, for people.
        slack: What folding in float32 may be off by, in the shape of ``value``; None where nothing was folded.
    """

    value: Tensor
    origin: str
    slack: Tensor | None = None

    def scaled(self, factor: Tensor) -> Expected:
        """Multiplied by a tensor that broadcasts to its shape."""
        value = self.value * factor
        return Expected(value, self.origin, _FOLDING * value.abs())


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer with all constant factors and summands after it folded in.

    Attributes:
        weight: float64 (O, ...).
        bias: float64 (O,); zeros where there is none.
    """

    weight: Expected
    bias: Expected

    def mapped(self, affine: Affine) -> Layer:
        """The layer with an affine map of its output folded in."""
        gain = torch.as_tensor(affine.gain, dtype=torch.float64).reshape(-1)
        shift = torch.as_tensor(affine.shift, dtype=torch.float64).reshape(-1)
        size = torch.as_tensor(affine.shift_size, dtype=torch.float64).reshape(-1)
        column = gain.reshape(-1, *[1] * (self.weight.value.dim() - 1))
        told = f" with {affine.origin} folded in" if affine.origin else ""
        weight, bias = self.weight.value * column, self.bias.value * gain
        return Layer(
            Expected(weight, self.weight.origin + told, _carried(self.weight, column) + _FOLDING * weight.abs()),
            Expected(
                bias + shift,
                self.bias.origin + told,
                _carried(self.bias, gain) + _FOLDING * (bias.abs() + size),
            ),
        )


@dataclass(frozen=True)
class Affine:
    """``gain * y + shift`` of a layer's output y; numbers, or float64 (O,).

    Attributes:
        gain: Factor.
        shift: Summand.
        shift_size: Sum of the magnitudes that ``shift`` is computed from, which is what its rounding goes by.
        origin: The parameters that it comes from, for people.
    """

    gain: Tensor | float
    shift: Tensor | float
    shift_size: Tensor | float
    origin: str


def _carried(expected: Expected, gain: Tensor) -> Tensor:
    """What earlier foldings may be off by, after a factor."""
    earlier = torch.zeros_like(expected.value) if expected.slack is None else expected.slack
    return earlier * gain.abs()


class Layers:
    """What the layers of a graph are with the operations after them folded in.

    Args:
        graph: Torch's graph.
    """

    def __init__(self, graph: SourceGraph) -> None:
        self._graph = graph

    def of(self, node: fx.Node) -> list[Layer]:
        """The layer whose output a node is, with everything folded in first, then with ever less."""
        source = self._folded_into(node)
        outermost = self._layer(node)
        inner = self.of(source) if source is not None else []
        return ([outermost] if outermost is not None else []) + inner

    def tensors(self) -> Iterator[Expected]:
        """Everything that a program may hold: what depends on parameters alone, and layers as folded."""
        for node in self._graph.nodes.values():
            value = self._graph.constant(node)
            if value is not None and value.is_floating_point():
                yield Expected(value, self._graph.origin(node))
            elif (layer := self._layer(node)) is not None:
                yield layer.weight
                yield layer.bias

    def _folded_into(self, node: fx.Node) -> fx.Node | None:
        """The operand of a folding operation that carries the layer."""
        if node.op != "call_function" or node.target in _CONVOLUTIONS or node.target is _aten.linear.default:
            return None
        computed = [arg for arg in node.all_input_nodes if self._graph.constant(arg) is None]
        return computed[0] if len(computed) == 1 else None

    def _layer(self, node: fx.Node) -> Layer | None:
        if node.op != "call_function":
            return None
        if node.target in _CONVOLUTIONS or node.target is _aten.linear.default:
            return self._plain_layer(node)
        source = self._folded_into(node)
        inner = None if source is None else self._layer(source)
        if inner is None:
            return None
        if node.target in _THROUGH or node.target is operator.getitem:
            return inner
        affine = self._affine(node, inner.bias.value.numel())
        return None if affine is None else inner.mapped(affine)

    def _plain_layer(self, node: fx.Node) -> Layer | None:
        _, weight_node, *rest = node.args
        weight = self._graph.constant(weight_node)
        if weight is None or not isinstance(weight_node, fx.Node):
            return None
        bias_node = rest[0] if rest else None
        bias = self._graph.constant(bias_node)
        name = self._graph.origin(weight_node)
        width = weight.shape[0]
        told = self._graph.origin(bias_node) if isinstance(bias_node, fx.Node) else f"no bias beside {name}"
        zeros = torch.zeros(width, dtype=torch.float64)
        return Layer(Expected(weight, name), Expected(zeros if bias is None else bias, told))

    def _affine(self, node: fx.Node, width: int) -> Affine | None:
        """A node as an affine map of one operand, per channel."""
        if node.target is _aten._native_batch_norm_legit_no_training.default:
            return self._batch_norm(node)
        found = self._constant_operand(node, width)
        kind = _ARITHMETIC.get(node.target, "")
        if found is None or (found[2] == 0 and kind in ("sub", "div")):  # a constant minus the layer, or over it
            return None
        other, told, _ = found
        value = torch.as_tensor(other, dtype=torch.float64)
        if kind in ("mul", "div"):
            return Affine(value if kind == "mul" else 1 / value, 0.0, 0.0, told)
        if kind in ("add", "sub"):
            return Affine(1.0, value if kind == "add" else -value, value.abs(), told)
        return None

    def _constant_operand(self, node: fx.Node, width: int) -> tuple[Tensor | float, str, int] | None:
        """The only constant of two operands, one for each channel or one for all: value, origin, place."""
        if node.kwargs or len(node.args) != 2:
            return None
        constants = [self._graph.constant(a) if isinstance(a, fx.Node) else _number(a) for a in node.args]
        places = [place for place, constant in enumerate(constants) if constant is not None]
        if len(places) != 1:
            return None
        other, operand = constants[places[0]], node.args[places[0]]
        if other is None or (isinstance(other, Tensor) and other.numel() not in (1, width)):
            return None
        return other, self._graph.origin(operand) if isinstance(operand, fx.Node) else "", places[0]

    def _batch_norm(self, node: fx.Node) -> Affine | None:
        gamma, beta, mean, variance = (self._graph.constant(arg) for arg in node.args[1:5])
        epsilon = node.args[6]
        if mean is None or variance is None or not isinstance(epsilon, float):
            return None
        gain = (1.0 if gamma is None else gamma) / torch.sqrt(variance + epsilon)
        centre = mean * gain
        shift, size = (-centre, centre.abs()) if beta is None else (beta - centre, beta.abs() + centre.abs())
        statistics = node.args[3]
        name = self._graph.origin(statistics) if isinstance(statistics, fx.Node) else "BatchNorm"
        return Affine(gain, shift, size, name.removesuffix(".running_mean"))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
