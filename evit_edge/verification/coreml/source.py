"""The torch side of the proof: what each weight of a program has to be, and what each value has to be.

coremltools names a value of an ML Program after the node of the exported graph that it comes from, and a weight
after its parameter. This module exports the network as a converter does, with the same decompositions, and answers
in float64 by those names.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

_WELL_KNOWN = (1 / 6, 1 / 3, 2 / 3, 1 / 255, math.sqrt(0.5), math.sqrt(2), math.sqrt(2 / math.pi), 0.044715)
"""Factors inside torch's operations (hardswish, gelu), which no argument of the graph mentions."""


class SourceGraph:
    """The exported graph of a network, evaluated in float64.

    Attributes:
        nodes: Its nodes by name.

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
        self.nodes: dict[str, fx.Node] = {node.name: node for node in self._program.graph.nodes}
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
        return next((self.nodes[base] for base in _bases(name) if base in self.nodes), None)

    def reference_names(self, name: str, values: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
        """Names among :meth:`values` that a value of a program goes by, and others that it may go by."""
        _, _, rest = name.partition("_cast_fp")
        part = re.fullmatch(r"(?:16|32)_(\d+)", rest)
        suffix = f"#{part[1]}" if part else ""
        first, *others = [f"{candidate}{suffix}" for candidate in _bases(name)]
        return [n for n in (first,) if n in values], [n for n in others if n in values]

    def constant(self, node: fx.Node | Any) -> Tensor | None:
        """The value of a node that depends on parameters alone, float64; None for one that sees the image."""
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
    """What a name was before coremltools appended ``_cast_fp16`` and the like, maybe ``_1`` against clashes."""
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


def _floats(node: fx.Node) -> list[float]:
    return [arg for arg in (*node.args, *node.kwargs.values()) if isinstance(arg, float) and math.isfinite(arg)]


def _sizes(node: fx.Node) -> list[int]:
    shape = node.meta["val"].shape if isinstance(node.meta.get("val"), Tensor) else ()
    return [int(size) for size in shape]
