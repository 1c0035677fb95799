"""Putting a file or folder where another one is: whoever looks finds the old or the new one, never none."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# The kernel is too old, or the file system cannot do it.
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def put(new: Path, place: Path) -> None:
    """Move a file or folder to a place, over what is there.

    A file replaces a file in one step everywhere. A folder that replaces a folder is exchanged with it in one step
    on Linux (renameat2 on ext4, xfs, btrfs, tmpfs and overlays of them); the old one is then where the
    new one was. Elsewhere it takes two steps, between which nothing is at the place: the old one moves to
    ``NAME.before`` beside the new one first, and comes back if the second step fails.

    Args:
        new: What to move.
        place: Where to, on the same file system.

    Raises:
        OSError: It cannot be moved; what was at the place still is.
    """
    if not place.is_dir() or place.is_symlink():
        new.replace(place)
        return
    if exchange(new, place):
        return
    aside = new.with_name(f"{new.name}.before")
    place.rename(aside)
    try:
        new.rename(place)
    except OSError:
        aside.rename(place)
        raise


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders change places in one step; False where the system cannot.

    Raises:
        OSError: One is missing, or may not be moved.
    """
    call = _renameat2()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


@cache
def _renameat2() -> Any:
    """The C library's function (glibc 2.28, musl 1.2.4 and later); None where there is none."""
    if sys.platform != "linux":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        text = ctypes.c_char_p
        function.argtypes = [ctypes.c_int, text, ctypes.c_int, text, ctypes.c_uint]
        function.restype = ctypes.c_int
    return function
