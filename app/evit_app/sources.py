"""Pictures from an OpenCV camera, a video file, a folder of photos, or handed over by a browser or a phone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evit_app.frames import Frame, Orientation, SourceError, decode_jpeg
from evit_app.slot import Slot
from evit_edge.errors import EvitEdgeError, require
from evit_edge.images import read_rgb
from evit_edge.preprocessing import UInt8Image

Clock = Callable[[], float]
Sleep = Callable[[float], None]

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_DEFAULT_FPS = 30.0  # of a video that does not state it
_PATIENCE_S = 0.2  # a closed pipeline is noticed after this long at the latest


class Pacer:
    """Waits so that calls return at a steady rate; after a delay it starts anew, it does not hurry to catch up.

    Args:
        rate: Calls per second, positive.
        clock: Seconds.
        sleep: Waits for so many seconds.
    """

    def __init__(self, rate: float, clock: Clock, sleep: Sleep) -> None:
        self._period_s = 1 / rate
        self._clock, self._sleep = clock, sleep
        self._due_s: float | None = None

    def wait(self) -> float:
        """Wait until the next call is due; when it was due, seconds."""
        now = self._clock()
        if self._due_s is None or now - self._due_s > self._period_s:
            self._due_s = now
        elif self._due_s > now:
            self._sleep(self._due_s - now)
        due, self._due_s = self._due_s, self._due_s + self._period_s
        return due


class Camera:
    """A camera of this machine, by OpenCV.

    Args:
        index: As the system counts them.
        size: Width and height asked for, in pixels; the camera may choose another.
        orientation: What puts its pictures right.
        clock: Seconds.

    Raises:
        SourceError: It cannot be opened.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(
        self,
        index: int = 0,
        *,
        size: tuple[int, int] = (640, 480),
        orientation: Orientation | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        cv2 = _opencv()
        self._cv2, self._clock, self._orientation = cv2, clock, orientation or Orientation()
        self.name = dict(list_cameras()).get(index, f"camera {index}")
        self._device = cv2.VideoCapture(index)
        if not self._device.isOpened():
            raise SourceError(
                f"{self.name} cannot be opened: it is not there, in use, or not allowed; "
                "choose another source, a video or a picture"
            )
        self._device.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        self._device.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        self._device.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def read(self) -> Frame | None:
        """The next picture."""
        if not self._device.grab():
            raise SourceError(
                f"{self.name} sends no pictures any more; plug it in again, or choose another source"
            )
        captured_s = self._clock()
        ok, bgr = self._device.retrieve()
        if not ok:
            return None
        image = self._orientation.apply(_rgb(self._cv2, bgr))
        return Frame(image, captured_s, self._clock() - captured_s)

    def close(self) -> None:
        """Let go of the camera."""
        self._device.release()


class VideoFile:
    """A video, played over and over at its own rate. Its rotation tag is applied.

    Args:
        path: The file.
        orientation: What puts its pictures right.
        clock: Seconds.
        sleep: Waits for so many seconds.

    Raises:
        SourceError: It is no video that OpenCV reads.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        orientation: Orientation | None = None,
        clock: Clock = time.perf_counter,
        sleep: Sleep = time.sleep,
    ) -> None:
        cv2 = _opencv()
        self._cv2, self._clock, self._path = cv2, clock, path
        self._orientation = orientation or Orientation()
        self.name = path.name
        self._file = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG) if path.is_file() else None
        if self._file is None or not self._file.isOpened():
            raise SourceError(f"{path} is no video that can be read; MP4, AVI, MKV and WebM usually can")
        self._file.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        self.rate = _stated_rate(self._file.get(cv2.CAP_PROP_FPS))
        self._pacer = Pacer(self.rate, clock, sleep)

    def read(self) -> Frame | None:
        """The next picture, when it is due."""
        self._pacer.wait()
        captured_s = self._clock()
        image = self._orientation.apply(_rgb(self._cv2, self._next()))
        return Frame(image, captured_s, self._clock() - captured_s)

    def _next(self) -> Any:
        if self._file is None:
            raise SourceError(f"{self._path} is closed")
        ok, bgr = self._file.read()
        if not ok:
            self._file.set(self._cv2.CAP_PROP_POS_FRAMES, 0)
            ok, bgr = self._file.read()
        if not ok:
            raise SourceError(f"{self._path} holds no picture that can be read")
        return bgr

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.release()
            self._file = None


class PhotoFolder:
    """The photos of a folder by name, over and over, as if a camera looked at each for a while.

    Args:
        folder: Where they lie.
        rate: Pictures per second.
        each_s: How long each photo is looked at, seconds.
        orientation: What puts them right.
        clock: Seconds.
        sleep: Waits for so many seconds.

    Raises:
        SourceError: There are no photos.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rate: float = 30.0,
        each_s: float = 2.0,
        orientation: Orientation | None = None,
        clock: Clock = time.perf_counter,
        sleep: Sleep = time.sleep,
    ) -> None:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        self._paths = [path for path in entries if path.suffix.lower() in PHOTO_SUFFIXES and path.name[0] != "."]
        if not self._paths:
            raise SourceError(f"{folder} holds no photos; {', '.join(sorted(PHOTO_SUFFIXES))} are accepted")
        self.name = folder.name
        self._orientation, self._clock = orientation or Orientation(), clock
        self._repeats = max(1, round(rate * each_s))
        self._pacer = Pacer(rate, clock, sleep)
        self._count = 0
        self._image: UInt8Image | None = None

    def read(self) -> Frame | None:
        """The photo that is looked at."""
        self._pacer.wait()
        captured_s = self._clock()
        if self._image is None or self._count % self._repeats == 0:
            self._image = self._orientation.apply(self._load())
        self._count += 1
        return Frame(self._image, captured_s, self._clock() - captured_s)

    def _load(self) -> UInt8Image:
        path = self._paths[self._count // self._repeats % len(self._paths)]
        try:
            return read_rgb(path)
        except EvitEdgeError as exc:
            raise SourceError(str(exc)) from exc

    def close(self) -> None:
        """Nothing is held open."""


class HandedOver:
    """Pictures that a browser's or a phone's camera takes. The latest waits, older ones are dropped.

    Args:
        name: What a person calls the camera.
        orientation: What puts its pictures right.
        clock: Seconds; capture times that are handed over are of the same clock.
    """

    def __init__(
        self, name: str, *, orientation: Orientation | None = None, clock: Clock = time.perf_counter
    ) -> None:
        self.name = name
        self._orientation, self._clock = orientation or Orientation(), clock
        self._slot: Slot[tuple[bytes, float]] = Slot()
        self._reason: str | None = None
        self._failed = threading.Event()

    def hand_over(self, jpeg: bytes, captured_s: float) -> None:
        """Lay down a picture; from any thread."""
        self._slot.put((jpeg, captured_s))

    def fail(self, reason: str) -> None:
        """Say that none will come any more; from any thread."""
        self._reason = reason
        self._failed.set()

    def read(self) -> Frame | None:
        """The latest picture that was not read yet."""
        if self._failed.is_set():
            raise SourceError(str(self._reason))
        handed = self._slot.take(_PATIENCE_S)
        if handed is None:
            return None
        try:
            image = self._orientation.apply(decode_jpeg(handed[0]))
        except EvitEdgeError as exc:
            raise SourceError(f"{self.name}: {exc}") from exc
        return Frame(image, handed[1], max(0.0, self._clock() - handed[1]))

    def close(self) -> None:
        """Nothing is held open."""


def list_cameras() -> list[tuple[int, str]]:
    """Index and name of this machine's cameras.

    On Linux as the kernel names them; elsewhere OpenCV cannot list, and the first is offered untried.
    """
    if sys.platform != "linux":
        return [(0, "camera 0")]
    found = []
    for entry in sorted(Path("/sys/class/video4linux").glob("video*")):
        index = entry / "index"  # a device's second node gives metadata, not pictures
        if index.is_file() and index.read_text().strip() != "0":
            continue
        found.append((int(entry.name.removeprefix("video")), (entry / "name").read_text().strip()))
    return found


def _stated_rate(fps: float) -> float:
    return fps if 1 <= fps <= 240 else _DEFAULT_FPS


def _opencv() -> Any:
    # Ten seconds by default, in which an unplugged camera would keep the reading thread.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what fails is told by our own error
    return require("cv2", extra="app")


def _rgb(cv2: Any, bgr: Any) -> UInt8Image:
    image: UInt8Image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # (H, W, 3)
    return image
