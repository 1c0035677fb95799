"""What is asked of Core ML, so that the rest can be tested where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from evit_edge.benchmark.report import Accelerator
from evit_edge.errors import RequestError


class ComputeUnits(StrEnum):
    """Where Core ML may run a model; the CPU is always among them. Names are coremltools'."""

    CPU = "CPU_ONLY"
    GPU = "CPU_AND_GPU"
    NEURAL_ENGINE = "CPU_AND_NE"
    ALL = "ALL"

    @classmethod
    def of(cls, accelerator: Accelerator) -> ComputeUnits:
        """What stands for an accelerator of the request.

        Raises:
            RequestError: Apple's devices have no such thing.
        """
        try:
            return cls[accelerator.name]
        except KeyError as exc:
            raise RequestError(f"{accelerator} asked for; Core ML takes cpu, gpu, neural-engine and all") from exc


@dataclass(frozen=True)
class PlannedOperation:
    """An operation of Core ML's compute plan.

    Attributes:
        name: Such as ``conv``.
        device: Where it is meant to run: ``CPU``, ``GPU``, ``Neural Engine`` or ``unknown``.
        cost: Its share of the model's work, 0..1, as Core ML estimates it; None where it does not.
    """

    name: str
    device: str
    cost: float | None


@dataclass(frozen=True)
class AppleDevice:
    """What is measured on.

    Attributes:
        id: ``mac``, or the phone's identifier.
        name: For people.
        os: ``macOS`` or ``iOS``.
        os_version: Its release.
    """

    id: str
    name: str
    os: str
    os_version: str


class LoadedModel(Protocol):
    """A model that Core ML has made ready."""

    @property
    def load_s(self) -> float:
        """How long that took, as Core ML says."""
        ...

    def predict(self) -> float:
        """Run once, on the same picture each time; seconds, as Core ML says: without Python's part."""
        ...

    def plan(self) -> tuple[PlannedOperation, ...]:
        """What runs where; empty where Core ML does not tell."""
        ...

    def unload(self) -> None:
        """Give its memory back."""
        ...


class CoreML(Protocol):
    """Core ML on a Mac, or on a phone attached to it."""

    @property
    def device(self) -> AppleDevice:
        """What it runs on."""
        ...

    @property
    def version(self) -> str:
        """Of coremltools."""
        ...

    def load(self, path: Path, units: ComputeUnits) -> LoadedModel:
        """Make a model ready.

        Raises:
            DeviceError: Core ML refuses it.
        """
        ...

    def close(self) -> None:
        """End what was started for it."""
        ...
