"""Files that belong together, written so that they are found all or not at all, even if the writer is killed.

They are made in a temporary folder. A new output folder then gets its name in one step. Into a folder that is
there, files can only be moved one by one, in a fraction of a millisecond; so the temporary folder is first renamed
to one that says that it is complete. If the writer is killed from then on, the next program that looks
(:func:`finish`) moves what is left.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evit_converters.replacement import put
from evit_edge.errors import OutputError
from evit_edge.files import alone_in, files_of, flush, is_abandoned, mark_folder, refuse_existing, umask

_MAKING, _COMPLETE = ".evit-edge-", ".evit-edge-complete-"
_PLAN = ".plan.json"


@contextmanager
def publishing(folder: Path, *, last: str, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder; move what it holds into ``folder`` together when the block ends well.

    Args:
        folder: Where the files shall be; made where it is missing.
        last: Name of the file that is moved last: who finds it finds the others.
        overwrite: Whether files of the same names may be replaced.

    Yields:
        The folder to write to. It is gone after the block, whatever happens.

    Raises:
        OutputError: The folder cannot be made or written, or files are there already.
    """
    made: list[Path] = []
    try:
        made = _make(folder.parent)
        home = folder if folder.is_dir() else folder.parent
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(None, "a file of that name is there")
        finish(folder)
        temporary = Path(tempfile.mkdtemp(dir=home, prefix=_MAKING))
        mark = mark_folder(temporary)
        _clear(home)
    except OSError as exc:
        _unmake(made)
        raise OutputError(f"{folder} cannot be written: {exc.strerror or exc}; choose a writable folder") from exc
    written = False
    try:
        yield temporary
        for path in temporary.iterdir():
            for file in files_of(path):
                flush(file)
        _publish(temporary, folder, last=last, overwrite=overwrite)
        written = True
    except OSError as exc:
        raise OutputError(f"{folder} cannot be written: {exc.strerror or exc}") from exc
    finally:
        os.close(mark)
        shutil.rmtree(temporary, ignore_errors=True)
        if not written:
            _unmake(made)


def finish(folder: Path) -> None:
    """Move what a writer that was killed had completed and not yet moved; nothing where there is no such thing.

    Where this program may not write, all is left as it is.
    """
    with suppress(OSError, ValueError, TypeError, KeyError):  # a folder of that name that nobody here has made
        for complete in sorted(folder.glob(f"{_COMPLETE}*")):
            if is_abandoned(complete):
                with alone_in(folder):
                    _move_all(complete, folder)
                shutil.rmtree(complete, ignore_errors=True)


def _publish(temporary: Path, folder: Path, *, last: str, overwrite: bool) -> None:
    with alone_in(temporary.parent):
        if temporary.parent != folder:
            with suppress(OSError):  # somebody else has made it meanwhile, and put something there
                temporary.chmod(0o777 & ~umask())  # mkdtemp makes folders private
                temporary.rename(folder)
                return
        refuse_existing([folder / path.name for path in temporary.iterdir()], overwrite=overwrite)
        complete = folder / f"{_COMPLETE}{temporary.name.removeprefix(_MAKING)}"
        numbers = {path.name: path.stat().st_ino for path in temporary.iterdir()}
        plan = temporary / _PLAN
        plan.write_text(json.dumps({"files": numbers, "last": last}), encoding="utf-8")
        flush(plan)
        temporary.rename(complete)
        try:
            _move_all(complete, folder)
        finally:  # after Ctrl-C, too: there is no way back any more, so forward
            _move_all(complete, folder)
            shutil.rmtree(complete, ignore_errors=True)


def _move_all(complete: Path, folder: Path) -> None:
    """Move what is still there. An exchanged folder has left the old one behind, which has another number."""
    if not (complete / _PLAN).is_file():  # its writer was killed while it threw the folder away
        return
    plan = json.loads((complete / _PLAN).read_text(encoding="utf-8"))
    numbers, last = dict(plan["files"]), plan["last"]
    for name in sorted(numbers, key=lambda name: (name == last, name)):
        path = complete / name
        if path.parent == complete and path.exists() and path.stat().st_ino == numbers[name]:
            put(path, folder / path.name)


def _make(folder: Path) -> list[Path]:
    """Make a folder and what lies above it; what was made, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _unmake(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # somebody else has put something there
            folder.rmdir()


def _clear(folder: Path) -> None:
    """Throw away what writers left behind that were killed before they had completed anything."""
    for left in folder.glob(f"{_MAKING}*"):
        if not left.name.startswith(_COMPLETE) and is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
