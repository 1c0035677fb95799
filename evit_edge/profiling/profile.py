"""Where a model's time goes: the figures, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evit_edge.benchmark.device import DeviceKind
from evit_edge.benchmark.figures import Bound, OperatorTime
from evit_edge.errors import ReportError
from evit_edge.files import replacing
from evit_edge.profiling.op_classes import OpClass, classify
from evit_edge.strict_json import MismatchError, from_json, to_json

SCHEMA = 1
"""Version of the format. A reader refuses others."""


@dataclass(frozen=True)
class ClassTime:
    """All operators of a class, in one inference.

    Attributes:
        op_class: Which.
        bound: Compute or memory; None for what cannot be looked into.
        count: Operators.
        time_s: Together. May be slightly below 0 where it is a difference of two measurements.
        error_s: Of that time, either way; None where the tool does not tell.
        kinds: Operators by name and number.
    """

    op_class: OpClass
    bound: Bound | None
    count: int
    time_s: float
    error_s: float | None = None
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """Where the time of one inference goes.

    Attributes:
        schema: Version of the format.
        tool_version: Of evit-edge.
        created: UTC, ISO 8601.
        command: The command line, or what stands for it.
        artefact: File name of the model, without folders.
        sha256: Of the file.
        engine: Runtime and version.
        device: Id of the device: ``host`` or a serial number.
        device_kind: What it is.
        device_name: For people.
        threads: Of the engine.
        batch: Pictures in one inference.
        method: How it was measured, in words.
        runs: Inferences that the figures rest on.
        whole_s: One inference of the whole model, by the same clock and statistic, without a profiler.
        classes: Time by class, the longest first.
        operators: Time by kind of operator, where the tool tells.
        remarks: What a reader must not miss.
    """

    schema: int
    tool_version: str
    created: str
    command: str
    artefact: str
    sha256: str
    engine: str
    device: str
    device_kind: DeviceKind
    device_name: str
    threads: int
    batch: int
    method: str
    runs: int
    whole_s: float
    classes: tuple[ClassTime, ...]
    operators: tuple[OperatorTime, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """A known format, and something that took time."""
        if self.schema != SCHEMA:
            raise ReportError(f"a profile of format {self.schema}; this version reads format {SCHEMA}")
        if not self.whole_s > 0 or self.runs < 1:
            raise ReportError(f"a profile of {self.runs} runs of {self.whole_s} s stated")

    @property
    def attributed_s(self) -> float:
        """Sum over the classes."""
        return sum(entry.time_s for entry in self.classes)

    @property
    def residual_s(self) -> float:
        """What the classes do not explain: the whole less their sum. Its size is the method's error."""
        return self.whole_s - self.attributed_s

    def bound_s(self, bound: Bound | None) -> float:
        """Time of all classes that are bound so."""
        return sum(entry.time_s for entry in self.classes if entry.bound is bound)


def by_class(operators: Iterable[OperatorTime]) -> tuple[ClassTime, ...]:
    """Join kinds of operators to classes, the longest first."""
    found: dict[OpClass, list[OperatorTime]] = {}
    for operator in operators:
        found.setdefault(OpClass(operator.kind), []).append(operator)
    joined = [
        ClassTime(
            op_class=op_class,
            bound=op_class.bound,
            count=sum(entry.count for entry in entries),
            time_s=sum(entry.time_s for entry in entries),
            kinds={entry.name: entry.count for entry in entries},
        )
        for op_class, entries in found.items()
    ]
    return tuple(sorted(joined, key=lambda entry: -entry.time_s))


def operator_times(measured: Iterable[tuple[str, OpClass | None, int, float]]) -> tuple[OperatorTime, ...]:
    """Join operators of one name.

    Args:
        measured: Name, class (None: by the name), how many, seconds of all of them in one inference.

    Returns:
        One entry a name and class, the longest first.
    """
    joined: dict[tuple[str, OpClass], tuple[int, float]] = {}
    for name, op_class, count, time_s in measured:
        key = name, classify(name) if op_class is None else op_class
        before = joined.get(key, (0, 0.0))
        joined[key] = before[0] + count, before[1] + time_s
    entries = [OperatorTime(name, kind.value, n, t) for (name, kind), (n, t) in joined.items()]
    return tuple(sorted(entries, key=lambda entry: -entry.time_s))


def document(profile: Profile) -> dict[str, Any]:
    """The profile as JSON, with what follows from it."""
    fields: dict[str, Any] = to_json(profile)
    return fields | {"attributed_s": profile.attributed_s, "residual_s": profile.residual_s}


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile as JSON.

    Raises:
        OutputError: It cannot be written there.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document(profile), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_profile(path: Path) -> Profile:
    """Read what :func:`write_profile` wrote.

    Raises:
        ReportError: There is no such file, or it is no profile of this format.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no JSON text"
        raise ReportError(f"profile {path} cannot be read: {reason}; give a file that --json wrote") from exc
    if isinstance(fields, dict):
        fields = {key: value for key, value in fields.items() if key not in {"attributed_s", "residual_s"}}
    try:
        return from_json(Profile, fields)
    except MismatchError as exc:
        raise ReportError(f"{path} is no profile of format {SCHEMA}: {exc}") from exc
