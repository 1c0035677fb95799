"""The report: one format for this machine, phones and the app.

``report.schema.json`` beside this file is its JSON Schema, made by :mod:`evit_edge.benchmark.schema`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from evit_edge.benchmark.device import Device, Judgement
from evit_edge.benchmark.figures import (
    ColdStart,
    Interval,
    Limit,
    MemoryUse,
    OperatorTime,
    Runs,
    StageTime,
    Statistics,
    Warmup,
)
from evit_edge.errors import ReportError
from evit_edge.files import replacing
from evit_edge.strict_json import MismatchError, from_json, to_json

SCHEMA = 1
"""Version of the format. A reader refuses others."""


class Status(StrEnum):
    """Whether everything asked for was measured."""

    COMPLETE = "complete"
    PARTIAL = "partial"


class Accelerator(StrEnum):
    """What a model was asked to run on."""

    CPU = "cpu"
    GPU = "gpu"
    NNAPI = "nnapi"
    NEURAL_ENGINE = "neural-engine"
    ALL = "all"


@dataclass(frozen=True)
class Settings:
    """How was measured.

    Attributes:
        min_runs: Runs of each model at least.
        min_time_s: Timed seconds of each model at least.
        warmup_rule: In words.
        interleaving: In words.
        seed: Of the order within rounds and of the bootstrap.
        image: File name of the photo that stages were timed on; None for a generated one.
    """

    min_runs: int
    min_time_s: float
    warmup_rule: str
    interleaving: str
    seed: int
    image: str | None = None


@dataclass(frozen=True)
class ModelEntry:
    """A file that was measured.

    Attributes:
        name: Unique in the report; rows refer to it.
        file: Its name on disk, without folders.
        format: Such as ``tflite``, ``onnx``, ``checkpoint``.
        sha256: Of its bytes, hex; of a package, of its files in order.
        size_bytes: Its length.
        input_shape: With the batch axis.
        input_dtype: numpy's name.
        number_type: What most of its arithmetic is done in: ``float32``, ``float16`` or ``int8``.
        parameters: Values of its weights; None where they were not counted.
        macs: Multiply-accumulates of one inference; None where they were not counted.
        reference_only: It ran in an evaluator whose time says nothing about a device.
    """

    name: str
    file: str
    format: str
    sha256: str
    size_bytes: int
    input_shape: tuple[int, ...]
    input_dtype: str
    number_type: str
    parameters: int | None = None
    macs: int | None = None
    reference_only: bool = False


@dataclass(frozen=True)
class Engine:
    """What ran a model.

    Attributes:
        name: Runtime, such as ``ai-edge-litert``.
        version: Its version.
        delegate: Such as ``XNNPACK``; None where the runtime ran everything itself or does not tell.
        partitions: Pieces that the delegate took; None where they were not counted.
        native_nodes: Nodes that stayed outside the delegate; None where they were not counted.
    """

    name: str
    version: str
    delegate: str | None = None
    partitions: int | None = None
    native_nodes: int | None = None


@dataclass(frozen=True)
class Measurement:
    """One model on one device with one number of threads on one accelerator.

    Attributes:
        model: Name of a :class:`ModelEntry`.
        device: Id of a :class:`Device`.
        threads: Of the engine.
        accelerator: What was asked for.
        engine: What ran it.
        statistics: Of the runs; None where it failed or was not reached.
        runs: Raw times; empty where the tool gives figures only.
        starts: Where it does: the figures of each start of the tool, in order.
        warmup: Runs before; None where the tool does not tell.
        stages: Times of an image pipeline's steps, in order; empty where they were not measured.
        cold_start: One shot.
        memory: One shot.
        limit: Against the machine's peaks.
        operators: Time by operator, where it was asked for.
        failure: Why there are no figures; None where there are.
    """

    model: str
    device: str
    threads: int
    accelerator: Accelerator
    engine: Engine
    statistics: Statistics | None
    runs: Runs
    warmup: Warmup | None = None
    stages: tuple[StageTime, ...] = ()
    cold_start: ColdStart | None = None
    memory: MemoryUse | None = None
    limit: Limit | None = None
    operators: tuple[OperatorTime, ...] = ()
    failure: str | None = None
    starts: tuple[Statistics, ...] = ()

    def __post_init__(self) -> None:
        """Figures of raw times are of all of them; what has neither figures nor a failure says nothing."""
        if self.threads < 1:
            raise ReportError(f"{self.model} with {self.threads} threads stated; at least 1 is needed")
        if self.statistics is None and self.failure is None:
            raise ReportError(f"{self.model} on {self.device} has neither figures nor a failure")
        times = self.runs.times_s
        if times and (self.statistics is None or self.statistics.count != len(times)):
            raise ReportError(
                f"{self.model} on {self.device} has {len(times)} times and figures of another number"
            )


@dataclass(frozen=True)
class Ratio:
    """How long one model takes, compared with another on the same device in the same session.

    Attributes:
        model: Name of a :class:`ModelEntry`.
        baseline: Name of the one that it is compared with.
        device: Id of a :class:`Device`.
        threads: Of both.
        accelerator: Of both.
        value: Time of ``model`` divided by time of ``baseline``: below 1 is faster.
        interval: Of the value, by bootstrap.
        rounds: Rounds that it rests on.
    """

    model: str
    baseline: str
    device: str
    threads: int
    accelerator: Accelerator
    value: float
    interval: Interval
    rounds: int


@dataclass(frozen=True)
class Published:
    """A figure that others published. It was not measured here.

    Attributes:
        device: Such as ``iPhone 11 Pro (A13)``.
        model: Network.
        runtime: With its accelerator, as the source names it.
        latency_s: Of one inference.
        source: Where it stands.
    """

    device: str
    model: str
    runtime: str
    latency_s: float
    source: str


@dataclass(frozen=True)
class Report:
    """Everything about one benchmark.

    Attributes:
        schema: Version of the format.
        tool_version: Of evit-edge.
        created: UTC, ISO 8601.
        command: The exact command line, or what stands for it where there was none.
        status: Whether it was measured to the end.
        settings: How was measured.
        devices: What on.
        models: What.
        measurements: The figures.
        ratios: Against the baseline.
        remarks: What a reader must not miss, in words.
        published: Figures of others, for a column headed "published, not measured here".
    """

    schema: int
    tool_version: str
    created: str
    command: str
    status: Status
    settings: Settings
    devices: tuple[Device, ...]
    models: tuple[ModelEntry, ...]
    measurements: tuple[Measurement, ...]
    ratios: tuple[Ratio, ...] = ()
    remarks: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()

    def __post_init__(self) -> None:
        """Names are unique, and what is referred to is there."""
        if self.schema != SCHEMA:
            raise ReportError(f"a report of format {self.schema}; this version reads format {SCHEMA}")
        models, devices = [m.name for m in self.models], [d.id for d in self.devices]
        for kind, names in (("models", models), ("devices", devices)):
            if len(set(names)) != len(names):
                raise ReportError(f"{kind} {', '.join(names)} stated; each name once")
        used = {(row.model, row.device) for row in self.measurements}
        used |= {(name, ratio.device) for ratio in self.ratios for name in (ratio.model, ratio.baseline)}
        for model, device in sorted(used):
            if model not in models or device not in devices:
                raise ReportError(f"figures of {model} on {device} stated, which the report does not list")

    @property
    def judgement(self) -> Judgement:
        """The worst of its devices."""
        order = list(Judgement)
        return max((device.verdict.judgement for device in self.devices), key=order.index, default=Judgement.VALID)

    @property
    def trusted(self) -> bool:
        """Whether it is complete, and valid on every device."""
        return self.status is Status.COMPLETE and self.judgement is Judgement.VALID

    def model(self, name: str) -> ModelEntry:
        """The entry of that name."""
        return next(entry for entry in self.models if entry.name == name)

    def device(self, name: str) -> Device:
        """The device of that id."""
        return next(entry for entry in self.devices if entry.id == name)


def write_report(path: Path, report: Report) -> None:
    """Write a report as JSON.

    Raises:
        OutputError: It cannot be written there.
    """
    with replacing(path) as temporary:
        temporary.write_text(report_text(report), encoding="utf-8")


def report_text(report: Report) -> str:
    """A report as JSON text, one line a list of numbers."""
    return _pretty(to_json(report)) + "\n"


def read_report(path: Path) -> Report:
    """Read what :func:`write_report` wrote.

    Raises:
        ReportError: There is no such file, or it is no report of this format.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no JSON text"
        raise ReportError(f"report {path} cannot be read: {reason}; give a file that --json wrote") from exc
    version = fields.get("schema") if isinstance(fields, dict) else None
    if version != SCHEMA:
        raise ReportError(f"{path} states report format {version}; this version reads format {SCHEMA}")
    try:
        return from_json(Report, fields)
    except MismatchError as exc:
        raise ReportError(f"{path} is no report of format {SCHEMA}: {exc}") from exc


def _pretty(value: object, indent: str = "") -> str:
    """JSON with two spaces, but lists of scalars on one line: there may be a hundred thousand times."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        fields = (f"{inner}{json.dumps(key)}: {_pretty(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(fields) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(inner + _pretty(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
