"""What a person can choose from: models and sources."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from evit_app.frames import FrameSource
from evit_app.session import DEFAULT_LIMITS, Session
from evit_app.sources import Camera, PhotoFolder, VideoFile, list_cameras
from evit_edge.errors import ArtefactError, RequestError
from evit_edge.runtime.checks import Limits


class SourceKind(StrEnum):
    """Where pictures come from."""

    OWN_CAMERA = "own"
    CAMERA = "camera"
    VIDEO = "video"
    FOLDER = "folder"


@dataclass(frozen=True)
class SourceChoice:
    """A source that can be opened.

    Attributes:
        kind: Its kind. ``OWN_CAMERA`` is that of the browser or phone that shows the page.
        where: Index or name of a camera, path of a file or folder; empty for the own camera that comes first.
        name: What a person reads; empty where the language gives it.
    """

    kind: SourceKind
    where: str
    name: str

    @property
    def key(self) -> str:
        """Tells choices apart."""
        return f"{self.kind.value}:{self.where}"


def open_source(choice: SourceChoice) -> FrameSource:
    """Open a source of this machine; blocks.

    Raises:
        SourceError: It gives no pictures.
        RequestError: It is not one of this machine.
    """
    match choice.kind:
        case SourceKind.CAMERA:
            return Camera(int(choice.where))
        case SourceKind.VIDEO:
            return VideoFile(Path(choice.where))
        case SourceKind.FOLDER:
            return PhotoFolder(Path(choice.where))
    raise RequestError(f"{choice.key} given; a camera, a video or a folder of this machine is accepted")


def sources_here(paths: tuple[Path, ...]) -> tuple[SourceChoice, ...]:
    """Files and folders that were named at the start, then this machine's cameras.

    Raises:
        RequestError: A path is not there.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise RequestError(f"no video and no folder at {', '.join(missing)}; --source takes either")
    named = [
        SourceChoice(SourceKind.FOLDER if path.is_dir() else SourceKind.VIDEO, str(path), path.name)
        for path in paths
    ]
    cameras = [SourceChoice(SourceKind.CAMERA, str(index), name) for index, name in list_cameras()]
    return (*named, *cameras)


def models_at(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Files as they are, and of folders the ``.tflite`` files by name, int8 first: that is what a phone runs.

    Raises:
        ArtefactError: A folder has none, or there is nothing at all.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("[!.]*.tflite")) if path.is_dir() else [path]
        if not inside:
            raise ArtefactError(f"{path} holds no .tflite file; evit-edge convert writes one")
        found.extend(sorted(inside, key=lambda file: "int8" not in file.name))
    if not found:
        raise ArtefactError("no model given; name a .tflite file, such as evit-edge convert writes")
    return tuple(found)


class Shelf:
    """The models of one running program; each is loaded once for all pages. Its methods block, from any thread.

    Args:
        paths: Files that are there from the start, at least one.
        limits: Of each model's own process; None: they run in this one.
    """

    def __init__(self, paths: tuple[Path, ...], limits: Limits | None = DEFAULT_LIMITS) -> None:
        self.paths, self._limits = list(paths), limits
        self._open: dict[tuple[Path, int], Session] = {}
        self._lock = threading.Lock()  # two tabs opened at once load a model once
        self._received: tempfile.TemporaryDirectory[str] | None = None

    def session(self, path: Path, threads: int = 1) -> Session:
        """The model at ``path``.

        Raises:
            EvitEdgeError: It cannot be used.
        """
        with self._lock:
            key = (path, threads)
            if key not in self._open or not self._open[key].alive:
                self._open[key] = Session.open(path, threads=threads, limits=self._limits)
            return self._open[key]

    def receive(self, name: str, content: bytes) -> Path:
        """Keep a file that a browser or a phone hands over until the program ends; where it lies."""
        with self._lock:
            if self._received is None:
                self._received = tempfile.TemporaryDirectory(prefix="evit-edge-")
            folder = Path(tempfile.mkdtemp(dir=self._received.name))
        safe = Path(name.replace("\\", "/")).name or "file"
        path = folder / safe
        path.write_bytes(content)
        return path

    def put(self, path: Path) -> None:
        """Offer another model, after it has shown that it can be used."""
        with self._lock:
            if path not in self.paths:
                self.paths.append(path)

    def close(self) -> None:
        """End the models' processes and throw away what was received."""
        with self._lock:
            for session in self._open.values():
                session.close()
            self._open.clear()
            if self._received is not None:
                self._received.cleanup()
                self._received = None
