"""The weight file of an ML Program: MILBlob storage, version 2.

A header of 64 bytes (count, version), then blobs. Each has 64 bytes that describe it (sentinel, element type,
size, offset of its data) and starts on a multiple of 64, as does its data. All little-endian. Source: coremltools'
``mlmodel/src/MILBlob/Blob/StorageFormat.hpp``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml.elements import BY_BLOB_NUMBER, Array, Element, decode, packed_size

_HEADER = struct.Struct("<II56x")
_METADATA = struct.Struct("<IIQQQ32x")
_SENTINEL = 0xDEADBEEF
_VERSION = 2
_ALIGNMENT = 64


@dataclass(frozen=True)
class BlobFile:
    """A weight file in memory.

    Attributes:
        name: For messages.
        content: All of its bytes.
        used: Offsets that were read so far.
    """

    name: str
    content: bytes = field(repr=False)
    used: set[int] = field(default_factory=set, repr=False)

    @classmethod
    def open(cls, path: Path, name: str) -> BlobFile:
        """Read a file and check its header.

        Raises:
            ArtefactError: It cannot be read or has another header.
        """
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise ArtefactError(f"{name} cannot be read: {exc.strerror}") from exc
        if len(content) < _HEADER.size:
            raise ArtefactError(f"{name} has {len(content)} bytes; its header alone takes {_HEADER.size}")
        _, version = _HEADER.unpack_from(content)
        if version != _VERSION:
            raise ArtefactError(f"{name} states storage version {version}; {_VERSION} is accepted")
        return cls(name, content)

    def read(self, offset: int, element: Element, shape: tuple[int, ...], value: str) -> Array:
        """Values of one blob.

        Args:
            offset: Where its description starts.
            element: What the program says it holds.
            shape: What the program says of its shape.
            value: Name of the value, for messages.

        Returns:
            ``shape`` of ``element.numpy``, read-only where no unpacking was needed.

        Raises:
            ArtefactError: The description is damaged, contradicts the program, or points outside the file.
        """
        where = f"{self.name}: the weight {value!r} at offset {offset}"
        if offset % _ALIGNMENT or offset < _HEADER.size or offset + _METADATA.size > len(self.content):
            raise ArtefactError(
                f"{where} lies outside the file's {len(self.content)} bytes or off its grid of {_ALIGNMENT}"
            )
        sentinel, number, size, start, padding = _METADATA.unpack_from(self.content, offset)
        if sentinel != _SENTINEL:
            raise ArtefactError(
                f"{where} starts with {sentinel:#x} instead of {_SENTINEL:#x}; the file is damaged"
            )
        stored = BY_BLOB_NUMBER.get(number)
        if stored is not element:
            raise ArtefactError(f"{where} holds {stored or f'type {number}'} and the program says {element}")
        if start % _ALIGNMENT or start < offset + _METADATA.size or start + size > len(self.content):
            raise ArtefactError(
                f"{where} claims {size} bytes from {start} on; the file ends at {len(self.content)}: "
                "it is truncated or damaged"
            )
        count = int(np.prod(shape, dtype=object)) if shape else 1
        expected = packed_size(element, count)
        if size != expected or padding not in (0, size * 8 - count * element.bits):
            raise ArtefactError(f"{where} has {size} bytes; {element} {shape} takes {expected}")
        self.used.add(offset)
        self._check_count()
        return decode(memoryview(self.content)[start : start + size], element, count).reshape(shape)

    def _check_count(self) -> None:
        count, _ = _HEADER.unpack_from(self.content)
        if len(self.used) > count:
            raise ArtefactError(f"{self.name} states {count} blobs and the program uses more; the file is damaged")
