"""JSON Schema of the report, made from its dataclasses so that the two cannot differ.

``python -m evit_edge.benchmark.schema`` writes the published file anew.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

from evit_edge.benchmark.report import SCHEMA, Report

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCALARS: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
FILE = "report.schema.json"


def report_schema() -> dict[str, Any]:
    """The schema of :class:`Report`."""
    definitions: dict[str, Any] = {}
    _object(Report, definitions)
    body = definitions.pop(Report.__name__)
    body["properties"]["schema"] = {"const": SCHEMA}
    title = {"$schema": DIALECT, "title": f"evit-edge latency report, format {SCHEMA}"}
    return {**title, **body, "$defs": dict(sorted(definitions.items()))}


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"


def published_schema() -> dict[str, Any]:
    """The schema that lies in the package."""
    text = resources.files("evit_edge.benchmark").joinpath(FILE).read_text(encoding="utf-8")
    return typing.cast(dict[str, Any], json.loads(text))


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """Define a dataclass, and give the reference to it."""
    reference = {"$ref": f"#/$defs/{kind.__name__}"}
    if kind.__name__ in definitions:
        return reference
    definitions[kind.__name__] = {}  # before its fields: one of them may refer back
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(typing.cast(Any, kind))]
    docstring = inspect.getdoc(kind) or ""  # without the indentation, which Python 3.13 takes off and 3.11 leaves
    told = _attributes(docstring)
    properties = {name: {**_of(hints[name], definitions), **_described(told.get(name))} for name in names}
    definitions[kind.__name__] = {
        "type": "object",
        "description": docstring.splitlines()[0],
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }
    return reference


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        options = [_of(a, definitions) for a in arguments if a is not type(None)]
        return {"anyOf": [*options, {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if dataclasses.is_dataclass(hint):
        return _object(typing.cast(type, hint), definitions)
    if issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    return {"type": SCALARS[hint]}


def _described(text: str | None) -> dict[str, str]:
    return {} if text is None else {"description": text}


def _attributes(docstring: str) -> dict[str, str]:
    """What a Google docstring says under ``Attributes:``, by name."""
    _, _, section = docstring.partition("Attributes:\n")
    told: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line.startswith(" " * 4) and not line.startswith(" " * 5) and ":" in line:
            name, _, text = (part.strip() for part in line.partition(":"))
            told[name] = text
        elif line.strip() and name:
            told[name] += f" {line.strip()}"
    return told


if __name__ == "__main__":
    Path(__file__).with_name(FILE).write_text(schema_text(), encoding="utf-8")
