"""Photos to calibrate with: find them, draw a sample, read it, and stop when too many cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from evit_calibration.errors import PhotosError

UInt8Image = npt.NDArray[np.uint8]

MAX_BAD_FRACTION = 0.05

# Pillow recognises these without decoding them, or decodes them by running another program.
_NO_PHOTOS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


def photo_suffixes() -> frozenset[str]:
    """Suffixes of the formats that Pillow decodes, lower case, with the dot."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in _NO_PHOTOS)


def list_photos(folder: Path) -> list[Path]:
    """Find the photos below a folder, by suffix.

    Args:
        folder: Searched with all its sub-folders; hidden files and folders (``._photo.jpg``) are left out.

    Returns:
        Paths that start with ``folder``, sorted by their parts below it, so in the same order on every machine.

    Raises:
        PhotosError: There is no such folder, or no photo in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PhotosError(f"{folder} is no folder; a folder of photos is needed")
    suffixes = photo_suffixes()
    below = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    shown = (path for path in below if not any(part.startswith(".") for part in path.parts))
    photos = [folder / path for path in sorted(shown, key=lambda path: path.parts) if (folder / path).is_file()]
    if not photos:
        raise PhotosError(f"{folder} holds no photos; files such as .jpg, .png or .webp are needed, at any depth")
    return photos


def sample_photos(paths: Iterable[Path], count: int, seed: int) -> list[Path]:
    """Draw photos at random, the same ones for the same seed in whatever order they are listed.

    Args:
        paths: Candidates; duplicates count once.
        count: How many to draw, at least 1; all are taken where there are fewer.
        seed: Not negative.

    Returns:
        The sample, in random order, so that its first photos are a sample too.

    Raises:
        PhotosError: The count or the seed is out of range, or there are no candidates.
    """
    candidates = sorted(set(paths), key=lambda path: path.parts)
    if count < 1 or seed < 0:
        raise PhotosError(
            f"{count} samples with seed {seed} asked for; at least 1 and a seed of 0 or more are needed"
        )
    if not candidates:
        raise PhotosError("no photos to draw a sample from")
    order = np.random.default_rng(seed).permutation(len(candidates))
    return [candidates[index] for index in order[:count]]


def photo_digests(paths: Iterable[Path]) -> list[str]:
    """SHA-256 in hex of each photo's content, in the order given.

    Raises:
        PhotosError: A file cannot be read.
    """
    try:
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    except OSError as exc:
        raise PhotosError(f"{exc.filename} cannot be read: {exc.strerror}") from exc


def hash_digests(digests: Iterable[str]) -> str:
    """One SHA-256 in hex for the contents of a set of photos, whatever their order."""
    return hashlib.sha256(b"".join(sorted(bytes.fromhex(digest) for digest in digests))).hexdigest()


def hash_photos(paths: Iterable[Path]) -> str:
    """Hash what is in a set of photos, whatever their names, folders and order.

    Returns:
        SHA-256 in hex.

    Raises:
        PhotosError: A file cannot be read.
    """
    return hash_digests(photo_digests(paths))


@dataclass(frozen=True)
class BadPhoto:
    """A photo that could not be read.

    Attributes:
        path: The file.
        reason: The reader's message.
    """

    path: Path
    reason: str


class PhotoReader:
    """Iterates over the photos that can be read, one in memory at a time, and keeps a list of those that cannot.

    Attributes:
        used: Photos read so far.
        bad: Photos that could not be read so far.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[Path], UInt8Image],
        *,
        bad_errors: tuple[type[Exception], ...] = (OSError, ValueError),
        on_bad: Callable[[BadPhoto], None] | None = None,
        max_bad_fraction: float = MAX_BAD_FRACTION,
    ) -> None:
        """Prepare to read.

        Args:
            paths: The photos.
            load: File to image, uint8 (H, W, 3), of the size that the model takes.
            bad_errors: What ``load`` raises for a file that is no good photo; all else is a defect and goes on up.
            on_bad: Called with each bad photo at once.
            max_bad_fraction: Part of ``paths`` that may be bad; one more stops the iteration.
        """
        self._paths = tuple(paths)
        self._load = load
        self._bad_errors = bad_errors
        self._on_bad = on_bad
        self._max_bad_fraction = max_bad_fraction
        self.used: list[Path] = []
        self.bad: list[BadPhoto] = []

    def __len__(self) -> int:
        """Photos to read, good or bad."""
        return len(self._paths)

    def __iter__(self) -> Iterator[UInt8Image]:
        """Read from the start.

        Yields:
            uint8 (H, W, 3).

        Raises:
            PhotosError: More than ``max_bad_fraction`` of the photos are bad.
        """
        self.used, self.bad = [], []
        for path in self._paths:
            try:
                image = self._load(path)
            except self._bad_errors as exc:
                self._report(BadPhoto(path, str(exc)))
                continue
            self.used.append(path)
            yield image

    def _report(self, photo: BadPhoto) -> None:
        self.bad.append(photo)
        if self._on_bad is not None:
            self._on_bad(photo)
        if len(self.bad) > self._max_bad_fraction * len(self._paths):
            raise PhotosError(
                f"{len(self.bad)} of {len(self._paths)} photos cannot be read, more than "
                f"{self._max_bad_fraction:.0%}; the last: {photo.reason}; remove or replace them"
            )
