"""Which distributions an installation brings, and which versions ``constraints.txt`` pins."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

Graph = dict[str, set[str]]
"""Canonical name of a distribution to those that it requires itself."""


def project_requirements(*extras: str) -> list[Requirement]:
    """What ``pyproject.toml`` asks for, of these extras too; extras that name others are followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [Requirement(line) for line in project["dependencies"]]
    waiting, seen = list(extras), set()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for need in map(Requirement, project["optional-dependencies"][extra]):
            if need.name == project["name"]:
                waiting += need.extras
            else:
                found.append(need)
    return found


def reached(direct: list[Requirement], extra: str) -> Graph:
    """All distributions that an installation with an extra (or with "", none) brings on this machine."""
    graph: Graph = {}
    waiting = [(need, inner) for need in direct if _wanted(need, extra) for inner in ("", *need.extras)]
    done: set[tuple[str, str]] = set()
    while waiting:
        need, inner = waiting.pop()
        name = canonicalize_name(need.name)
        graph.setdefault(name, set())
        if (name, inner) in done:
            continue
        done.add((name, inner))
        for deeper in map(Requirement, metadata.requires(name) or ()):
            if _wanted(deeper, inner):
                graph[name].add(canonicalize_name(deeper.name))
                waiting += [(deeper, more) for more in ("", *deeper.extras)]
    return graph


def pinned_versions() -> dict[str, str]:
    """Canonical name to version, of ``constraints.txt``."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def _wanted(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})
