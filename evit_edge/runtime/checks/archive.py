"""Zip archives inside model files: how much would come out of them, told without unpacking."""

from __future__ import annotations

import io
import zipfile
from typing import BinaryIO

from evit_converters.tflite.metadata import ARCHIVE_ERRORS
from evit_edge.errors import ArtefactError
from evit_edge.runtime.checks.limits import shown

MAX_MEMBERS = 10_000


def check_archive(stream: BinaryIO, limit_bytes: int, what: str) -> None:
    """Refuse an archive that unpacks to more than a limit; no archive at all is fine.

    ``zipfile`` never gives more than a member's declared size, so what is declared is what counts.

    Args:
        stream: The file.
        limit_bytes: For all members together.
        what: Its name for messages, such as ``the archive of labels``.

    Raises:
        ArtefactError: It is larger, or damaged.
    """
    try:
        if not zipfile.is_zipfile(stream):
            return
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
    except ARCHIVE_ERRORS as exc:
        raise ArtefactError(f"{what} is damaged: {exc}") from exc
    if len(members) > MAX_MEMBERS:
        raise ArtefactError(f"{what} has {len(members)} members; at most {MAX_MEMBERS} are accepted")
    unpacked = sum(member.file_size for member in members)
    if unpacked > limit_bytes:
        raise ArtefactError(f"{what} unpacks to {shown(unpacked)}; at most {shown(limit_bytes)} are accepted")


def check_appended_archive(content: bytes, limit_bytes: int) -> None:
    """The same for an archive behind the end of a FlatBuffer."""
    check_archive(io.BytesIO(content), limit_bytes, "the archive at its end")
