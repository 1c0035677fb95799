"""Frozen dataclasses to JSON and back, every field checked."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from evit_edge.errors import EvitEdgeError

T = TypeVar("T")


class MismatchError(ValueError):
    """A JSON value that is not what the field takes; names the field."""


def to_json(value: Any) -> Any:
    """A dataclass, enum, tuple, dict or scalar as JSON's own types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def from_json(kind: type[T], value: Any, where: str = "") -> T:
    """Build a frozen dataclass from a JSON object.

    Args:
        kind: The dataclass. Its fields may be dataclasses, enums, str, int, float, bool, paths, tuples and dicts
            of those, or any of them or None.
        value: The parsed JSON.
        where: Field that the value stands in, for the message.

    Raises:
        MismatchError: A field is missing, unknown, or of another type.
    """
    if not isinstance(value, dict):
        raise MismatchError(f"{where or 'the whole'} is {_shown(value)}; an object is needed")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    unknown = sorted(set(value) - set(fields))
    missing = sorted(name for name in fields if name not in value)
    if unknown or missing:
        parts = [
            f"{word} {', '.join(names)}" for word, names in (("lacks", missing), ("has unknown", unknown)) if names
        ]
        raise MismatchError(f"{where or 'the whole'} {' and '.join(parts)}")
    parsed = {name: _parse(hints[name], value[name], f"{where}.{name}".lstrip(".")) for name in fields}
    try:
        return kind(**parsed)
    except (EvitEdgeError, ValueError) as exc:
        raise MismatchError(f"{where or 'the whole'}: {exc}") from exc


def _parse(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        if value is None and type(None) in arguments:
            return None
        return _parse(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        return _parse_tuple(arguments, value, where)
    if origin is dict:
        return _parse_dict(arguments[1], value, where)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type[Any], hint), value, where)
    return _parse_enum(hint, value, where) if issubclass(hint, Enum) else _parse_scalar(hint, value, where)


def _parse_dict(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MismatchError(f"{where} is {_shown(value)}; an object is needed")
    return {key: _parse(hint, item, f"{where}.{key}") for key, item in value.items()}


def _parse_enum(hint: type[Enum], value: Any, where: str) -> Enum:
    accepted = [member.value for member in hint]
    if value not in accepted:
        raise MismatchError(f"{where} is {_shown(value)}; {', '.join(map(str, accepted))} are accepted")
    return hint(value)


def _parse_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise MismatchError(f"{where} is {_shown(value)}; a list is needed")
    hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(hints) != len(value):
        raise MismatchError(f"{where} has {len(value)} entries; {len(hints)} are needed")
    return tuple(
        _parse(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(hints, value, strict=True))
    )


def _parse_scalar(hint: type, value: Any, where: str) -> Any:
    if hint is Path:
        return Path(_parse_scalar(str, value, where))
    accepted: tuple[type, ...] = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise MismatchError(f"{where} is {_shown(value)}; {hint.__name__} is needed")
    return float(typing.cast(float, value)) if hint is float else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
