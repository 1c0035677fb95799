"""Write a CycloneDX bill of materials of the wheel: ``python scripts/sbom.py dist/*.whl dist/sbom.json``.

It names what is inside the wheel and was not written here (weights, font, photos) with SHA-256 and licence, and
every distribution that the wheel and its extras install, at the version that ``constraints.txt`` pins, with the
licence that its metadata states. Distributions are looked up in the running environment, so run it in one that has
all extras. The result is checked against CycloneDX's JSON schema before it is written.
"""

from __future__ import annotations

import hashlib
import sys
import uuid
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from requirements_graph import pinned_versions, reached

VERSION = SchemaVersion.V1_6
NOT_SHIPPED = frozenset({"dev"})
"""Extras that nobody who runs evit-edge installs."""


OWN_PARTS = {
    "evit_edge/zoo/everyday/everyday.safetensors": (ComponentType.MACHINE_LEARNING_MODEL, "MIT"),
    "evit_edge/zoo/everyday/everyday-int8.tflite": (ComponentType.MACHINE_LEARNING_MODEL, "MIT"),
    "evit_edge/zoo/everyday/everyday-int8.tflite.golden.npz": (ComponentType.DATA, "MIT"),
    "evit_edge/zoo/golden/astronaut.jpg": (ComponentType.DATA, "public domain (NASA)"),
    "evit_edge/zoo/golden/chelsea.jpg": (ComponentType.DATA, "CC0-1.0"),
    "evit_edge/zoo/golden/coffee.jpg": (ComponentType.DATA, "CC0-1.0"),
    "evit_edge/zoo/golden/rocket.jpg": (ComponentType.DATA, "public domain (SpaceX)"),
    "evit_app/assets/fonts/EvitSans.ttf": (ComponentType.FILE, "OFL-1.1"),
}
"""Files inside the wheel that are no source code of this project: what they are, and their licence."""


def main(wheel: Path, output: Path) -> None:
    """Write the bill of a wheel."""
    text = make_outputter(bill(wheel), OutputFormat.JSON, VERSION).output_as_string(indent=2)
    if error := JsonStrictValidator(VERSION).validate_str(text):
        raise SystemExit(f"the bill of materials is no valid CycloneDX: {error}")
    output.write_text(text + "\n", encoding="utf-8")


def bill(wheel: Path) -> Bom:
    """The bill of a wheel, its serial number made from the wheel's hash."""
    content = wheel.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    with zipfile.ZipFile(wheel) as archive:
        stated = _stated(archive)
        parts = list(_parts(archive))
    extras = sorted(set(stated.get_all("Provides-Extra", [])) - NOT_SHIPPED)
    itself = Component(
        name=stated["Name"],
        version=stated["Version"],
        type=ComponentType.APPLICATION,
        bom_ref="wheel",
        purl=PackageURL("pypi", None, stated["Name"], stated["Version"]),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        licenses=[_license(stated["License-Expression"])],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{digest}"))
    bom.metadata.component = itself
    direct = [Requirement(line) for line in stated.get_all("Requires-Dist", [])]
    graphs = {extra: reached(direct, extra) for extra in ("", *extras)}
    pins = pinned_versions()
    components = {
        name: _distribution(name, pins[name], [extra for extra in graphs if name in graphs[extra]])
        for name in sorted(set().union(*graphs.values()))
    }
    for component in (*parts, *components.values()):
        bom.components.add(component)
    named = {canonicalize_name(need.name) for need in direct} & components.keys()
    bom.register_dependency(itself, [*parts, *(components[name] for name in sorted(named))])
    for name, component in components.items():
        needs = set().union(*(graph.get(name, set()) for graph in graphs.values()))
        bom.register_dependency(component, [components[need] for need in sorted(needs)])
    return bom


def _stated(archive: zipfile.ZipFile) -> Message:
    name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(archive.read(name).decode("utf-8"))


def _parts(archive: zipfile.ZipFile) -> Iterator[Component]:
    for name, (kind, licence) in OWN_PARTS.items():
        digest = hashlib.sha256(archive.read(name)).hexdigest()
        yield Component(
            name=name,
            type=kind,
            bom_ref=f"file:{name}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
            licenses=[_license(licence)],
        )


def _distribution(name: str, version: str, extras: list[str]) -> Component:
    base = "" in extras
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"pypi:{name}",
        purl=PackageURL("pypi", None, name, version),
        scope=ComponentScope.REQUIRED if base else ComponentScope.OPTIONAL,
        licenses=[_license(_stated_license(name))],
        properties=[] if base else [Property(name="evit-edge:extra", value=extra) for extra in extras],
    )


def _stated_license(name: str) -> str:
    """An SPDX expression where the distribution gives one, else what it says in its own words."""
    stated = metadata.metadata(name)
    if expression := stated.get("License-Expression"):
        return str(expression)
    classifiers = [c for c in stated.get_all("Classifier", []) if c.startswith("License :: ")]
    if classifiers:
        return ", ".join(c.rpartition(" :: ")[2] for c in classifiers)
    lines = str(stated.get("License") or "").strip().splitlines()
    return lines[0][:80] if lines else "not stated"


def _license(text: str) -> License:
    return LicenseFactory().make_from_string(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
