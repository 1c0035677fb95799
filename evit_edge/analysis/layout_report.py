"""What other shares of attention layers cost at equal latency: the figures and their JSON. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evit_edge.analysis.runtime_report import ModelRuntime, model_document
from evit_edge.evaluation.statistics import Interval
from evit_edge.files import replacing
from evit_edge.strict_json import to_json

SCHEMA = "evit-edge-analyze-layout/1"


@dataclass(frozen=True)
class Accuracy:
    """After a short training.

    Attributes:
        top1: On the held-out photos, 0..1.
        interval: Of it, 95 %.
        photos: Held out.
        epochs: Trained.
    """

    top1: float
    interval: Interval
    photos: int
    epochs: int


@dataclass(frozen=True)
class LayoutNet:
    """One mixture, scaled in width to the wanted latency.

    Attributes:
        attention_layers: How many attend.
        layers: Of both kinds.
        width: Channels that met the latency best.
        latency_s: One pass at the matched batch, median, in turn with the others.
        deviation: Of the latency from the target, such as 0.02 for 2 % slower.
        images_per_s: Throughput at the larger batch, in turn with the others.
        runtime: Where the time goes at the larger batch.
        macs: Multiply-accumulates of convolutions and products, for one picture.
        accuracy: Where it was trained.
    """

    attention_layers: int
    layers: int
    width: int
    latency_s: float
    deviation: float
    images_per_s: float
    runtime: ModelRuntime
    macs: float
    accuracy: Accuracy | None = None

    @property
    def share(self) -> float:
        """Of layers that attend."""
        return self.attention_layers / self.layers


@dataclass(frozen=True)
class LayoutReport:
    """An analysis of layouts.

    Attributes:
        reference: Name of the network that sets the latency.
        reference_latency_s: Of it, measured in turn with the others.
        speedup: How many times faster than it the nets shall be.
        batch: At which latencies are matched.
        image_size: Side of the input in pixels.
        nets: By rising share.
        device: Name of the processor.
        processor: ``cpu`` or ``cuda``.
        threads: Of torch.
        engine: torch and its version.
        flops_per_byte: The machine's balance.
        data: Names of the folders that were trained on; empty where none was.
        created: UTC, ISO 8601.
        command: The command line.
        tool_version: Of evit-edge.
    """

    reference: str
    reference_latency_s: float
    speedup: float
    batch: int
    image_size: int
    nets: tuple[LayoutNet, ...]
    device: str
    processor: str
    threads: int
    engine: str
    flops_per_byte: float
    data: tuple[str, ...]
    created: str
    command: str
    tool_version: str

    @property
    def target_s(self) -> float:
        """The latency that all nets shall have."""
        return self.reference_latency_s / self.speedup


def document(report: LayoutReport) -> dict[str, Any]:
    """The report as JSON, with what follows from it."""
    nets = [to_json(net) | {"share": net.share, "runtime": model_document(net.runtime)} for net in report.nets]
    return {"schema": SCHEMA, **to_json(report), "target_s": report.target_s, "nets": nets}


def write_layout(path: Path, report: LayoutReport) -> None:
    """Write all figures as JSON, whole or not at all.

    Raises:
        OutputError: The file cannot be written there.
    """
    text = json.dumps(document(report), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
