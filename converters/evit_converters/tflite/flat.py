"""Reading a flatbuffer with the standard library alone, for a runtime without the flatbuffers package.

A flatbuffer table starts with a signed offset back to its vtable; the vtable holds, after two sizes, the
place of each field relative to the table, 0 for an absent one. Vectors, strings and tables inside a table are
reached through an unsigned offset relative to where it stands.
Source: https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table at a place in a buffer. Fields are numbered in the order of the schema, from 0."""

    data: bytes
    position: int

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The root table of a buffer."""
        return cls(data, _u32(data, 0))

    def string(self, field: int) -> str:
        """A string field; empty where absent."""
        return self.octets(field).decode("utf-8", errors="replace")

    def octets(self, field: int) -> bytes:
        """A string's or a byte vector's content; empty where absent."""
        place = self._vector(field)
        return self.data[place + 4 : place + 4 + _u32(self.data, place)] if place else b""

    def floats(self, field: int) -> tuple[float, ...]:
        """A vector of float32; empty where absent."""
        place = self._vector(field)
        return struct.unpack_from(f"<{_u32(self.data, place)}f", self.data, place + 4) if place else ()

    def ints(self, field: int) -> tuple[int, ...]:
        """A vector of int32; empty where absent."""
        place = self._vector(field)
        return struct.unpack_from(f"<{_u32(self.data, place)}i", self.data, place + 4) if place else ()

    def length(self, field: int) -> int:
        """How many entries a vector or bytes a string has; 0 where absent."""
        place = self._vector(field)
        return _u32(self.data, place) if place else 0

    def table(self, field: int) -> Table | None:
        """A table field, or the value of a union (its type is the field before)."""
        place = self._vector(field)
        return Table(self.data, place) if place else None

    def tables(self, field: int) -> list[Table]:
        """A vector of tables; empty where absent."""
        place = self._vector(field)
        if not place:
            return []
        slots = range(place + 4, place + 4 + 4 * _u32(self.data, place), 4)
        return [Table(self.data, slot + _u32(self.data, slot)) for slot in slots]

    def u8(self, field: int) -> int:
        """A byte, such as an enumeration or a union's type; 0 where absent."""
        place = self._slot(field)
        return self.data[place] if place else 0

    def u32(self, field: int) -> int:
        """An unsigned 32-bit number; 0 where absent."""
        place = self._slot(field)
        return _u32(self.data, place) if place else 0

    def u64(self, field: int) -> int:
        """An unsigned 64-bit number; 0 where absent."""
        place = self._slot(field)
        return int(struct.unpack_from("<Q", self.data, place)[0]) if place else 0

    def _slot(self, field: int) -> int:
        """Where a field's inline value stands, or 0."""
        (back,) = struct.unpack_from("<i", self.data, self.position)
        vtable = self.position - back
        (size,) = struct.unpack_from("<H", self.data, vtable)
        at = 4 + 2 * field
        if at >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, vtable + at)
        return self.position + offset if offset else 0

    def _vector(self, field: int) -> int:
        """Where what a field refers to stands, or 0."""
        place = self._slot(field)
        return place + _u32(self.data, place) if place else 0


def _u32(data: bytes, place: int) -> int:
    (value,) = struct.unpack_from("<I", data, place)
    return int(value)
