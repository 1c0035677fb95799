"""Executed instructions of one inference on an emulated Arm core: a cost that neither machine nor load changes.

It is no time: instructions take different times, and waiting for memory takes none.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evit_edge import __version__
from evit_edge.errors import ArtefactError, RequestError
from evit_edge.files import replacing, sha256_of
from evit_edge.profiling.request import Tell
from evit_edge.runtime.arm64 import find_root
from evit_edge.runtime.arm64.counting import Counted, open_counter
from evit_edge.runtime.arm64.root import CORE
from evit_edge.runtime.checks.door import check_model
from evit_edge.strict_json import to_json
from evit_edge.zoo import artefact_path

SCHEMA = "evit-edge-analyze-instructions/1"
MEANING = f"executed instructions, an emulated {CORE}; not time"


@dataclass(frozen=True)
class InstructionsRequest:
    """What to count.

    Attributes:
        models: ``.tflite`` files with one input, or ``everyday-int8``; ratios are taken against the first.
        arm64_root: The root, where it is not in the cache folder.
        command: The command line, for the record.
    """

    models: tuple[str, ...]
    arm64_root: Path | None = None
    command: str = ""

    def __post_init__(self) -> None:
        """Something to count, each once."""
        if not self.models or len(set(self.models)) != len(self.models):
            given = " ".join(self.models) or "nothing"
            raise RequestError(f"{given} given; one or more .tflite files are accepted, each once")


@dataclass(frozen=True)
class InstructionCount:
    """One model in one runtime.

    Attributes:
        model: As it was named.
        sha256: Of the file.
        runtime: Name and version.
        instructions: Executed in one inference, median.
        spread: Largest count less smallest.
        inferences: That were counted.
        partitions: Pieces that XNNPACK took.
        division: How it divided the model, in words; what it did not take ran in the runtime's own kernels.
        ratio: Instructions of the first model over this one's, in the same runtime; None where that refused it.
    """

    model: str
    sha256: str
    runtime: str
    instructions: int
    spread: int
    inferences: int
    partitions: int
    division: str
    ratio: float | None


@dataclass(frozen=True)
class InstructionsReport:
    """An analysis of executed instructions.

    Attributes:
        meaning: Of the figures, in words.
        core: What was emulated.
        emulator: Name and version.
        threads: Of the runtimes.
        counts: By runtime, in each by the order given.
        created: UTC, ISO 8601.
        command: The command line.
        tool_version: Of evit-edge.
        remarks: What a reader must not miss.
    """

    meaning: str
    core: str
    emulator: str
    threads: int
    counts: tuple[InstructionCount, ...]
    created: str
    command: str
    tool_version: str
    remarks: tuple[str, ...] = ()


def analyze_instructions(
    request: InstructionsRequest, tell: Tell = lambda _what, _share: None
) -> InstructionsReport:
    """Count in every runtime of the root; where one refuses a model, the others count.

    Args:
        request: What to count.
        tell: Called with what is being counted and the share that is done.

    Raises:
        ArtefactError: A file is missing or no usable ``.tflite``, or every runtime refuses it.
        DeviceError: Emulator, root or compiler are missing; the message is what mends it.
        MissingExtraError: An engine is not installed.
    """
    paths = {name: _checked(Path(artefact_path(name))) for name in request.models}
    root, counts, remarks = find_root(request.arm64_root), list[InstructionCount](), list[str]()
    engines = root.engines()
    with open_counter(root) as counter:
        for number, engine in enumerate(engines):
            runtime, found = f"{engine.name} {engine.version}", dict[str, Counted]()
            for step, (name, path) in enumerate(paths.items()):
                tell(f"{path.name} in {engine.name}", (number + step / len(paths)) / len(engines))
                try:
                    found[name] = counter.count(engine, path)
                except ArtefactError as exc:
                    remarks.append(f"not counted in {runtime}: {exc}")
            counts += _counts(runtime, found, paths)
    if lacking := set(paths) - {entry.model for entry in counts}:
        raise ArtefactError(f"no runtime takes {' or '.join(sorted(lacking))}: {'; '.join(remarks)}")
    return InstructionsReport(
        meaning=MEANING,
        core=CORE,
        emulator=f"QEMU {counter.version}",
        threads=1,
        counts=tuple(counts),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        tool_version=__version__,
        remarks=tuple(remarks),
    )


def _checked(path: Path) -> Path:
    if path.suffix != ".tflite":
        raise ArtefactError(f"{path} given; a .tflite file is accepted")
    check_model(path)
    return path


def _counts(runtime: str, found: dict[str, Counted], paths: dict[str, Path]) -> Sequence[InstructionCount]:
    first = found.get(next(iter(paths)))
    middles = {name: statistics.median_low(counted.counts) for name, counted in found.items()}
    return [
        InstructionCount(
            model=name,
            sha256=sha256_of(paths[name]),
            runtime=runtime,
            instructions=middles[name],
            spread=max(counted.counts) - min(counted.counts),
            inferences=len(counted.counts),
            partitions=counted.division.partitions,
            division=str(counted.division),
            ratio=None if first is None else statistics.median_low(first.counts) / middles[name],
        )
        for name, counted in found.items()
    ]


def document(report: InstructionsReport) -> dict[str, Any]:
    """The report as JSON."""
    return {"schema": SCHEMA, **to_json(report)}


def write_instructions(path: Path, report: InstructionsReport) -> None:
    """Write a report as JSON.

    Raises:
        OutputError: It cannot be written there.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document(report), indent=2, allow_nan=False) + "\n", encoding="utf-8")
