"""The files of a benchmark: opened once before anything is timed, so that what cannot run is said first."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from evit_edge.benchmark.report import Engine, ModelEntry
from evit_edge.benchmark.session import Contender, Invocation
from evit_edge.benchmark.work import Work, count_work
from evit_edge.errors import ArtefactError, RequestError
from evit_edge.files import sha256_of
from evit_edge.runtime import delegate_partitions, open_runner
from evit_edge.runtime.info import ModelInfo, Runner
from evit_edge.runtime.opening import is_checkpoint
from evit_edge.tensors import UInt8Images

_APPLE = ".mlpackage"
_ITEM_BYTES = {"float32": 4, "float16": 2, "int64": 8, "int32": 4}


class Preparing(Runner, Protocol):
    """A runner whose engine can be timed alone."""

    def prepare(self, image: UInt8Images) -> Callable[[], object]:
        """A function that runs the engine, and nothing else, on one uint8 (1, S, S, 3) picture."""
        ...


@dataclass(frozen=True)
class Subject:
    """A file that can be measured.

    Attributes:
        source: As the user named it.
        entry: For the report.
        info: What its engine says.
        work: What one inference does; None where it is not counted.
        engine: What runs it.
    """

    source: str
    entry: ModelEntry
    info: ModelInfo
    work: Work | None
    engine: Engine

    @property
    def io_bytes(self) -> int:
        """Of its input and output."""
        specs = (self.info.input, self.info.output)
        return sum(int(np.prod(spec.shape)) * _ITEM_BYTES.get(spec.dtype, 1) for spec in specs)

    def load(self, threads: int) -> Invocation:
        """Load the file afresh; it was checked when it was described."""
        return invocation(open_runner(self.source, threads=threads, checked=True))

    def contender(self, threads: int) -> Contender:
        """For a session."""
        return Contender(self.entry.name, lambda: self.load(threads))


def invocation(runner: Runner) -> Invocation:
    """The engine alone where the runner can separate it, else all of :meth:`Runner.run`; on a picture of noise."""
    side = runner.info.image_size
    picture = np.random.default_rng(0).integers(0, 256, (1, side, side, 3)).astype(np.uint8)
    if hasattr(runner, "prepare"):
        return cast(Preparing, runner).prepare(picture)
    return lambda: runner.run(picture)


def open_subjects(sources: Sequence[str], *, reference: bool) -> tuple[Subject, ...]:
    """Open every file once, and describe it.

    Args:
        sources: As the user named them; one may come twice.
        reference: Whether evaluators that are no device's runtime are accepted.

    Raises:
        EvitEdgeError: One cannot be used.
    """
    refuse_references(sources, accepted=reference)
    names = _names(sources)
    found: dict[str, Subject] = {}
    for name, source in zip(names, sources, strict=True):
        found[name] = _described(name, source)
    return tuple(found.values())


def refuse_references(sources: Sequence[str], *, accepted: bool) -> None:
    """Refuse what only an evaluator runs here, unless its time is asked for.

    Raises:
        RequestError: There is such a file.
    """
    for source in sources:
        _refuse_reference(source, accepted)


def _refuse_reference(source: str, accepted: bool) -> None:
    if Path(source).suffix == _APPLE and sys.platform != "darwin" and not accepted:
        raise RequestError(
            f"{source} runs here in a reference evaluator only, whose time says nothing about a phone; "
            "measure it on a Mac or with --device ios, or give --reference to time the evaluator itself"
        )


def _names(sources: Sequence[str]) -> list[str]:
    """File names; those that come again are numbered."""
    names: list[str] = []
    for source in sources:
        name = base = source if is_checkpoint(source) and not Path(source).suffix else Path(source).name
        number = 1
        while name in names:
            number += 1
            name = f"{base} ({number})"
        names.append(name)
    return names


def _described(name: str, source: str) -> Subject:
    runner = open_runner(source)
    info, path = runner.info, located(source)
    work = count_work(source, runner)
    size, digest = size_and_hash(path)
    entry = ModelEntry(
        name=name,
        file=path.name,
        format="checkpoint" if is_checkpoint(source) else path.suffix.lstrip("."),
        sha256=digest,
        size_bytes=size,
        input_shape=info.input.shape,
        input_dtype=info.input.dtype,
        number_type=work.number_type if work else info.input.dtype,
        parameters=work.parameters if work else None,
        macs=work.macs if work else None,
        reference_only=path.suffix == _APPLE and sys.platform != "darwin",
    )
    return Subject(source, entry, info, work, _engine(source, info))


def located(source: str) -> Path:
    """The file behind a name."""
    if not is_checkpoint(source):
        return Path(source)
    from evit_edge.models.sources import resolve

    return resolve(source)[0]


def _engine(source: str, info: ModelInfo) -> Engine:
    if Path(source).suffix != ".tflite":
        return Engine(info.runtime, info.runtime_version)
    try:
        division = delegate_partitions(Path(source))
    except ImportError:  # ai-edge-litert's inner parts change; the times do not depend on this
        division = None
    if division is None:
        return Engine(info.runtime, info.runtime_version)
    delegate = "XNNPACK" if division.partitions else None
    native = len(division.native_ops)
    return Engine(info.runtime, info.runtime_version, delegate, division.partitions, native)


def size_and_hash(path: Path) -> tuple[int, str]:
    """Of a file; of a package, over its files in order, their names among it.

    Raises:
        ArtefactError: There is neither.
    """
    if path.is_file():
        return path.stat().st_size, sha256_of(path)
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    if not files:
        raise ArtefactError(f"{path} is neither a file nor a package of files")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    return sum(file.stat().st_size for file in files), digest.hexdigest()
