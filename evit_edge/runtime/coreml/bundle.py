"""The folder ``NAME.mlpackage``: which file in it is the model, and where its weights are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml.blobs import BlobFile

MANIFEST_NAME = "Manifest.json"
_DATA = "Data"
_MODEL_PATH = "@model_path/"


@dataclass(frozen=True)
class Bundle:
    """An opened package.

    Attributes:
        path: The folder.
        model: The file ``model.mlmodel`` inside it.
        blobs: Weight files that were opened, by the name that the program uses.
    """

    path: Path
    model: Path
    blobs: dict[str, BlobFile] = field(default_factory=dict, repr=False)

    def open_blobs(self, stated: str) -> BlobFile:
        """The weight file that a value names, such as ``@model_path/weights/weight.bin``.

        Raises:
            ArtefactError: It is missing, damaged, or lies outside the package.
        """
        if stated not in self.blobs:
            if not stated.startswith(_MODEL_PATH):
                raise ArtefactError(
                    f"weights are said to be in {stated!r}; a name under {_MODEL_PATH} is accepted"
                )
            file = inside(self.path, self.model.parent / stated.removeprefix(_MODEL_PATH), stated)
            self.blobs[stated] = BlobFile.open(file, file.relative_to(self.path.resolve()).as_posix())
        return self.blobs[stated]


def open_bundle(path: Path) -> Bundle:
    """Read the manifest and find the model.

    Raises:
        ArtefactError: There is no package, or its manifest is damaged or names what is not there.
    """
    if not path.is_dir():
        kind = "is a file" if path.exists() else "does not exist"
        raise ArtefactError(f"{kind}; a folder NAME.mlpackage is accepted")
    entry = _root_entry(_manifest(path / MANIFEST_NAME))
    return Bundle(path, inside(path, path / _DATA / entry, entry))


def inside(folder: Path, file: Path, stated: str) -> Path:
    """The file, if it is one and lies in the folder even after following links.

    Raises:
        ArtefactError: It does not, or is no file.
    """
    try:
        resolved = file.resolve()
        found = resolved.is_file()
    except (OSError, ValueError, RuntimeError) as exc:  # a NUL in the name, a loop of links
        raise ArtefactError(f"{stated!r} is no name of a file") from exc
    if not resolved.is_relative_to(folder.resolve()):
        raise ArtefactError(f"{stated!r} points outside the package")
    if not found:
        raise ArtefactError(f"it lacks the file {stated!r}; the package is incomplete")
    return resolved


def _manifest(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ArtefactError(f"it has no {MANIFEST_NAME}; the package is incomplete") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise ArtefactError(f"its {MANIFEST_NAME} cannot be read ({exc})") from exc


def _root_entry(manifest: Any) -> str:
    """Path of the root model under ``Data``."""
    try:
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (KeyError, TypeError) as exc:
        raise ArtefactError(f"its {MANIFEST_NAME} names no root model ({exc!r})") from exc
    if not isinstance(entry, str) or not entry:
        raise ArtefactError(f"its {MANIFEST_NAME} gives {entry!r} as the model's path; a name is needed")
    return entry
