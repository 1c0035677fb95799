"""The one tree of errors that this package raises.

EvitEdgeError
├── MissingExtraError     an optional dependency is not installed; carries the ``pip install`` line
├── RequestError          a request that contradicts itself or asks for what does not exist
├── DataError             photos: a file that is no picture, an empty folder, labels that do not fit
├── CheckpointError       weights: unreadable, of another model, with wrong shapes, with NaN
├── ConversionError       a model that could not be exported, rewritten, quantized or packed
├── ArtefactError         a converted file that is corrupt, of another kind, or lacks what is asked of it
├── VerificationError     an artefact that fails a gate; names the gate
├── BudgetError           no artefact that was tried keeps the promised accuracy; carries what was found
├── DeviceError           a phone or Mac that is missing, locked, lost, or cannot run what is asked of it
├── ReportError           a latency report that is unreadable, of another format, or contradicts itself
└── OutputError           a result that cannot be written where it was asked for

A message says what was given, what is accepted, and what to do. Foreign exceptions are mapped at the seam
where they arise, with ``from``.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any, ClassVar


class EvitEdgeError(Exception):
    """Base of all errors that evit-edge raises on purpose; the CLI prints its text as one line.

    Attributes:
        exit_code: Of the CLI.
    """

    exit_code: ClassVar[int] = 1


class MissingExtraError(EvitEdgeError):
    """An optional dependency is not installed."""


class RequestError(EvitEdgeError):
    """A request that contradicts itself or asks for something that does not exist."""


class DataError(EvitEdgeError):
    """Photos or labels that cannot be used as given."""


class CheckpointError(EvitEdgeError):
    """Weights that cannot be read or do not belong to the model."""


class ConversionError(EvitEdgeError):
    """A model that could not be turned into the artefact asked for."""


class ArtefactError(EvitEdgeError):
    """A converted file that is corrupt, of an unknown kind, or lacks what is asked of it."""


class VerificationError(EvitEdgeError):
    """An artefact that fails a gate."""


class BudgetError(EvitEdgeError):
    """No artefact that was tried keeps the promised accuracy.

    Attributes:
        found: An :class:`evit_edge.pipeline.budget.BudgetReport`: the best model, and the layers at fault.
    """

    exit_code = 3

    def __init__(self, message: str, found: Any = None) -> None:
        super().__init__(message)
        self.found = found


class DeviceError(EvitEdgeError):
    """A phone or Mac that is missing, locked, lost, or cannot run what is asked of it."""


class ReportError(EvitEdgeError):
    """A latency report that is unreadable, of another format, or contradicts itself."""


class OutputError(EvitEdgeError):
    """A result that cannot be written where it was asked for."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: Dotted import name.
        extra: The extra of this distribution that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: It is not installed; the message is the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise MissingExtraError(_install(module, extra)) from exc


def require_installed(module: str, *, extra: str) -> None:
    """Find an optional dependency without the seconds that importing it takes.

    Raises:
        MissingExtraError: It is not installed; the message is the command that installs it.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(_install(module, extra))


def _install(module: str, extra: str) -> str:
    name = module.partition(".")[0]
    return f"{name} is needed for this and is not installed: pip install 'evit-edge[{extra}]'"
