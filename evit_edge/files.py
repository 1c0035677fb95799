"""Writing so that a reader sees the old file or the new one, never half of one.

Several files that belong together: :mod:`evit_edge.publishing`.
"""

from __future__ import annotations

import glob
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evit_edge.errors import OutputError

if sys.platform != "win32":
    import fcntl


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; rename it over ``path`` when the block ends well.

    Args:
        path: Where the file shall be; its folder is made where it is missing.

    Yields:
        The path to write to. It is gone after the block, whatever happens.

    Raises:
        OutputError: The folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        take(handle)
        _clear(path, Path(name))
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc.strerror or exc}; choose a writable folder") from exc
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~umask())  # mkstemp makes files private
        flush(temporary)
        temporary.replace(path)
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _clear(path: Path, own: Path) -> None:
    """Throw away what writers of the same file left behind that were killed."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{glob.escape(path.suffix)}"):
        if left != own and len(left.name) == len(own.name) and is_abandoned(left):
            left.unlink(missing_ok=True)


def take(descriptor: int) -> bool:
    """Mark an open file or folder as this process's, for as long as that lives; False if another one has it.

    Windows has no such marks: there everything is somebody's, and nothing is thrown away.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def mark_folder(folder: Path) -> int:
    """A descriptor that shows, until it is closed or this process ends, that a folder is this process's."""
    descriptor = os.open(os.devnull if sys.platform == "win32" else folder, os.O_RDONLY)
    take(descriptor)
    return descriptor


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block with the same folder; without effect on Windows."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network's file system that has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_abandoned(path: Path) -> bool:
    """Whether the process that made a temporary file or folder with :func:`take` has ended without clearing it."""
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        return take(descriptor)
    finally:
        os.close(descriptor)


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Protect what is there.

    Raises:
        OutputError: One of the files exists and may not be replaced.
    """
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise OutputError(f"{existing[0]} exists; give --overwrite to replace it, or choose another folder")


def umask() -> int:
    """Of this process."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def files_of(path: Path) -> tuple[Path, ...]:
    """A file, or all files inside a folder such as a ``.mlpackage``, in the order of their names.

    Links are taken for what they are, not followed: they are no files.
    """
    if not path.is_dir():
        return (path,)
    inside = (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return tuple(sorted(inside, key=lambda file: file.relative_to(path).as_posix()))


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, or of a folder's files: for each its name inside, NUL and its own hash."""
    if path.is_dir():
        named = (f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n" for file in files_of(path))
        return hashlib.sha256("".join(named).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files inside a folder."""
    return sum(file.stat().st_size for file in files_of(path))
