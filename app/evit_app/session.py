"""The app's core, without a screen: a model, whether it answers rightly here, and what it says about pictures."""

from __future__ import annotations

import functools
import io
import platform
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from PIL import Image

from evit_edge.benchmark.environment import cpu
from evit_edge.classification import Classification, classify, warm_up
from evit_edge.errors import EvitEdgeError
from evit_edge.golden import read_golden
from evit_edge.images import read_rgb
from evit_edge.manifest import golden_path, manifest_path, read_manifest
from evit_edge.runtime import ModelInfo, Runner, open_runner
from evit_edge.runtime.checks import Limits
from evit_edge.runtime.isolated import close, is_alive, open_isolated
from evit_edge.verification.gates import GateStatus, Thresholds
from evit_edge.verification.parity import golden_gates

DEFAULT_LIMITS = Limits()
PREVIEW_SIDE = 960
"""Longest side of what the screen gets, in pixels: a phone's 12 megapixels would only slow the transfer down."""


class ReplayStatus(StrEnum):
    """Whether this device gives the reference's answer."""

    SAME = "same"
    DIFFERENT = "different"
    UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Replay:
    """What came of replaying an artefact's golden vectors.

    Attributes:
        status: How it went.
        detail: What was measured, or why nothing was.
    """

    status: ReplayStatus
    detail: str


@dataclass(frozen=True)
class Answer:
    """What a model says about a picture, and the picture as it saw it.

    Attributes:
        name: The file's name.
        preview: JPEG, upright, at most ``PREVIEW_SIDE`` pixels long.
        classification: Labels and times.
    """

    name: str
    preview: bytes
    classification: Classification


@dataclass(frozen=True)
class ThisDevice:
    """What the models run on: the machine that runs the program, also where a browser shows the page.

    Attributes:
        cpu: The processor's name, as far as the system tells it.
        cores: Logical ones.
        system: Such as Linux or Android.
    """

    cpu: str
    cores: int
    system: str


@functools.cache
def this_device() -> ThisDevice:
    """Look once; on macOS that starts a process."""
    processor = cpu()
    return ThisDevice(processor.model, processor.logical_cores, platform.system())


class Session:
    """An open model. Its methods block: call them off the event loop.

    Args:
        runner: The model.
        replay: What came of replaying its golden vectors.
        limits: Of the model's own process; None where it runs in this one.
    """

    def __init__(self, runner: Runner, replay: Replay, limits: Limits | None = None) -> None:
        self.runner, self.replay, self.limits = runner, replay, limits

    @classmethod
    def open(cls, artefact: str | Path, *, threads: int = 1, limits: Limits | None = DEFAULT_LIMITS) -> Session:
        """Load a model, warm it up and replay its golden vectors.

        Args:
            artefact: The file.
            threads: Of the engine.
            limits: Of a process of the model's own; None: it runs in this one.

        Raises:
            EvitEdgeError: The model cannot be used; broken golden vectors are no reason, they are reported.
        """
        if limits is None:
            runner = open_runner(artefact, threads=threads)
        else:
            runner = open_isolated(artefact, threads=threads, limits=limits)
        warm_up(runner)
        return cls(runner, replay_golden(runner), limits)

    @property
    def alive(self) -> bool:
        """Whether the model can still be asked: its process may have died of it."""
        return is_alive(self.runner)

    def close(self) -> None:
        """Let go of the model's process, if it has one."""
        close(self.runner)

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        return self.runner.info

    def classify(self, path: Path, *, top: int = 5) -> Answer:
        """Classify a picture on disk.

        Raises:
            DataError: It cannot be read.
        """
        result = classify(self.runner, path, top)
        return Answer(path.name, _preview(path), result)

    def classify_bytes(self, content: bytes, name: str, *, top: int = 5) -> Answer:
        """Classify a picture that a browser or a phone handed over.

        Args:
            content: The file's bytes.
            name: The file's name; only its last part counts.
            top: How many classes to name.

        Raises:
            DataError: It cannot be read.
        """
        # A browser may send a path, even one that climbs; the name that messages show stays the user's.
        safe = Path(name.replace("\\", "/")).name or "picture"
        with tempfile.TemporaryDirectory(prefix="evit-edge-") as folder:
            path = Path(folder) / safe
            path.write_bytes(content)
            return self.classify(path, top=top)


def replay_golden(runner: Runner) -> Replay:
    """Run the golden vectors beside an artefact, if there are any, against its kind's thresholds."""
    path = runner.info.path
    golden = golden_path(path)
    if not golden.is_file():
        return Replay(ReplayStatus.UNCHECKED, f"{golden.name} is not there")
    try:
        thresholds = Thresholds.of(read_manifest(manifest_path(path)).quantization)
        gates, _ = golden_gates(runner, read_golden(golden), thresholds)
    except EvitEdgeError as exc:
        return Replay(ReplayStatus.UNCHECKED, str(exc))
    failed = [gate for gate in gates if gate.status is GateStatus.FAILED]
    told = "; ".join(f"{gate.name} {gate.measured} ({gate.required})" for gate in failed or gates)
    return Replay(ReplayStatus.DIFFERENT if failed else ReplayStatus.SAME, told)


def _preview(path: Path) -> bytes:
    image = Image.fromarray(read_rgb(path))
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()
