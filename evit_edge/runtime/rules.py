"""How a runner finds the resize and crop rule of an artefact, whatever its format."""

from __future__ import annotations

from pathlib import Path

from evit_edge.errors import ArtefactError
from evit_edge.manifest import manifest_path, read_manifest
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.info import RuleSource


def preprocessing_rule(
    path: Path, *, requested: Preprocessing | None, carried: Preprocessing | None, side: int
) -> tuple[Preprocessing, RuleSource]:
    """The rule that was asked for, else the file's, else the manifest's, else the default at the input's size.

    Args:
        path: The artefact.
        requested: What the user asked for.
        carried: What the file says.
        side: Of the square that the model takes, in pixels.

    Raises:
        ArtefactError: The rule cuts another square than the model takes.
    """
    candidates = [(requested, RuleSource.REQUEST), (carried, RuleSource.FILE)]
    beside = manifest_path(path)
    if requested is None and carried is None and _is_ours(beside):
        candidates.append((read_manifest(beside).preprocessing, RuleSource.MANIFEST))
    rule, source = next((c for c in candidates if c[0] is not None), (None, RuleSource.DEFAULT))
    if rule is None:
        return Preprocessing(image_size=side), source
    if rule.image_size != side:
        raise ArtefactError(f"{path.name} takes {side} px and its rule ({source.value}) cuts {rule.image_size} px")
    return rule, source


def label_aliases(path: Path, carried: dict[str, str]) -> dict[str, str]:
    """Folder names that mean a label: the file's, else the manifest's."""
    beside = manifest_path(path)
    if carried or not _is_ours(beside):
        return carried
    return read_manifest(beside).aliases


def _is_ours(path: Path) -> bool:
    """Third parties lay JSON files of other kinds beside their models."""
    if not path.is_file():
        return False
    head = path.read_bytes()[:200]
    return b'"schema"' in head and b'"tool_version"' in head
