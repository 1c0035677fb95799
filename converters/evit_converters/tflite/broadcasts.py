"""Repetition that litert-torch gets wrong is taken out of a module before it is converted.

The converter moves the transposition between NCHW and NHWC across an expansion whose shape stays as it was, and
leaves the counts of a repetition in the order of NCHW. ``x * gate.expand_as(x)`` between two convolutions is then
refused ("operands don't have broadcast-compatible shapes"), or, where channels, height and width are equal, turned
into a model that answers wrongly or reads beyond its tensors (litert-torch 0.10.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_REPEATING = frozenset(
    getattr(_ATEN, name).default for name in ("expand", "expand_as", "broadcast_to", "repeat", "tile")
)
_RANK = 4  # what the converter lays as NHWC

# Elementwise: they repeat an operand of size 1 themselves.
_BROADCASTING = frozenset(
    getattr(getattr(_ATEN, name), overload)
    for name in (
        *("add", "sub", "mul", "div", "pow", "remainder", "fmod", "eq", "ne", "lt", "le", "gt", "ge"),
        *("add_", "sub_", "mul_", "div_", "maximum", "minimum", "atan2", "where"),
        *("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"),
    )
    for overload in getattr(_ATEN, name).overloads()
)


def without_repetition(module: nn.Module, example: Tensor) -> nn.Module:
    """The same module, its expansions and repetitions expressed by what converts correctly.

    Repetition of what has size 1 goes away for readers that broadcast; all other becomes concatenation.

    Args:
        module: In eval mode; it is left as it is.
        example: An input.

    Returns:
        ``module`` itself where it repeats nothing in four dimensions, else its graph for inputs of this shape.
    """
    with torch.no_grad():
        with _Watch() as watch:  # type: ignore[no-untyped-call]
            module(example)
        if not watch.repeats:
            return module
        program = torch.export.export(module, (example,))
    graph = program.graph
    for node in [node for node in graph.nodes if node.target in _REPEATING and _repeats(node)]:
        source = cast(fx.Node, node.args[0])
        with graph.inserting_before(node):
            if _stretches(node):
                for user in [user for user in node.users if _broadcasts(user, node)]:
                    user.replace_input_with(node, source)
            if node.users:
                node.replace_all_uses_with(_concatenation(graph, node))
        graph.erase_node(node)
    return cast(nn.Module, program.module())


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees whether anything is repeated; quicker than exporting each module for it."""

    repeats = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _REPEATING and result.dim() == _RANK and result.shape != args[0].shape:
            self.repeats = True
        return result


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _aligned(node: fx.Node) -> list[tuple[int, int]]:
    """Sizes of each dimension before and after; a dimension that is new had size 1."""
    before, after = _shape(node.args[0]), _shape(node)
    return list(zip((1,) * (len(after) - len(before)) + before, after, strict=True))


def _repeats(node: fx.Node) -> bool:
    return len(_shape(node)) == _RANK and _shape(node) != _shape(node.args[0])


def _stretches(node: fx.Node) -> bool:
    """Whether only dimensions of size 1 become larger."""
    return all(before in {1, after} for before, after in _aligned(node))


def _broadcasts(user: fx.Node, repeated: fx.Node) -> bool:
    """Whether an operator computes the same where it is given what is not yet repeated."""
    if user.target not in _BROADCASTING:
        return False
    operands = [repeated.args[0] if node is repeated else node for node in user.all_input_nodes]
    return np.broadcast_shapes(*map(_shape, operands)) == _shape(user)


def _call(graph: fx.Graph, like: fx.Node, target: Callable[..., Any], *args: Any) -> fx.Node:
    """A new node with the origin of another one; its value is an empty tensor of the right shape."""
    new = graph.call_function(target, args)
    new.meta = {**like.meta, "val": target(*fx.map_arg(args, lambda node: node.meta["val"]))}
    return new


def _concatenation(graph: fx.Graph, node: fx.Node) -> fx.Node:
    whole = cast(fx.Node, node.args[0])
    if len(_shape(whole)) < _RANK:
        whole = _call(graph, node, _ATEN.reshape.default, whole, [before for before, _ in _aligned(node)])
    for dimension, (before, after) in enumerate(_aligned(node)):
        if before != after:
            whole = _call(graph, node, _ATEN.cat.default, [whole] * (after // before), dimension)
    return whole
