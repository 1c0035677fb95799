"""The seam to coremltools: imported in silence, once, with what it lacks added."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from evit_converters.checks import first_line
from evit_converters.coreml.frontend import mend_frontend
from evit_converters.errors import ConverterError, ExportError
from evit_converters.quiet import quiet


@cache
def coremltools() -> Any:
    """The module, without what it says of torch's version and of the parts that only a Mac has.

    Raises:
        ExportError: It is not installed.
    """
    try:
        with quiet():
            module = importlib.import_module("coremltools")
            mend_frontend()
    except ImportError as exc:
        raise ExportError("coremltools is not installed; pip install 'coremltools>=9,<10'") from exc
    return module


def internal(name: str) -> Any:
    """A submodule of coremltools, by its name below the package."""
    coremltools()
    with quiet():
        return importlib.import_module(f"coremltools.{name}")


@contextmanager
def working(error: type[ConverterError], what: str) -> Iterator[None]:
    """Run a step of torch.export or coremltools in silence, and map what it raises.

    Args:
        error: What to raise instead: it raises ValueError, NotImplementedError, RuntimeError and KeyError alike.
        what: What could not be done, to be followed by its own words.
    """
    try:
        with quiet():
            try:
                yield
            except Exception as exc:
                _release(exc)
                raise
    except Exception as exc:
        raise error(f"{what}: {first_line(exc)}") from exc


def _release(exc: BaseException | None) -> None:
    """Drop what a failed step holds: its temporary folders would complain when they are collected later."""
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__
