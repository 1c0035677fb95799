"""What an artefact says of itself beyond its format's own fields: one JSON object, whatever the format."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from evit_edge.errors import ArtefactError, EvitEdgeError
from evit_edge.preprocessing import Preprocessing
from evit_edge.tensors import OutputKind

DESCRIPTION_KEY = "evit_edge"
"""Key of the object in metadata of Core ML packages and ONNX models."""

LABELS_KEY = "labels"
"""Key of a JSON array with the classes' names in the same metadata."""


@dataclass(frozen=True)
class Description:
    """What :func:`evit_edge.pipeline.contents.carried_description` wrote.

    Attributes:
        preprocessing: The resize and crop rule.
        output_kind: What the scores are.
        aliases: Folder names that mean a label.
    """

    preprocessing: Preprocessing | None = None
    output_kind: OutputKind | None = None
    aliases: dict[str, str] = field(default_factory=dict)


def parse_description(content: str | bytes | None, name: str) -> Description:
    """Read it; nothing is stated where there is none.

    Args:
        content: The JSON object, or None.
        name: Where it stands in the file, for the error.

    Raises:
        ArtefactError: It cannot be read.
    """
    if content is None:
        return Description()
    try:
        fields = json.loads(content)
        if not isinstance(fields, dict):
            raise ValueError("a JSON object is needed")
        rule, kind = fields.get("preprocessing"), fields.get("output_kind")
        return Description(
            preprocessing=None if rule is None else Preprocessing.from_json(rule),
            output_kind=None if kind is None else OutputKind(kind),
            aliases={str(key): str(value) for key, value in (fields.get("aliases") or {}).items()},
        )
    except (ValueError, TypeError, AttributeError, RecursionError, EvitEdgeError) as exc:
        raise ArtefactError(f"its {name} cannot be read ({exc})") from exc


def parse_label_list(content: str | None) -> tuple[str, ...] | None:
    """Names of the classes from a JSON array; None where there is none, or another's use of the same key."""
    try:
        labels = json.loads(content or "null")
    except (ValueError, RecursionError):
        return None
    return tuple(str(label) for label in labels) if isinstance(labels, list) and labels else None
