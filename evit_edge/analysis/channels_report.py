"""How much each channel of a network counts, and what a budget leaves: figures and JSON. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_edge.files import replacing
from evit_edge.models.complexity import Complexity
from evit_edge.strict_json import to_json

SCHEMA = "evit-edge-analyze-channels/1"

Importance = npt.NDArray[np.float64]


class ChannelKind(StrEnum):
    """What a channel belongs to.

    A query's channel and the key's of the same number meet in one product and nowhere else. They count the same,
    and one is nothing without the other, so they are one unit.
    """

    QK = "qk"
    V = "v"
    FFN = "ffn"


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of one kind in one head, or in one feed-forward network; the last of them is never taken.

    Attributes:
        part: Of the network, such as ``stages.0.blocks.0.mixer``.
        kind: Of the channels.
        head: Of an attention; 0 for a feed-forward network.
        embedding: Channels of the plane that goes through the part.
        importance: Of each channel of the unpruned network, at least 0.
        kept: Channels that the budget leaves, ascending.
    """

    part: str
    kind: ChannelKind
    head: int
    embedding: int
    importance: tuple[float, ...] = ()
    kept: tuple[int, ...] = ()


@dataclass(frozen=True)
class PartShare:
    """One kind of channels in one part, its heads together.

    Attributes:
        part: Of the network.
        kind: Of the channels.
        before: Channels.
        after: Channels that stay.
        embedding: Channels of the plane that goes through the part.
        importance: Mean over the channels.
    """

    part: str
    kind: ChannelKind
    before: int
    after: int
    embedding: int
    importance: float


@dataclass(frozen=True)
class Quality:
    """How a network answers on the photos: mean cross entropy, and top-1 as 0..1."""

    loss: float
    top1: float


@dataclass(frozen=True)
class ChannelsReport:
    """An analysis of channels.

    Attributes:
        name: Of the model.
        architecture: Its variant.
        weights_sha256: Of the checkpoint, hex.
        photos: That were looked at.
        unreadable: Photos left out.
        keep: Part of the channels that stays, 0..1.
        steps: Rounds of measuring and taking away.
        groups: In the order of execution.
        before: What the network costs.
        after: What it costs pruned.
        quality_before: On these photos.
        quality_after: On these photos, pruned and not trained since.
        created: UTC, ISO 8601.
        command: The command line.
        tool_version: Of evit-edge.
    """

    name: str
    architecture: str
    weights_sha256: str
    photos: int
    unreadable: int
    keep: float
    steps: int
    groups: tuple[ChannelGroup, ...]
    before: Complexity
    after: Complexity
    quality_before: Quality
    quality_after: Quality
    created: str
    command: str
    tool_version: str

    @property
    def shares(self) -> tuple[PartShare, ...]:
        """The heads of each part taken together."""
        together: dict[tuple[str, ChannelKind], list[ChannelGroup]] = {}
        for group in self.groups:
            together.setdefault((group.part, group.kind), []).append(group)
        return tuple(
            PartShare(
                part,
                kind,
                before=sum(len(group.importance) for group in groups),
                after=sum(len(group.kept) for group in groups),
                embedding=groups[0].embedding,
                importance=float(np.mean([value for group in groups for value in group.importance])),
            )
            for (part, kind), groups in together.items()
        )


def kept_channels(groups: Sequence[Importance], budget: int) -> list[tuple[int, ...]]:
    """Choose what stays: over all groups the most important channels, and of each group at least one.

    Args:
        groups: Importance of each channel; (channels,) each.
        budget: Channels that stay, of all groups together.

    Returns:
        For each group the channels that stay, ascending.
    """
    where = [(group, i) for group, values in enumerate(groups) for i in range(len(values))]
    values = np.concatenate(groups)
    best = {(group, int(np.argmax(values))) for group, values in enumerate(groups)}
    order = sorted(range(len(where)), key=lambda i: (where[i] not in best, -values[i]))
    chosen = {where[i] for i in order[: max(len(groups), budget)]}
    return [tuple(i for i in range(len(v)) if (group, i) in chosen) for group, v in enumerate(groups)]


def document(report: ChannelsReport) -> dict[str, Any]:
    """The report as JSON, with what follows from it."""
    return {"schema": SCHEMA, **to_json(report), "shares": to_json(report.shares)}


def write_channels(path: Path, report: ChannelsReport) -> None:
    """Write all figures as JSON, whole or not at all.

    Raises:
        OutputError: The file cannot be written there.
    """
    text = json.dumps(document(report), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
