"""Where run time goes, by kind of work and by what bounds it: the figures and their JSON. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evit_edge.analysis.kinds import Kind
from evit_edge.analysis.work import Work
from evit_edge.benchmark.figures import Bound
from evit_edge.files import replacing
from evit_edge.strict_json import to_json

SCHEMA = "evit-edge-analyze-runtime/1"


@dataclass(frozen=True)
class OperatorWork:
    """All calls of one operator that are bound alike, in one forward pass.

    Attributes:
        name: As PyTorch spells it, such as ``aten::conv2d``.
        kind: Of its work.
        bound: Compute or memory, by its arithmetic intensity against the machine's balance.
        calls: In one pass.
        time_s: Of all calls, with what they call themselves.
        flops: Of all calls.
        bytes_moved: Of all calls.
        least_s: The least time that the machine could take for that.
    """

    name: str
    kind: Kind
    bound: Bound
    calls: float
    time_s: float
    flops: float
    bytes_moved: float
    least_s: float


@dataclass(frozen=True)
class KindShare:
    """All operators of a kind, in one forward pass.

    Attributes:
        kind: Which.
        calls: In one pass.
        time_s: Together.
        share: Of the whole run time.
        intensity: Operations a byte, over all of them.
        memory_share: Of this kind's time, what falls on operators below the machine's balance.
        least_s: The least time that the machine could take.
    """

    kind: Kind
    calls: float
    time_s: float
    share: float
    intensity: float
    memory_share: float
    least_s: float


@dataclass(frozen=True)
class ModelRuntime:
    """Where one network's time goes.

    Attributes:
        name: Of the network.
        form: Train or inference.
        image_size: Side of the input in pixels.
        batch: Pictures in a pass.
        parameters: Of the network, as it runs.
        whole_s: One pass without the profiler, median.
        runs: Passes timed without it.
        profiled: Passes timed with it.
        slower: How many times slower the profiler made a pass; times are divided by that.
        operators: The longest first.
    """

    name: str
    form: str
    image_size: int
    batch: int
    parameters: int
    whole_s: float
    runs: int
    profiled: int
    slower: float
    operators: tuple[OperatorWork, ...]

    @property
    def images_per_s(self) -> float:
        """Throughput."""
        return self.batch / self.whole_s

    @property
    def kinds(self) -> tuple[KindShare, ...]:
        """By kind, in the order of :class:`Kind`; kinds without work are there with 0."""
        return tuple(_kind_share(kind, self.operators, self.whole_s) for kind in Kind)

    def share(self, kind: Kind) -> float:
        """Of the whole run time."""
        return sum(entry.time_s for entry in self.operators if entry.kind is kind) / self.whole_s

    @property
    def outside_share(self) -> float:
        """What no operator explains: Python and PyTorch's dispatcher, on CUDA a device that waits."""
        return 1.0 - sum(entry.time_s for entry in self.operators) / self.whole_s

    @property
    def memory_share(self) -> float:
        """Part of the whole spent in operators below the machine's balance."""
        return sum(e.time_s for e in self.operators if e.bound is Bound.MEMORY) / self.whole_s

    @property
    def compute_share(self) -> float:
        """Part of the whole spent in operators above the machine's balance."""
        return sum(e.time_s for e in self.operators if e.bound is Bound.COMPUTE) / self.whole_s

    @property
    def memory_share_in_paper(self) -> float:
        """Part of the whole spent in the kinds that the paper counts as memory-bound, whatever their intensity."""
        return sum(e.time_s for e in self.operators if e.kind.memory_bound_in_paper) / self.whole_s


@dataclass(frozen=True)
class RuntimeReport:
    """An analysis of run time.

    Attributes:
        device: Name of the processor.
        processor: ``cpu`` or ``cuda``.
        threads: Of torch.
        engine: torch and its version.
        flops_per_s: Measured peak of a matrix product, float32.
        bytes_per_s: Measured bandwidth of a large copy.
        models: In the order given.
        unfused: Whether attention was computed operator by operator.
        channels_last: Whether planes lay in memory as NHWC.
        created: UTC, ISO 8601.
        command: The command line.
        tool_version: Of evit-edge.
        remarks: What a reader must not miss.
    """

    device: str
    processor: str
    threads: int
    engine: str
    flops_per_s: float
    bytes_per_s: float
    models: tuple[ModelRuntime, ...]
    unfused: bool
    channels_last: bool
    created: str
    command: str
    tool_version: str
    remarks: tuple[str, ...] = ()

    @property
    def flops_per_byte(self) -> float:
        """The machine's balance."""
        return self.flops_per_s / self.bytes_per_s


def join(measured: Iterable[OperatorWork]) -> tuple[OperatorWork, ...]:
    """Join entries of the same name, kind and bound; the longest first."""
    joined: dict[tuple[str, Kind, Bound], list[OperatorWork]] = {}
    for entry in measured:
        joined.setdefault((entry.name, entry.kind, entry.bound), []).append(entry)
    sums = [
        OperatorWork(
            *key,
            calls=sum(e.calls for e in entries),
            time_s=sum(e.time_s for e in entries),
            flops=sum(e.flops for e in entries),
            bytes_moved=sum(e.bytes_moved for e in entries),
            least_s=sum(e.least_s for e in entries),
        )
        for key, entries in joined.items()
    ]
    return tuple(sorted(sums, key=lambda entry: -entry.time_s))


def _kind_share(kind: Kind, operators: Iterable[OperatorWork], whole_s: float) -> KindShare:
    mine = [entry for entry in operators if entry.kind is kind]
    time_s = sum(entry.time_s for entry in mine)
    work = sum((Work(entry.flops, entry.bytes_moved) for entry in mine), Work())
    memory_s = sum(entry.time_s for entry in mine if entry.bound is Bound.MEMORY)
    return KindShare(
        kind=kind,
        calls=sum(entry.calls for entry in mine),
        time_s=time_s,
        share=time_s / whole_s,
        intensity=work.intensity,
        memory_share=memory_s / time_s if time_s else 0.0,
        least_s=sum(entry.least_s for entry in mine),
    )


def document(report: RuntimeReport) -> dict[str, Any]:
    """The report as JSON, with what follows from it."""
    fields = {"schema": SCHEMA, **to_json(report), "flops_per_byte": report.flops_per_byte}
    return fields | {"models": [model_document(model) for model in report.models]}


def model_document(model: ModelRuntime) -> dict[str, Any]:
    """One network's figures as JSON, with what follows from them."""
    fields: dict[str, Any] = to_json(model)
    return fields | {
        "images_per_s": model.images_per_s,
        "kinds": to_json(model.kinds),
        "outside_share": model.outside_share,
        "memory_share": model.memory_share,
        "compute_share": model.compute_share,
        "memory_share_in_paper": model.memory_share_in_paper,
    }


def write_runtime(path: Path, report: RuntimeReport) -> None:
    """Write all figures as JSON, whole or not at all.

    Raises:
        OutputError: The file cannot be written there.
    """
    text = json.dumps(document(report), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
