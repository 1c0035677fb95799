"""What to profile, where, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from evit_edge.benchmark.device import DeviceKind
from evit_edge.benchmark.request import ALL_DEVICES, DeviceChoice
from evit_edge.errors import RequestError

DEFAULT_SECONDS = 30.0

Tell = Callable[[str, float], None]
"""Takes what is being timed and the share that is done, 0..1."""


@dataclass(frozen=True)
class ProfileRequest:
    """One model on one device.

    Attributes:
        artefact: A ``.tflite`` file, a checkpoint, ``everyday`` or ``hf:OWNER/NAME``.
        device: This machine or an Android phone.
        threads: Of the engine.
        batch: Pictures at a time; more than 1 for checkpoints alone.
        seconds: How long to time, about.
        benchmark_model: Program for Android, where it is not in the cache folder.
        command: The command line, for the record.
    """

    artefact: str
    device: DeviceChoice = field(default_factory=DeviceChoice)
    threads: int = 1
    batch: int = 1
    seconds: float = DEFAULT_SECONDS
    benchmark_model: Path | None = None
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be profiled."""
        if self.device.kind not in (DeviceKind.HOST, DeviceKind.ANDROID):
            raise RequestError(f"profile on {self.device.kind} asked for; host and android are accepted")
        if self.device.serial == ALL_DEVICES:
            raise RequestError("profile on android:all asked for; name one phone, android:SERIAL")
        if self.threads < 1 or self.batch < 1:
            raise RequestError(f"{self.threads} threads, batch {self.batch} given; each at least 1")
        if not 0 < self.seconds < float("inf"):
            raise RequestError(f"{self.seconds} s given; more than 0 is needed")
