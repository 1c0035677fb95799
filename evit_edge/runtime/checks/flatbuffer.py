"""Whether a flatbuffer holds together: every table, vector and string inside the file, and not too many of them.

This is what a flatbuffer verifier does. No engine's Python interface offers one, and the
``flatbuffers`` package for Python has none. The form of a flatbuffer: https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from evit_edge.errors import ArtefactError

MAX_TABLES = 200_000
_UNFOLDED = 4
_MARGIN = 2**20

Row = tuple[str, ...]


@dataclass(frozen=True)
class Schema:
    """The tables of a format; ``scripts/tflite_schema.py`` says how they are written.

    Attributes:
        tables: Name to fields.
        unions: Name to tables by their number; 0 is none.
    """

    tables: Mapping[str, Row]
    unions: Mapping[str, Row]

    @classmethod
    def parse(cls, text: str) -> Schema:
        """Read a table a line."""
        rows = [line.split() for line in text.splitlines() if line]
        return cls(
            tables={name: tuple(fields) for name, *fields in rows if not name.startswith("=")},
            unions={name[1:]: tuple(members) for name, *members in rows if name.startswith("=")},
        )


def verify(data: bytes, schema: Schema, root: str) -> None:
    """Walk a flatbuffer from its root.

    What is referred to twice is walked twice: a reader would do so, too, and a small file may unfold without end.

    Args:
        data: The file, or the part of it that is a flatbuffer.
        schema: Its format.
        root: Name of the root's table.

    Raises:
        ArtefactError: Something lies outside, overlaps its own table's end, or unfolds to far more than the file.
    """
    try:
        _Walk(data, schema).all(root)
    except struct.error as exc:  # a place outside that no sum below has caught
        raise ArtefactError(f"an offset leads outside the {len(data)} bytes") from exc


class _Walk:
    def __init__(self, data: bytes, schema: Schema) -> None:
        self._data, self._size, self._schema = data, len(data), schema
        self._left = _UNFOLDED * self._size + _MARGIN
        self._tables = 0
        self._vtables: dict[int, tuple[int, ...]] = {}
        self._todo: list[tuple[int, str]] = []

    def all(self, root: str) -> None:
        if self._size < 8:
            raise ArtefactError(f"{self._size} bytes are no flatbuffer")
        self._todo.append((self._u32(0), root))
        while self._todo:
            self._table(*self._todo.pop())

    def _table(self, place: int, name: str) -> None:
        self._tables += 1
        if self._tables > MAX_TABLES:
            raise ArtefactError(f"it unfolds to more than {MAX_TABLES:,} tables")
        self._inside(place, 4, f"a table {name}")
        if place % 4:
            raise ArtefactError(f"a table {name} lies at {place}, which is no multiple of 4")
        (back,) = struct.unpack_from("<i", self._data, place)
        size, *offsets = self._vtable(place - back)
        self._inside(place, size, f"a table {name}")
        kind = 0  # of a union that may follow
        for field, offset in zip(self._schema.tables[name], offsets, strict=False):
            if field == "-" or not offset:
                kind = 0
                continue
            width = int(field) if field.isdigit() else 4
            if offset < 4 or offset + width > size:
                raise ArtefactError(f"a field of a table {name} lies outside it")
            at = place + offset
            if field.isdigit():
                kind = self._data[at]
            else:
                self._follow(at, field, kind, name)

    def _vtable(self, place: int) -> tuple[int, ...]:
        """Size of the table, then the places of its fields."""
        known = self._vtables.get(place)
        if known is not None:
            return known
        self._inside(place, 4, "a vtable")
        own, size = struct.unpack_from("<HH", self._data, place)
        if own < 4 or own % 2 or size < 4:
            raise ArtefactError(f"the vtable at {place} has sizes {own} and {size}, which no table has")
        self._inside(place, own, "a vtable")
        fields = struct.unpack_from(f"<{own // 2 - 2}H", self._data, place + 4)
        return self._vtables.setdefault(place, (size, *fields))

    def _follow(self, at: int, field: str, kind: int, name: str) -> None:
        place = at + self._u32(at)
        if field.startswith("="):
            members = self._schema.unions[field[1:]]
            if kind >= len(members):
                raise ArtefactError(f"a table {name} has {field[1:]} of kind {kind}, which is unknown")
            if kind:
                self._todo.append((place, members[kind]))
        elif field == "string":
            self._string(place, name)
        elif not field.startswith("["):
            self._todo.append((place, field))
        else:
            self._vector(place, field[1:-1], name)

    def _string(self, place: int, name: str) -> None:
        end = self._counted(place, 1, f"a string of a table {name}")
        self._inside(end, 1, f"a string of a table {name}")
        if self._data[end]:  # native code reads on to the next zero
            raise ArtefactError(f"a string of a table {name} does not end with a zero byte")

    def _vector(self, place: int, entry: str, name: str) -> None:
        width = int(entry) if entry.isdigit() else 4
        end = self._counted(place, width, f"a vector of a table {name}")
        if entry.isdigit():
            return
        if self._tables + len(self._todo) + (end - place) // 4 > MAX_TABLES:
            raise ArtefactError(f"it unfolds to more than {MAX_TABLES:,} tables")
        self._todo += [(slot + self._u32(slot), entry) for slot in range(place + 4, end, 4)]

    def _counted(self, place: int, width: int, what: str) -> int:
        """Where a vector ends."""
        self._inside(place, 4, what)
        if place % 4:
            raise ArtefactError(f"{what} lies at {place}, which is no multiple of 4")
        length = width * self._u32(place)
        self._inside(place + 4, length, what)
        self._left -= length
        if self._left < 0:
            raise ArtefactError(f"it unfolds to more than {_UNFOLDED} times its {self._size} bytes")
        return place + 4 + length

    def _inside(self, place: int, length: int, what: str) -> None:
        if place < 4 or place + length > self._size:
            raise ArtefactError(f"{what} at {place} with {length} bytes lies outside the {self._size} bytes")

    def _u32(self, place: int) -> int:
        (value,) = struct.unpack_from("<I", self._data, place)
        return int(value)
