"""Check ``constraints.txt`` without a network: ``python scripts/check_pins.py`` in an environment with all extras.

Every pin is exact and within the ranges of ``pyproject.toml``; every distribution that the project leads to is
pinned; what is installed here has the version pinned, and all that it requires. What needs the network, known
vulnerabilities and versions withdrawn from the index, is ``pip-audit``'s part (``make audit``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from requirements_graph import ROOT, pinned_versions, project_requirements, reached

_PIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*")


def problems_of_the_file() -> Iterator[str]:
    """What is wrong with the pins whatever is installed."""
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line]
    pins = [line for line in lines if not line.startswith("#")]
    yield from (
        f"{line!r} is no exact, public pin in canonical spelling" for line in pins if not _PIN.fullmatch(line)
    )
    names = [line.split("==")[0] for line in pins]
    yield from (f"{name} is pinned twice" for name in sorted({name for name in names if names.count(name) > 1}))
    versions = pinned_versions()
    for need in project_requirements("dev"):
        version = versions.get(canonicalize_name(need.name))
        if _concerns(need) and version is not None and not need.specifier.contains(version, prereleases=True):
            yield f"{need.name} is pinned to {version}, and pyproject.toml asks for {need.specifier}"


def problems_of_the_closure() -> Iterator[str]:
    """What the project leads to in this environment and is not pinned."""
    versions = pinned_versions()
    for name in sorted(reached(project_requirements("dev"), "")):
        if name not in versions:
            yield f"{name} is not pinned"


def problems_of_what_is_installed() -> Iterator[str]:
    """Installed versions that are not those pinned, or do not go together."""
    versions = pinned_versions()
    for name, needs in sorted(reached(project_requirements("dev"), "").items()):
        found = metadata.version(name)
        if name in versions and Version(found).public != versions[name]:  # 2.13.0+cpu is a build of 2.13.0
            yield f"{name} {found} is installed, {versions[name]} is pinned"
        for need in map(Requirement, metadata.requires(name) or ()):
            inner = canonicalize_name(need.name)
            if inner in needs and _concerns(need) and not need.specifier.contains(metadata.version(inner), True):
                yield f"{name} {found} asks for {need}, and {metadata.version(inner)} is installed"


def _concerns(need: Requirement) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": ""})


if __name__ == "__main__":
    found = [*problems_of_the_file(), *problems_of_the_closure(), *problems_of_what_is_installed()]
    sys.stdout.write("".join(f"{problem}\n" for problem in found))
    sys.exit(1 if found else 0)
