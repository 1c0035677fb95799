"""How much each channel of a network counts for its loss on photos.

A channel's importance is the first-order Taylor estimate of what the loss does when the channel is set to zero:
gradient times weight, where the weight is a gate of 1 on the channel's activation. (It equals the sum of gradient
times weight over all weights that read the channel.) It is computed for each photo, squared and averaged.

Source: Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), equation 8, which
the EfficientViT paper uses in its section 2.3. Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_edge.analysis.channels_report import ChannelGroup, ChannelKind, Importance, Quality
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.models.layers import FeedForward
from evit_edge.models.pruning import attention_at

Batch = tuple[Tensor, Tensor]
"""Normalised float32 (B, 3, S, S), and int64 (B,) the right class ids."""


@dataclass(frozen=True)
class _Probe:
    """Where the channels of a group can be seen: some of a module's outputs."""

    group: ChannelGroup
    module: nn.Module
    start: int
    stop: int


def importances(model: EfficientViT, batches: Iterable[Batch]) -> list[ChannelGroup]:
    """What each channel of the attentions and feed-forward networks counts.

    Args:
        model: In eval mode.
        batches: Photos with their classes; how they are cut into batches makes no difference.

    Returns:
        In the order of execution, nothing kept yet.
    """
    probes = list(_probes(model))
    totals: list[Importance] = [np.zeros(probe.stop - probe.start) for probe in probes]
    seen = 0
    for images, truth in batches:
        gates = _gate_gradients(model, {probe.module for probe in probes}, images, truth)
        for total, probe in zip(totals, probes, strict=True):
            total += gates[probe.module][:, probe.start : probe.stop].square().sum(0).numpy()  # noqa: PLW2901
        seen += len(truth)
    return [
        replace(probe.group, importance=tuple(float(value) for value in total / seen))
        for probe, total in zip(probes, totals, strict=True)
    ]


def _probes(model: EfficientViT) -> Iterator[_Probe]:
    """Keys speak for their queries: past its depthwise convolution, a query's gate has the same gradient."""
    for widths in model.config.parts():
        attention = attention_at(model, widths.part)
        if attention is None:
            ffn = cast(FeedForward, model.get_submodule(f"{widths.part}.m"))
            embedding = ffn.pw1.conv.in_channels
            yield _Probe(ChannelGroup(widths.part, ChannelKind.FFN, 0, embedding), ffn.act, 0, widths.hidden)
            continue
        for head, qkv in enumerate(attention.qkvs):
            key, _, value = attention.parts(head)
            for kind, start, stop in (
                (ChannelKind.QK, key, 2 * key),
                (ChannelKind.V, 2 * key, 2 * key + value),
            ):
                yield _Probe(ChannelGroup(widths.part, kind, head, attention.shape.dim), qkv, start, stop)


def _gate_gradients(
    model: EfficientViT, modules: set[nn.Module], images: Tensor, truth: Tensor
) -> dict[nn.Module, Tensor]:
    """The loss's gradient by a gate of 1 on each output channel, for each photo; float64 (B, C) each."""
    if len(truth) == 1:
        # In torch 2.13 on CPUs, BatchNorm's gradient is wrong for a batch of one whose gradient comes in another
        # memory layout than its input, as it does from a product of attention.
        twice = _gate_gradients(model, modules, torch.cat([images, images]), torch.cat([truth, truth]))
        return {module: gates[:1] for module, gates in twice.items()}
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        outputs[module] = output

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        logits = model(images.requires_grad_())  # (B, classes)
    finally:
        for handle in handles:
            handle.remove()
    loss = F.cross_entropy(logits, truth, reduction="sum")  # so that each photo has its own gradient
    gradients = torch.autograd.grad(loss, list(outputs.values()))
    found: dict[nn.Module, Tensor] = {}
    for (module, output), gradient in zip(outputs.items(), gradients, strict=True):
        products = (output.detach() * gradient).double()  # (B * windows, C, H, W)
        products = products.reshape(len(truth), -1, *products.shape[1:])  # (B, windows, C, H, W)
        found[module] = products.sum((1, 3, 4))  # (B, C)
    return found


@torch.no_grad()
def quality(model: EfficientViT, batches: Iterable[Batch]) -> Quality:
    """Mean cross entropy and top-1 on photos; the model in eval mode."""
    loss, right, seen = 0.0, 0, 0
    for images, truth in batches:
        logits = model(images)  # (B, classes)
        loss += float(F.cross_entropy(logits, truth, reduction="sum"))
        right += int((logits.argmax(1) == truth).sum())
        seen += len(truth)
    return Quality(loss / seen, right / seen)
