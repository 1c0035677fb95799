"""What a package says of itself beyond Core ML's own fields, under the key ``evit_edge`` of its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from evit_edge.errors import ArtefactError, EvitEdgeError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.coreml.interface import classifier
from evit_edge.runtime.coreml.package import Package
from evit_edge.runtime.coreml.program import Function, Operation
from evit_edge.tensors import OutputKind

DESCRIPTION_KEY = "evit_edge"
"""User-defined metadata with a JSON object: ``preprocessing``, ``aliases``, ``output_kind``, ``labels``, each of
them optional."""

LABELS_KEY = "labels"
"""User-defined metadata with a JSON array of names, for packages that are no classifiers to Core ML."""

_NORMALISING = ("softmax", "sigmoid")
_PASSING = ("cast", "identity", "reshape", "squeeze", "expand_dims", "flatten2d")


@dataclass(frozen=True)
class Description:
    """A package's own description.

    Attributes:
        output_kind: As stated, else probabilities where the program ends in a softmax or sigmoid, else logits.
        labels: Names of the classes, of a classifier as Core ML has them, else as stated.
        preprocessing: The resize and crop rule, where this project wrote it.
        aliases: Folder names that mean a label, where this project wrote them.
    """

    output_kind: OutputKind
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    aliases: dict[str, str] = field(default_factory=dict)


def read_description(package: Package) -> Description:
    """Read labels, output kind and rule.

    Raises:
        ArtefactError: The metadata of this project cannot be read.
    """
    stated = _stated(package)
    try:
        rule, kind = stated.get("preprocessing"), stated.get("output_kind")
        return Description(
            output_kind=OutputKind(kind) if kind is not None else graph_output_kind(package),
            labels=package.labels or _listed(stated.get("labels")) or _listed(_json(package, LABELS_KEY)),
            preprocessing=None if rule is None else Preprocessing.from_json(rule),
            aliases={str(key): str(value) for key, value in (stated.get("aliases") or {}).items()},
        )
    except (ValueError, TypeError, AttributeError, EvitEdgeError) as exc:
        raise ArtefactError(f"{package.path}: its metadata {DESCRIPTION_KEY!r} cannot be read ({exc})") from exc


def distinct_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels as a Core ML classifier can carry them, which keeps scores by label: each once.

    ImageNet has two cranes and two maillots; the later one becomes ``crane (class 517)``.
    """
    seen: set[str] = set()
    distinct = []
    for class_id, label in enumerate(labels):
        distinct.append(f"{label} (class {class_id})" if label in seen else label)
        seen.add(label)
    return tuple(distinct)


def graph_output_kind(package: Package) -> OutputKind:
    """What the scores are by the program alone: probabilities behind a softmax or sigmoid, else logits."""
    producers = _producers(package.function)
    operation = classifier(package.function)
    ends = package.function.block.outputs
    name = _only(operation, "probabilities") if operation is not None else (ends[0] if len(ends) == 1 else None)
    while name in producers:
        operation = producers[name]
        if operation.type in _NORMALISING:
            return OutputKind.PROBABILITIES
        if operation.type not in _PASSING:
            break
        name = _only(operation, "x")
    return OutputKind.LOGITS


def _producers(function: Function) -> dict[str | None, Operation]:
    return {output.name: operation for operation in function.operations for output in operation.outputs}


def _only(operation: Operation, key: str) -> str | None:
    bindings = operation.inputs.get(key, ())
    return bindings[0] if len(bindings) == 1 and isinstance(bindings[0], str) else None


def _stated(package: Package) -> dict[str, Any]:
    if DESCRIPTION_KEY not in package.user_defined:
        return {}
    fields = _json(package, DESCRIPTION_KEY)
    if not isinstance(fields, dict):
        raise ArtefactError(f"{package.path}: its metadata {DESCRIPTION_KEY!r} is no JSON object")
    return fields


def _json(package: Package, key: str) -> Any:
    """What a key holds, or None where there is no such key or another's use of it."""
    try:
        return json.loads(package.user_defined.get(key, "null"))
    except (ValueError, RecursionError):
        return None


def _listed(labels: Any) -> tuple[str, ...] | None:
    return tuple(str(label) for label in labels) if isinstance(labels, list) and labels else None
