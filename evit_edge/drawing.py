"""Pictures: asked for before the work that they show, drawn by matplotlib, written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evit_edge.errors import OutputError, require_installed
from evit_edge.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMATS = (".png", ".svg", ".pdf")
_DPI = 150


@contextmanager
def drawn(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure, and write it when the block ends well.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``.
        width: In inches.
        height: In inches.

    Raises:
        OutputError: The file cannot be written there or is of another kind.
        MissingExtraError: matplotlib is not installed.
    """
    check_picture_path(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def check_picture_path(path: Path) -> None:
    """Find out before minutes of work that no picture could be written at their end.

    Raises:
        OutputError: The suffix is none of those accepted, or nothing can be written there.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in _FORMATS:
        raise OutputError(f"picture {path} asked for; {', '.join(_FORMATS)} are accepted")
    require_installed("matplotlib", extra="plot")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc.strerror or exc}; choose a writable folder") from exc
