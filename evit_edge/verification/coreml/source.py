"""The torch side of the proof: what each weight of a program has to be, and what each value has to be.

coremltools names a value of an ML Program after the node of the exported graph that it comes from, and a weight
after its parameter. This module exports the network as a converter does, with the same decompositions, and answers
in float64 by those names. Where a pass of coremltools folds layers together, the same folding is done here on its
own, in float64.
"""

from __future__ import annotations

import math
import operator
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

_aten = torch.ops.aten
_CONVOLUTIONS = {_aten.conv2d.default, _aten.conv1d.default, _aten.convolution.default, _aten.conv2d.padding}
_THROUGH = {_aten.clone.default, _aten.alias.default, _aten.dropout.default, _aten._unsafe_view.default}
_FOLDING = 8 * 2.0**-24
"""A few roundings of float32, for coremltools folds in it."""
_WELL_KNOWN = (1 / 6, 1 / 3, 2 / 3, 1 / 255, math.sqrt(0.5), math.sqrt(2), math.sqrt(2 / math.pi), 0.044715)
"""Factors inside torch's operations (hardswish, gelu), which no argument of the graph mentions."""


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

    def mapped(self, gain: Tensor | float, shift: Tensor | float, origin: str) -> Layer:
        """``gain * y + shift`` of the output y; both scalars or (O,)."""
        gain = torch.as_tensor(gain, dtype=torch.float64).reshape(-1)
        shift = torch.as_tensor(shift, dtype=torch.float64).reshape(-1)
        column = gain.reshape(-1, *[1] * (self.weight.value.dim() - 1))
        told = f" with {origin} folded in" if origin else ""
        return Layer(
            Expected(
                self.weight.value * column,
                self.weight.origin + told,
                _FOLDING * (self.weight.value * column).abs(),
            ),
            Expected(
                self.bias.value * gain + shift,
                self.bias.origin + told,
                _FOLDING * ((self.bias.value * gain).abs() + shift.abs()),
            ),
        )


