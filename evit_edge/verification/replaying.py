"""Pictures and expected answers in a folder, for a phone or a Mac to replay: the door, light to import."""

from __future__ import annotations

from pathlib import Path

from evit_edge.errors import OutputError, RequestError


def check_replay(artefact: Path, folder: Path) -> None:
    """Refuse what cannot be replayed or written before anything slow is begun.

    Raises:
        RequestError: The artefact is no ``.mlpackage``.
        OutputError: The folder is there and not empty.
    """
    if artefact.suffix != ".mlpackage":
        raise RequestError(f"--golden given for {artefact.name}; the pictures are for replaying a .mlpackage")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is there and not empty; choose a new folder")


def write_replay(artefact: Path, folder: Path) -> int:
    """Write what :mod:`evit_edge.verification.coreml.replay` says.

    Args:
        artefact: A ``.mlpackage`` with its golden vectors beside it.
        folder: A new or empty folder.

    Returns:
        How many pictures were written.

    Raises:
        ArtefactError: The package or its golden vectors cannot be read.
        RequestError: The artefact is no ``.mlpackage``.
        OutputError: The folder is there and not empty, or cannot be written.
    """
    check_replay(artefact, folder)
    from evit_edge.verification.coreml.replay import replay_of, write

    replay = replay_of(artefact)
    write(replay, folder)
    return len(replay.images)
