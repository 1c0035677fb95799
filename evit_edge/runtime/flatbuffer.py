"""Reading FlatBuffers tables by field number, bounds-checked.

The environment that runs an artefact may carry nothing but numpy and an interpreter (tflite-runtime's does), so
the few fields that are wanted of a ``.tflite`` are read with :mod:`struct`. Source of the layout: the
FlatBuffers "internals" document; a table starts with the offset of its vtable, which lists each field's place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from evit_edge.errors import ArtefactError


@dataclass(frozen=True)
class Table:
    """A table inside a buffer.

    Attributes:
        data: The whole buffer.
        position: Where the table starts, in bytes.
    """

    data: bytes
    position: int

    @classmethod
    def root(cls, data: bytes, identifier: bytes) -> Table:
        """The buffer's outermost table.

        Raises:
            ArtefactError: The buffer does not carry the four-byte identifier.
        """
        if data[4:8] != identifier:
            raise ArtefactError(f"no {identifier.decode()} FlatBuffer: identifier {data[4:8]!r}")
        return cls(data, _unpack("<I", data, 0))

    def integer(self, field: int, code: str = "i", default: int = 0) -> int:
        """A scalar field; ``code`` is :mod:`struct`'s."""
        place = self._place(field)
        return default if place is None else _unpack(f"<{code}", self.data, place)

    def table(self, field: int) -> Table | None:
        """A field that is a table."""
        place = self._place(field)
        return None if place is None else Table(self.data, _follow(self.data, place))

    def tables(self, field: int) -> Iterator[Table]:
        """A field that is a vector of tables."""
        start, count = self._vector(field)
        for i in range(count):
            yield Table(self.data, _follow(self.data, start + 4 * i))

    def numbers(self, field: int, code: str) -> tuple[float, ...]:
        """A field that is a vector of scalars; ``code`` is :mod:`struct`'s."""
        start, count = self._vector(field)
        try:
            return struct.unpack_from(f"<{count}{code}", self.data, start)
        except struct.error as exc:
            raise ArtefactError("the FlatBuffer ends inside a vector: the file is truncated or damaged") from exc

    def raw(self, field: int) -> bytes:
        """A field that is a vector of bytes, or a string."""
        start, count = self._vector(field)
        return self.data[start : start + count]

    def text(self, field: int) -> str:
        """A string field."""
        return self.raw(field).decode("utf-8", "replace")

    def _place(self, field: int) -> int | None:
        vtable = self.position - _unpack("<i", self.data, self.position)
        if 4 + 2 * field >= _unpack("<H", self.data, vtable):
            return None
        offset = _unpack("<H", self.data, vtable + 4 + 2 * field)
        return self.position + offset if offset else None

    def _vector(self, field: int) -> tuple[int, int]:
        place = self._place(field)
        if place is None:
            return 0, 0
        start = _follow(self.data, place)
        count = _unpack("<I", self.data, start)
        if start + 4 + count > len(self.data):  # an element takes a byte at least
            raise ArtefactError("the FlatBuffer ends inside a vector: the file is truncated or damaged")
        return start + 4, count


def _unpack(code: str, data: bytes, place: int) -> int:
    if place < 0:
        raise ArtefactError("the FlatBuffer points outside itself: the file is damaged")
    try:
        value: int = struct.unpack_from(code, data, place)[0]
    except struct.error as exc:
        raise ArtefactError("the FlatBuffer points outside itself: the file is truncated or damaged") from exc
    return value


def _follow(data: bytes, place: int) -> int:
    return place + _unpack("<I", data, place)
