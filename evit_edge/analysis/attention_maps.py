"""Attention maps of any network, read off its softmaxes while it runs. Imports torch.

A softmax over the last dimension of something of three and more dimensions is an attention map; it belongs to the
innermost module with parameters that was running. A module that takes one softmax after the other, as cascaded
group attention does, has a head in each; one that takes a single softmax has its heads in the second dimension.
Fused attention is computed operator by operator meanwhile, so that its softmax can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from evit_edge.analysis.clock import unfused_attention

Found = Callable[[str, nn.Module, Tensor], None]
"""Takes a block's name, its module, and the maps (N, heads, queries, keys) of one call."""

_SOFTMAXES = {torch.ops.aten._softmax, torch.ops.aten._safe_softmax}


@contextmanager
def watched(network: nn.Module, found: Found) -> Iterator[None]:
    """Tell the attention maps of all that the network computes meanwhile, without gradients.

    Args:
        network: In eval mode.
        found: Called for each call of a module that attends.
    """
    watch = _Watch(found)
    handles = watch.hooks(network)
    try:
        with torch.no_grad(), unfused_attention(), watch:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects softmaxes for the module that is running."""

    def __init__(self, found: Found) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found
        self._running: list[tuple[str, nn.Module, list[Tensor]]] = []

    def hooks(self, network: nn.Module) -> list[Any]:
        """Have every module with parameters say when it starts and ends."""
        handles: list[Any] = []
        for name, module in network.named_modules():
            if any(True for _ in module.parameters()):
                handles.append(module.register_forward_pre_hook(self._starter(name)))
                handles.append(module.register_forward_hook(self._end))
        return handles

    def _starter(self, name: str) -> Callable[[nn.Module, Any], None]:
        def start(module: nn.Module, _: Any) -> None:
            self._running.append((name, module, []))

        return start

    def _end(self, *_: Any) -> None:
        name, module, maps = self._running.pop()
        if maps:
            self._found(name, module, _heads_of(module, maps))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in _SOFTMAXES and out.ndim > 2 and args[1] in (-1, out.ndim - 1) and self._running:
            self._running[-1][2].append(out)
        return out


def _heads_of(module: nn.Module, maps: list[Tensor]) -> Tensor:
    """Maps of one call as (N, heads, queries, keys)."""
    if len(maps) > 1 and len({entry.shape for entry in maps}) == 1:
        return torch.stack([entry.flatten(0, -3) for entry in maps], dim=1)  # (N, heads, S, S')
    (first, *_) = maps
    if first.ndim > 3:
        return first.flatten(0, -4)  # (N, heads, S, S')
    heads = getattr(module, "num_heads", 1)
    count = heads if isinstance(heads, int) and len(first) % heads == 0 else 1
    return first.reshape(-1, count, *first.shape[1:])  # (N, heads, S, S'): as nn.MultiheadAttention lays them
