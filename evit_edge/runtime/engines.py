"""The TFLite interpreters: ai-edge-litert first, tflite-runtime second, one interface."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evit_edge.errors import ArtefactError, MissingExtraError

if TYPE_CHECKING:
    import numpy.typing as npt

    from evit_converters.tflite import PartitionReport


@dataclass(frozen=True)
class Engine:
    """An installed interpreter.

    Attributes:
        name: Its distribution, ``ai-edge-litert`` or ``tflite-runtime``.
        version: Its version.
        module: Where its ``Interpreter`` class is.
        delegates: Whether it hands the graph to XNNPACK by itself.
    """

    name: str
    version: str
    module: str
    delegates: bool


KNOWN = (("ai-edge-litert", "ai_edge_litert.interpreter"), ("tflite-runtime", "tflite_runtime.interpreter"))


def installed_engines() -> tuple[Engine, ...]:
    """The engines that can be imported, the preferred one first."""
    found = []
    for name, module in KNOWN:
        try:
            importlib.import_module(module)
        except (ImportError, AttributeError):  # AttributeError: tflite-runtime 2.14 under numpy 2
            continue
        found.append(Engine(name, importlib.metadata.version(name), module, name == "ai-edge-litert"))
    return tuple(found)


def preferred_engine() -> Engine:
    """The engine to use.

    Raises:
        MissingExtraError: None is installed.
    """
    engines = installed_engines()
    if not engines:
        raise MissingExtraError(
            "running a .tflite needs an interpreter and none is installed: pip install ai-edge-litert "
            "(or, with Python 3.11 and numpy < 2, pip install tflite-runtime)"
        )
    return engines[0]


def open_interpreter(path: Path, threads: int, *, content: bytes | None = None) -> tuple[Engine, Any]:
    """Load a file and reserve its memory.

    Args:
        path: The file; only its name is used where ``content`` is given.
        threads: Of the interpreter.
        content: What to load in place of the file's bytes.

    Returns:
        The engine and its interpreter, ready for ``set_tensor``.

    Raises:
        ArtefactError: The engine refuses the file.
        MissingExtraError: No engine is installed.
    """
    engine = preferred_engine()
    make = importlib.import_module(engine.module).Interpreter
    with native_log() as log:
        try:
            source = {"model_path": str(path)} if content is None else {"model_content": content}
            interpreter = make(**source, num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError, TypeError, OSError) as exc:
            failure: Exception | None = exc
        else:
            failure = None
    if failure is not None:
        raise ArtefactError(
            f"{path} is no usable .tflite file: {engine.name} says {_reason(failure, log[0])}"
        ) from failure
    return engine, interpreter


def _reason(failure: Exception, log: str) -> str:
    """What the engine says on one line; its greetings are no reason."""
    told = [line for line in log.splitlines() if not line.startswith("INFO:")]
    return (
        " ".join((str(failure) or " ".join(told)).split())
        or "nothing: most likely its values need too much memory"
    )


def delegate_partitions(path: Path) -> PartitionReport | None:
    """Count XNNPACK's partitions of a file.

    Returns:
        The split, or None where the engine has no delegate of its own.

    Raises:
        ArtefactError: The engine refuses the file.
        MissingExtraError: No engine is installed.
    """
    if not preferred_engine().delegates:
        return None
    from evit_converters.errors import ModelFileError
    from evit_converters.tflite import partitions

    try:
        with native_log():
            return partitions(Path(path).read_bytes())
    except (ModelFileError, OSError) as exc:
        raise ArtefactError(f"{path} is no usable .tflite file: {exc}") from exc


def noise(detail: dict[str, Any], generator: np.random.Generator) -> npt.NDArray[Any]:
    """A picture of noise for an input: all levels of an integer type's, bytes at most, or 0..1.

    Args:
        detail: The input, as an interpreter describes it.
        generator: Where the values come from.
    """
    shape, dtype = tuple(detail["shape"]), np.dtype(detail["dtype"])
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return generator.integers(max(limits.min, -128), min(limits.max, 255), shape, dtype=dtype, endpoint=True)
    if dtype == np.bool_:
        return generator.random(shape) < 0.5
    return generator.random(shape).astype(dtype)


@contextmanager
def native_log() -> Iterator[list[str]]:
    """Keep what the interpreter's C++ writes to stderr out of the terminal.

    It greets every load there, as torch's profiler does every start, which would spoil the promise of one line on
    stderr for an error.

    Yields:
        A list that holds the text, as its only entry, after the block.
    """
    text = [""]
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all: nothing to protect
        yield text
        return
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            log.seek(0)
            text[0] = log.read().decode("utf-8", "replace")
