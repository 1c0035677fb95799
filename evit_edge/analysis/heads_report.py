"""How alike the heads of a network attend: the figures and their JSON. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from evit_edge.files import replacing
from evit_edge.strict_json import to_json

SCHEMA = "evit-edge-analyze-heads/1"


@dataclass(frozen=True)
class BlockHeads:
    """The heads of one attention.

    Attributes:
        name: Of the module.
        splits: Whether each head sees a part of the channels (group attention) or all of them.
        maps: Attention maps that were compared: photos, times windows where attention is in windows.
        tokens: Queries of a map.
        cosine: For each head, its largest cosine similarity to another head's map, averaged; 0..1.
        correlation: The same after the maps' mean is taken off, -1..1: uniform attention counts for nothing.
    """

    name: str
    splits: bool
    maps: int
    tokens: int
    cosine: tuple[float, ...]
    correlation: tuple[float, ...]

    @property
    def mean_cosine(self) -> float:
        """Over the heads."""
        return fmean(self.cosine)

    @property
    def mean_correlation(self) -> float:
        """Over the heads."""
        return fmean(self.correlation)


@dataclass(frozen=True)
class ModelHeads:
    """All attentions of a network.

    Attributes:
        name: Of the network.
        trained: Whether its weights come from a file.
        blocks: In the order of execution, those with two heads and more.
        single: Attentions of a single head, which have nothing to be compared with.
    """

    name: str
    trained: bool
    blocks: tuple[BlockHeads, ...]
    single: int = 0

    @property
    def mean_cosine(self) -> float:
        """Over the blocks."""
        return fmean(block.mean_cosine for block in self.blocks)

    @property
    def mean_correlation(self) -> float:
        """Over the blocks."""
        return fmean(block.mean_correlation for block in self.blocks)

    @property
    def features(self) -> str:
        """What the heads see, in words."""
        kinds = {block.splits for block in self.blocks}
        return "both" if len(kinds) > 1 else "feature splits" if True in kinds else "full features"


@dataclass(frozen=True)
class HeadsReport:
    """An analysis of heads.

    Attributes:
        photos: That were looked at.
        unreadable: Photos left out.
        models: In the order given.
        created: UTC, ISO 8601.
        command: The command line.
        tool_version: Of evit-edge.
    """

    photos: int
    unreadable: int
    models: tuple[ModelHeads, ...]
    created: str
    command: str
    tool_version: str

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must not miss."""
        return tuple(
            f"{model.name} has random weights: its maps are near uniform, so that every cosine is near 1"
            for model in self.models
            if not model.trained
        )


def document(report: HeadsReport) -> dict[str, Any]:
    """The report as JSON, with what follows from it."""
    models = []
    for model in report.models:
        blocks = [
            to_json(block) | {"mean_cosine": block.mean_cosine, "mean_correlation": block.mean_correlation}
            for block in model.blocks
        ]
        means = {"mean_cosine": model.mean_cosine, "mean_correlation": model.mean_correlation}
        models.append(to_json(model) | means | {"features": model.features, "blocks": blocks})
    return {"schema": SCHEMA, **to_json(report), "models": models, "remarks": list(report.remarks)}


def write_heads(path: Path, report: HeadsReport) -> None:
    """Write all figures as JSON, whole or not at all.

    Raises:
        OutputError: The file cannot be written there.
    """
    text = json.dumps(document(report), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
