"""Writing so that a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evit_edge.errors import OutputError


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
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc.strerror or exc}; choose a writable folder") from exc
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private
        _flush(temporary)
        temporary.replace(path)
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def publishing(folder: Path, *, last: str, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder; move what it holds into ``folder`` together when the block ends well.

    Args:
        folder: Where the files shall be; made where it is missing, and taken away again if the block fails.
        last: Name of the file that is moved last: who finds it finds the others.
        overwrite: Whether files of the same names may be replaced.

    Yields:
        The folder to write to. It is gone after the block, whatever happens.

    Raises:
        OutputError: The folder cannot be made or written, or files are there already.
    """
    created = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".evit-edge-"))
    except OSError as exc:
        raise OutputError(f"{folder} cannot be written: {exc.strerror or exc}; choose a writable folder") from exc
    try:
        yield temporary
        written = sorted(temporary.iterdir(), key=lambda path: (path.name == last, path.name))
        refuse_existing([folder / path.name for path in written], overwrite=overwrite)
        for path in written:
            for file in files_of(path):
                _flush(file)
            _move(path, folder / path.name)
        created = False
    except OSError as exc:
        raise OutputError(f"{folder} cannot be written: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if created:
            with suppress(OSError):  # somebody else has put something there
                folder.rmdir()


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Protect what is there.

    Raises:
        OutputError: One of the files exists and may not be replaced.
    """
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise OutputError(f"{existing[0]} exists; give --overwrite to replace it, or choose another folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _move(source: Path, target: Path) -> None:
    """Rename a file or folder over what is there; a folder that is in the way moves into the source's folder."""
    if target.is_dir():
        target.replace(source.with_name(f"{source.name}.before"))
    source.replace(target)


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
