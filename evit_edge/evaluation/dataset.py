"""Labelled photos: folders of class folders, matched to a model's labels by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_calibration.errors import PhotosError
from evit_calibration.photos import list_photos
from evit_edge.errors import DataError
from evit_edge.runtime.info import ModelInfo

_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos with the class that each shows.

    Attributes:
        classes: Labels that have photos, sorted.
        paths: The photos.
        truth: int64 (N,), index into ``classes`` for each photo.
    """

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    truth: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        """One class per photo."""
        if self.truth.shape != (len(self.paths),) or not len(self.paths):
            raise DataError(f"{len(self.paths)} photos with {self.truth.shape} classes given; one each is needed")


def label_photos(
    folders: Sequence[Path], infos: Iterable[ModelInfo], aliases: Mapping[str, str] | None = None
) -> LabelledPhotos:
    """List the photos of class folders and check that every model knows every class.

    Args:
        folders: Each holds one folder per class; a class may be in several.
        infos: The models that will be asked. What they record as aliases counts too.
        aliases: Folder name to label, for folders that are named otherwise; goes before what models record.

    Raises:
        DataError: A folder is missing, holds no class folders or no photos, or a class folder's name is no label
            of a model, or a model has no labels.
    """
    infos = tuple(infos)
    known = {key: value for info in infos for key, value in info.aliases.items()} | dict(aliases or {})
    found = [(known.get(f.name, f.name), f) for folder in folders for f in _class_folders(folder)]
    for info in infos:
        _check_known(found, info)
    classes = tuple(sorted({label for label, _ in found}))
    paths, truth = [], []
    for label, folder in found:
        photos = photos_of_class(folder)
        paths += photos
        truth += [classes.index(label)] * len(photos)
    if not paths:
        raise DataError(f"{_named([str(f) for f in folders])} holds no photos in its class folders")
    return LabelledPhotos(classes, tuple(paths), np.array(truth, dtype=np.int64))


def parse_aliases(texts: Iterable[str]) -> dict[str, str]:
    """Read ``FOLDER=LABEL`` entries.

    Raises:
        DataError: An entry has no ``=`` or an empty side.
    """
    aliases = {}
    for text in texts:
        folder, separator, label = text.partition("=")
        if not (separator and folder and label):
            raise DataError(f"alias {text!r} given; FOLDER=LABEL is accepted, such as sunflowers=sunflower")
        aliases[folder] = label
    return aliases


def class_ids(classes: Sequence[str], info: ModelInfo) -> npt.NDArray[np.int64]:
    """Where each class stands among a model's labels; int64 (classes,).

    Raises:
        DataError: A label that is asked for stands there twice, or not at all.
    """
    labels = info.labels or ()
    for name in classes:
        if labels.count(name) != 1:
            raise DataError(
                f"label {name!r} stands {labels.count(name)} times in {info.path.name}; once is needed"
            )
    return np.array([labels.index(name) for name in classes], dtype=np.int64)


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"no folder at {folder}; a folder with one folder of photos per class is needed")
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not inside:
        raise DataError(f"{folder} holds no class folders; one folder of photos per class is needed")
    return inside


def photos_of_class(folder: Path) -> list[Path]:
    """The photos below a class folder, sorted; hidden ones are left out, and there may be none."""
    try:
        return list_photos(folder)
    except PhotosError:  # a class without photos is no mistake; no photos at all is, and is told by the caller
        return []


def _check_known(found: list[tuple[str, Path]], info: ModelInfo) -> None:
    if info.labels is None:
        raise DataError(f"{info.path.name} carries no labels; give them with --labels FILE")
    unknown = sorted({folder.name for label, folder in found if label not in info.labels})
    if unknown:
        raise DataError(
            f"class folders {_named(unknown)} match no label of {info.path.name}; rename them or map them with "
            f"--alias {unknown[0]}=LABEL"
        )


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
