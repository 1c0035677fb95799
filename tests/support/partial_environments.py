"""Environments with some of the extras only: folders of links to the distributions that pip would install.

The import system sees them as it sees any ``site-packages``; nothing is pretended to be missing, it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name
from requirements_graph import project_requirements, reached

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
    return frozenset(reached(project_requirements(*extras), ""))


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