class SourceGraph:
    """The exported graph of a network, evaluated in float64.

    Args:
        module: Normalised float (1, 3, S, S) to logits; left as it is.
        side: S, pixels.
    """

    def __init__(self, module: nn.Module, side: int) -> None:
        parameter = next(module.parameters(), None)
        example = torch.zeros(1, 3, side, side, dtype=torch.float32 if parameter is None else parameter.dtype)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            self._program = torch.export.export(module, (example,)).run_decompositions({})
        self._nodes: dict[str, fx.Node] = {node.name: node for node in self._program.graph.nodes}
        self._constants: dict[str, Tensor | None] = {}

    @cached_property
    def _parameters(self) -> dict[str, tuple[str, Tensor]]:
        """Placeholder to the parameter's, buffer's or lifted constant's own name and value."""
        signature = self._program.graph_signature
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        lifted = dict(signature.inputs_to_lifted_tensor_constants)
        found: dict[str, tuple[str, Tensor]] = {}
        for placeholder, name in (named | lifted).items():
            tensor = self._program.state_dict.get(name)
            if tensor is None:
                tensor = self._program.constants[name]
            found[placeholder] = (name, tensor.detach())
        return found

    @cached_property
    def scalars(self) -> tuple[frozenset[float], ...]:
        """Numbers that a program may hold, the likeliest first.

        The floats that the graph's operations are given; the factors inside torch's own operations; one over the
        sizes of tensors and over their roots, for means and for attention.
        """
        nodes = self._program.graph.nodes
        sizes = {size for node in nodes for size in _sizes(node) if size > 1}
        given = frozenset(number for node in nodes for number in _floats(node))
        return given, frozenset(_WELL_KNOWN), frozenset({n**-0.5 for n in sizes} | {1 / n for n in sizes})

    def node(self, name: str) -> fx.Node | None:
        """The node that a value or weight of a program is named after."""
        return next((self._nodes[base] for base in _bases(name) if base in self._nodes), None)

    def reference_names(self, name: str, values: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
        """Names among :meth:`values` that a value of a program goes by, and others that it may go by."""
        base, _, rest = name.partition("_cast_fp")
        part = re.fullmatch(r"(?:16|32)_(\d+)", rest)
        suffix = f"#{part[1]}" if part else ""
        first, *others = [f"{candidate}{suffix}" for candidate in _bases(name)]
        return [n for n in (first,) if n in values], [n for n in others if n in values]

    def constant(self, node: fx.Node | Any) -> Tensor | None:
        """The value of a node that depends on parameters alone, float64; None for one that depends on the image."""
        if not isinstance(node, fx.Node):
            return None
        if node.name not in self._constants:
            self._constants[node.name] = self._evaluate_constant(node)
        return self._constants[node.name]

    def _evaluate_constant(self, node: fx.Node) -> Tensor | None:
        if node.op == "placeholder":
            stored = self._parameters.get(node.name)
            return None if stored is None else _wide(stored[1])
        if node.op != "call_function" or not node.all_input_nodes:
            return None
        inputs = {source: self.constant(source) for source in node.all_input_nodes}
        if any(value is None for value in inputs.values()):
            return None
        result = _call(node, inputs)
        return result if isinstance(result, Tensor) else None

    def origin(self, node: fx.Node) -> str:
        """The parameters that a constant node is computed from."""
        if node.op == "placeholder":
            return self._parameters[node.name][0]
        names = dict.fromkeys(self.origin(source) for source in node.all_input_nodes)
        return " and ".join(names)

    def layers(self, node: fx.Node) -> list[Layer]:
        """The layer whose output a node is, with everything folded in first, then with ever less."""
        source = self._folded_into(node)
        outermost = self._layer(node)
        inner = self.layers(source) if source is not None else []
        return ([outermost] if outermost is not None else []) + inner

    def tensors(self) -> Iterator[Expected]:
        """Everything that a program may hold: what depends on parameters alone, and layers with what is folded in."""
        for node in self._nodes.values():
            value = self.constant(node)
            if value is not None and value.is_floating_point():
                yield Expected(value, self.origin(node))
            elif (layer := self._layer(node)) is not None:
                yield layer.weight
                yield layer.bias

    def _folded_into(self, node: fx.Node) -> fx.Node | None:
        """The operand of a folding operation that carries the layer."""
        if node.op != "call_function" or node.target in _CONVOLUTIONS or node.target is _aten.linear.default:
            return None
        computed = [arg for arg in node.all_input_nodes if self.constant(arg) is None]
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
        gain_shift = self._gain_and_shift(node, inner.bias.value.numel())
        return None if gain_shift is None else inner.mapped(*gain_shift)

    def _plain_layer(self, node: fx.Node) -> Layer | None:
        _, weight_node, *rest = node.args
        weight = self.constant(weight_node)
        if weight is None or not isinstance(weight_node, fx.Node):
            return None
        bias_node = rest[0] if rest else None
        bias = self.constant(bias_node)
        name = self.origin(weight_node)
        width = weight.shape[0]
        told = self.origin(bias_node) if isinstance(bias_node, fx.Node) else f"no bias beside {name}"
        zeros = torch.zeros(width, dtype=torch.float64)
        return Layer(Expected(weight, name), Expected(zeros if bias is None else bias, told))

    def _gain_and_shift(self, node: fx.Node, width: int) -> tuple[Tensor | float, Tensor | float, str] | None:
        """A node as ``gain * y + shift`` of one operand, per channel."""
        if node.target is _aten._native_batch_norm_legit_no_training.default:
            return self._batch_norm(node)
        operands = node.args[:2]
        if node.kwargs or len(operands) != 2 or len(node.args) > 2:
            return None
        constants = [self.constant(a) if isinstance(a, fx.Node) else _number(a) for a in operands]
        first_computed = constants[0] is None
        other = constants[1] if first_computed else constants[0]
        if other is None or (constants[0] is None) == (constants[1] is None):
            return None
        if isinstance(other, Tensor) and other.numel() not in (1, width):
            return None
        told = next(
            (self.origin(a) for a in operands if isinstance(a, fx.Node) and self.constant(a) is not None), ""
        )
        match node.target:
            case _aten.mul.Tensor | _aten.mul.Scalar:
                return other, 0.0, told
            case _aten.add.Tensor | _aten.add.Scalar:
                return 1.0, other, told
            case _aten.sub.Tensor if first_computed:
                return 1.0, -other, told
            case _aten.div.Tensor if first_computed:
                return 1.0 / other, 0.0, told
        return None

    def _batch_norm(self, node: fx.Node) -> tuple[Tensor, Tensor, str] | None:
        gamma, beta, mean, variance = (self.constant(arg) for arg in node.args[1:5])
        epsilon = node.args[6]
        if mean is None or variance is None or not isinstance(epsilon, float):
            return None
        gain = (1.0 if gamma is None else gamma) / torch.sqrt(variance + epsilon)
        shift = (0.0 if beta is None else beta) - mean * gain
        statistics = node.args[3]
        name = self.origin(statistics) if isinstance(statistics, fx.Node) else "BatchNorm"
        return gain, shift, name.removesuffix(".running_mean")

    def values(self, image: Tensor, rounding: torch.dtype | None = None) -> dict[str, Tensor]:
        """Every value of the graph for one normalised image.

        Args:
            image: float64 (1, 3, S, S).
            rounding: A type to whose values weights and results are rounded; computed in float32 then.

        Returns:
            Node name to float64 (or float32) tensor, in order; parts of a node with several outputs are called
            ``NAME#0`` and so on, the first also ``NAME``.
        """
        results: dict[fx.Node, Any] = {}
        named: dict[str, Tensor] = {}
        with torch.no_grad():
            for node in self._program.graph.nodes:
                if node.op == "placeholder":
                    stored = self._parameters.get(node.name)
                    results[node] = _rounded(image if stored is None else _wide(stored[1]), rounding)
                elif node.op == "call_function":
                    results[node] = _rounded(_call(node, results, rounding), rounding)
                    named.update(_named(node.name, results[node]))
        return named

    def rounded(self, image: Tensor, rounding: torch.dtype) -> Tensor:
        """The answer with every weight and value rounded to a type; float64 (1, classes)."""
        return list(self.values(image, rounding).values())[-1].double()


def _rounded(value: Any, rounding: torch.dtype | None) -> Any:
    if rounding is None:
        return value
    if isinstance(value, (tuple, list)):
        return type(value)(_rounded(part, rounding) for part in value)
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(rounding).float()
    return value


def _bases(name: str) -> list[str]:
    """What a name was before coremltools appended ``_cast_fp16`` and the like, and maybe ``_1`` against clashes."""
    base = re.sub(r"(_(quantized|dequantized|palettized)(_\d+)?)+$", "", name.partition("_cast_fp")[0])
    return [base, base.removesuffix("_batch_norm_1d"), re.sub(r"_\d+$", "", base)]


def _named(name: str, value: Any) -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, (tuple, list)):
        parts = {f"{name}#{i}": part for i, part in enumerate(value) if isinstance(part, Tensor)}
        return parts | ({name: value[0]} if value and isinstance(value[0], Tensor) else {})
    return {}


def _call(node: fx.Node, values: Any, rounding: torch.dtype | None = None) -> Any:
    """Run one node in float64, or in float32 where results will be rounded."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda source: values[source])
    if kwargs.get("dtype") in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        kwargs = {**kwargs, "dtype": torch.float64 if rounding is None else torch.float32}
    function: Any = node.target
    return function(*args, **kwargs)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _floats(node: fx.Node) -> list[float]:
    return [arg for arg in (*node.args, *node.kwargs.values()) if isinstance(arg, float) and math.isfinite(arg)]


def _sizes(node: fx.Node) -> list[int]:
    shape = node.meta["val"].shape if isinstance(node.meta.get("val"), Tensor) else ()
    return [int(size) for size in shape]
