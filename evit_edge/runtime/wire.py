"""Messages between two processes: a JSON object and raw bytes. Neither can make the other execute anything."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

_HEAD = struct.Struct("<IQ")
_MOST_TEXT = 2**28

Message = dict[str, Any]


class BrokenMessageError(ValueError):
    """Bytes that are no message, or a larger one than is accepted."""


def send(to: int, message: Message, body: bytes | memoryview = b"") -> None:
    """Write a message to a file descriptor.

    Raises:
        OSError: Nobody reads any more.
    """
    text = json.dumps(message).encode()
    _write(to, _HEAD.pack(len(text), len(body)) + text)
    if len(body):
        _write(to, body)


def receive(source: int, most_bytes: int = 2**30) -> tuple[Message, bytearray]:
    """Read a message from a file descriptor.

    Args:
        source: The descriptor.
        most_bytes: The longest body that is accepted.

    Raises:
        EOFError: The other side has closed it, or ended.
        BrokenMessageError: What came is no message.
    """
    text_size, body_size = _HEAD.unpack(_read(source, _HEAD.size))
    if text_size > _MOST_TEXT or body_size > most_bytes:
        raise BrokenMessageError(f"a message of {text_size} and {body_size} bytes")
    try:
        message = json.loads(_read(source, text_size))
    except (ValueError, RecursionError) as exc:
        raise BrokenMessageError(f"a message that is no JSON ({exc})") from exc
    if not isinstance(message, dict):
        raise BrokenMessageError("a message that is no JSON object")
    return message, _read(source, body_size)


def _write(to: int, content: bytes | memoryview) -> None:
    view = memoryview(content).cast("B")
    while view:
        view = view[os.write(to, view) :]


def _read(source: int, size: int) -> bytearray:
    content = bytearray(size)
    view, filled = memoryview(content), 0
    while filled < size:
        part = os.readv(source, [view[filled:]]) if hasattr(os, "readv") else _read_part(source, view[filled:])
        if part == 0:
            raise EOFError
        filled += part
    return content


def _read_part(source: int, into: memoryview) -> int:
    part = os.read(source, len(into))
    into[: len(part)] = part
    return len(part)
