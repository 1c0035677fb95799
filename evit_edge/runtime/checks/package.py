"""Whether a ``.mlpackage`` stays inside its folder, and what its program declares.

What its messages and weights say is checked where they are read (:mod:`evit_edge.runtime.coreml`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evit_edge.errors import ArtefactError
from evit_edge.runtime.checks.limits import Limits, shown
from evit_edge.runtime.checks.memory import Need, peak_bytes

if TYPE_CHECKING:
    from evit_edge.runtime.coreml.program import Function, NamedType

_MAX_FILES = 10_000


def check_package(folder: Path, limits: Limits) -> None:
    """Refuse links that lead out of the package, pipes and devices in it, and more bytes than the limit.

    Raises:
        ArtefactError: There is such a thing.
    """
    if not folder.is_dir():
        return  # the reader says what is missing
    home = folder.resolve()
    size = 0
    for number, path in enumerate(_entries(folder)):
        name = path.relative_to(folder).as_posix()
        if number >= _MAX_FILES:
            raise ArtefactError(f"it holds more than {_MAX_FILES:,} files")
        try:
            target = path.resolve()
            if not target.is_relative_to(home):
                raise ArtefactError(f"{name!r} is a link out of the package")
            if not target.is_file() and not target.is_dir():
                raise ArtefactError(f"{name!r} is neither a file nor a folder")
            size += target.stat().st_size if target.is_file() else 0
        except (OSError, RuntimeError) as exc:  # a loop of links
            raise ArtefactError(f"{name!r} cannot be read: {exc}") from exc
    if size > limits.memory_bytes:
        raise ArtefactError(f"it has {shown(size)}; the limit is {shown(limits.memory_bytes)} (--memory-limit)")


def _entries(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):  # does not go through links
        yield from (Path(root) / name for name in (*folders, *files))


def declared_bytes(function: Function) -> int:
    """Bytes that a program's constants take together with the most that its other values take at once.

    Open sizes count as 1. Constants are counted as decoded, each as often as it is made.
    """
    numbers: dict[str, int] = {}
    sizes: list[int] = []

    def added(value: NamedType, size: int) -> int:
        numbers[value.name] = len(sizes)
        sizes.append(size)
        return len(sizes) - 1

    constants = 0
    first = [added(value, _bytes(value)) for value in (*function.inputs, *function.block.inputs)]
    steps = []
    for operation in function.operations:
        constant = operation.type == "const" or operation.type.startswith("constexpr_")
        constants += sum(_bytes(value) for value in operation.outputs) if constant else 0
        names = (name for bindings in operation.inputs.values() for name in bindings if isinstance(name, str))
        reads = tuple(numbers[name] for name in names)
        writes = tuple(added(value, 0 if constant else _bytes(value)) for value in operation.outputs)
        steps.append(Need(reads, writes))
    last = [numbers[name] for name in function.block.outputs]
    return constants + peak_bytes(sizes, steps, first, last)


def _bytes(value: NamedType) -> int:
    """Of a tensor, as the evaluator holds it: four bytes an entry at least."""
    shape = getattr(value.type, "shape", None)
    if shape is None:
        return 0
    size: int = 4 * math.prod(n or 1 for n in shape)
    return size
