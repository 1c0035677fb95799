"""Environments with some of the extras only: folders of links to the distributions that pip would install.

The import system sees them as it sees any ``site-packages``; nothing is pretended to be missing, it is.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path, extras: Iterable[str]) -> None:
    """Fill a folder with what ``pip install evit-edge[...]`` brings besides evit-edge itself."""
    folder.mkdir(parents=True)
    owners = _owners()
    for name in sorted(installed_with(frozenset(extras))):
        for part in _tops(name):
            if len(owners[part]) == 1:
                (folder / part).symlink_to(_site(name) / part)
            else:  # a namespace that several distributions share, such as google
                _link_files(folder, name, part)


@cache
def installed_with(extras: frozenset[str]) -> frozenset[str]:
    """Canonical names of all distributions that the project with these extras leads to, on this machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(x for name in extras for x in project["optional-dependencies"][name])]
    waiting = [(Requirement(line), "") for line in lines]
    found: set[tuple[str, str]] = set()
    while waiting:
        need, within = waiting.pop()
        name = canonicalize_name(need.name)
        if need.marker is not None and not need.marker.evaluate({"extra": within}):
            continue
        for extra in {"", *need.extras} - {e for n, e in found if n == name}:
            found.add((name, extra))
            waiting += [(Requirement(line), extra) for line in metadata.requires(name) or ()]
    return frozenset(name for name, _ in found)


@cache
def _tops(name: str) -> frozenset[str]:
    files = metadata.files(name) or ()
    return frozenset(file.parts[0] for file in files if file.parts[0] not in {"..", "__pycache__", "bin"})


@cache
def _owners() -> dict[str, set[str]]:
    owners: dict[str, set[str]] = defaultdict(set)
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        for part in _tops(name):
            owners[part].add(name)
    return owners


def _site(name: str) -> Path:
    return Path(str(metadata.distribution(name).locate_file("")))


def _link_files(folder: Path, name: str, part: str) -> None:
    for file in metadata.files(name) or ():
        if file.parts[0] == part and "__pycache__" not in file.parts:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / file).exists():
                (folder / file).symlink_to(_site(name) / file)
