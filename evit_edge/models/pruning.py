"""Taking channels out of a network: the function without them, in a smaller network of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evit_edge.errors import RequestError
from evit_edge.models.attention import CascadedGroupAttention, Placement
from evit_edge.models.design import PartWidths
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.models.layers import FeedForward

_PER_CHANNEL = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


@dataclass(frozen=True)
class KeptChannels:
    """What stays of one attention or feed-forward network; everywhere ascending, without repetition.

    Attributes:
        part: As in :meth:`~evit_edge.models.config.EfficientViTConfig.parts`.
        keys: For each head of an attention, the channels of its query and key.
        values: For each head of an attention, the channels of its value.
        hidden: Of a feed-forward network, its hidden channels.
    """

    part: str
    keys: tuple[tuple[int, ...], ...] = ()
    values: tuple[tuple[int, ...], ...] = ()
    hidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Ascending."""
        for channels in (*self.keys, *self.values, self.hidden):
            if list(channels) != sorted(set(channels)):
                raise RequestError(f"{self.part}: channels {channels} given; ascending ones are needed")

    @property
    def widths(self) -> PartWidths:
        """How many stay."""
        keys, values = (tuple(len(channels) for channels in heads) for heads in (self.keys, self.values))
        return PartWidths(self.part, keys, values, len(self.hidden))


def attention_at(model: EfficientViT, part: str) -> CascadedGroupAttention | None:
    """The attention that stands at ``part``; None where that is a feed-forward network."""
    found = model.get_submodule(f"{part}.m")
    return None if isinstance(found, FeedForward) else found.attn  # type: ignore[return-value]


def prune(model: EfficientViT, kept: Iterable[KeptChannels]) -> EfficientViT:
    """Build the network without the channels that are not kept.

    It computes what ``model`` computes with those channels' activations set to zero. Parts that are not named stay
    whole. The factor on the product of query and key stays that of the unpruned width.

    Args:
        model: Left as it is.
        kept: What stays, for the parts that become narrower.

    Raises:
        RequestError: There is no such part or channel, or nothing of a head would stay.
    """
    chosen = {part.part: part for part in kept}
    left = [chosen[w.part].widths if w.part in chosen else w for w in model.config.parts()]
    unknown = sorted(set(chosen) - {widths.part for widths in left})
    if unknown:
        raise RequestError(f"{model.config.title} has no part {unknown[0]}")
    whole = set(replace(model.config, pruned=()).parts())
    pruned = EfficientViT(replace(model.config, pruned=tuple(w for w in left if w not in whole)))
    state = {key: value.detach().clone() for key, value in model.state_dict().items()}
    for part in chosen.values():
        attention = attention_at(model, part.part)
        if attention is None:
            _narrow_ffn(state, part)
        else:
            _narrow_attention(state, part, attention)
    pruned.load_state_dict(state)
    return pruned.train(model.training).to(next(model.parameters()).dtype)


def _narrow_ffn(state: dict[str, Tensor], part: KeptChannels) -> None:
    prefix, hidden = f"{part.part}.m", list(part.hidden)
    _take(state, f"{prefix}.pw1", hidden)
    state[f"{prefix}.pw2.conv.weight"] = state[f"{prefix}.pw2.conv.weight"][:, hidden]


def _narrow_attention(state: dict[str, Tensor], part: KeptChannels, attention: CascadedGroupAttention) -> None:
    prefix, before = f"{part.part}.m.attn", 0
    columns: list[int] = []  # of the projection
    for head, (keys, values) in enumerate(zip(part.keys, part.values, strict=True)):
        key, _, value = attention.parts(head)
        rows = [*keys, *(key + i for i in keys), *(2 * key + i for i in values)]
        _take(state, f"{prefix}.qkvs.{head}", rows)
        if attention.dws:
            _take(state, f"{prefix}.dws.{head}", list(keys))
        columns += [before + i for i in values]
        before += value
    state[f"{prefix}.proj.1.conv.weight"] = state[f"{prefix}.proj.1.conv.weight"][:, columns]
    state.update(_placements(prefix, part, attention))


def _placements(
    prefix: str, part: KeptChannels, attention: CascadedGroupAttention
) -> Iterator[tuple[str, Tensor]]:
    """Where each head's values stand in the next one's split, for the heads that are no longer whole."""
    for head, placement in enumerate(attention.placements):
        values = torch.tensor(part.values[head])
        index = placement.index[values] if isinstance(placement, Placement) else values
        if len(index) < attention.shape.split:
            yield f"{prefix}.placements.{head}.index", index


def _take(state: dict[str, Tensor], layer: str, channels: list[int]) -> None:
    """Leave a ConvNorm these output channels."""
    for name in _PER_CHANNEL:
        state[f"{layer}.{name}"] = state[f"{layer}.{name}"][channels]
