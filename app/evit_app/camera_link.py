"""The camera of a browser's page, by a socket of its own beside Flet's; both carry the key that the page drew."""

from __future__ import annotations

import asyncio
import json
import math
import re
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from evit_app.frames import SourceError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_PICTURE_BYTES = 4 * 1024 * 1024
"""Of one message; a JPEG of 640x480 has some 60 KB."""

_CAMERA_PATH = "/camera"
_KEY = re.compile("[0-9a-f]{32}")
_HEADER = struct.Struct("<Id")  # the run, and when the picture was taken, seconds on the link's clock
_CONNECTING_S = 10.0
_GOING_AWAY, _POLICY_VIOLATION, _TOO_BIG = 1001, 1008, 1009  # RFC 6455, section 7.4.1

_Outbox = asyncio.Queue[dict[str, Any] | None]  # None closes the socket


class _RefusedError(Exception):
    """A message that the page's script does not send."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Started:
    """A camera that sends pictures.

    Attributes:
        name: What the browser calls it; may be empty.
        names: All its cameras, in its order.
    """

    name: str
    names: tuple[str, ...]


class CameraLink:
    """One page's camera.

    Args:
        clock: The pipeline's, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._outbox: _Outbox | None = None
        self._connected = asyncio.Event()
        self._run = 0
        self._started: asyncio.Future[Started] | None = None
        self.on_picture: Callable[[bytes, float], None] | None = None
        """Gets each JPEG, and when it was taken: not later than that, by the clock."""
        self.on_end: Callable[[str], None] | None = None
        """Gets the reason when no more pictures will come."""

    async def start(self, name: str) -> Started:
        """Ask for a camera.

        Args:
            name: Which one; any if empty.

        Raises:
            SourceError: The browser's reason, in its own words.
            TimeoutError: The page's script does not answer.
        """
        self.stop()
        async with asyncio.timeout(_CONNECTING_S):
            await self._connected.wait()
        self._run += 1
        self._started = asyncio.get_running_loop().create_future()
        self._tell(run=self._run, start=name)
        return await self._started

    def stop(self) -> None:
        """Let go of the camera; what is still on its way is thrown away."""
        if self._started is not None:
            self._started.cancel()
            self._tell(stop=True)
        self._run += 1
        self._started = self.on_picture = self.on_end = None

    def close(self) -> None:
        """Let go of the camera and close the socket."""
        self.stop()
        if self._outbox is not None:
            self._outbox.put_nowait(None)

    async def serve(self, receive: Receive, send: Send) -> None:
        """Talk with the page's script until it goes, or sends what it should not."""
        if self._outbox is not None:
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        outbox = self._outbox = asyncio.Queue()
        writing: asyncio.Task[None] | None = None
        try:
            await receive()
            await send({"type": "websocket.accept"})
            writing = asyncio.create_task(_write(outbox, send))
            self._connected.set()
            await self._read(receive)
        except _RefusedError as exc:
            await send({"type": "websocket.close", "code": exc.code})
        finally:
            self._connected.clear()
            self._outbox = None
            if writing is not None:
                writing.cancel()
            self._end("the connection was closed")

    async def _read(self, receive: Receive) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            content = message.get("bytes")
            size = len(content if content is not None else message["text"])
            if size > MAX_PICTURE_BYTES:
                raise _RefusedError(_TOO_BIG)
            if content is None:
                self._on_told(message["text"])
            else:
                self._on_content(content)

    def _on_content(self, content: bytes) -> None:
        if len(content) <= _HEADER.size:
            raise _RefusedError(_POLICY_VIOLATION)
        run, captured_s = _HEADER.unpack_from(content)
        if not math.isfinite(captured_s):
            raise _RefusedError(_POLICY_VIOLATION)
        if run != self._run:
            return
        self._tell(run=run)
        if self.on_picture is not None:
            self.on_picture(content[_HEADER.size :], min(captured_s, self._clock()))

    def _on_told(self, text: str) -> None:
        """A camera that began, or that did not or does not go on."""
        try:
            told = json.loads(text)
            run, failed = told["run"], told.get("failed")
            reason = f"{failed}: {told['reason']}"[:500] if failed else ""
            started = None if failed else Started(str(told["started"]), tuple(map(str, told["names"])))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise _RefusedError(_POLICY_VIOLATION) from exc
        if run != self._run:
            return
        if started is None:
            self._end(reason)
        elif self._started is not None and not self._started.done():
            self._started.set_result(started)

    def _end(self, reason: str) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_exception(SourceError(reason))
        if self.on_end is not None:
            self.on_end(reason)

    def _tell(self, **what: Any) -> None:
        if self._outbox is not None:
            self._outbox.put_nowait(what | {"at": self._clock()})


async def _write(outbox: _Outbox, send: Send) -> None:
    with suppress(OSError, RuntimeError):  # it went meanwhile, or was sent away
        while (what := await outbox.get()) is not None:
            await send({"type": "websocket.send", "text": json.dumps(what)})
        await send({"type": "websocket.close", "code": _GOING_AWAY})


page_link: ContextVar[CameraLink | None] = ContextVar("page_link", default=None)
"""The link of the page whose connection the running task belongs to; Flet's handlers run in tasks of it."""


class CameraSockets:
    """ASGI middleware. Gives each of Flet's connections a link, and the link its socket.

    A page draws a random key and names it in the address of both sockets. Only who knows a key that belongs to an
    open connection of Flet's can feed that page; its second socket is refused.

    Args:
        app: What serves Flet's pages and sockets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._links: dict[str, CameraLink] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, or serve the camera's."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        key = parse_qs(scope["query_string"].decode("latin-1")).get("camera", [""])[0]
        if scope["path"] == _CAMERA_PATH:
            link = self._links.get(key)
            if link is None:
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            else:
                await link.serve(receive, send)
        else:
            await self._with_link(key, scope, receive, send)

    async def _with_link(self, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        link = CameraLink()
        if _KEY.fullmatch(key):
            self._links[key] = link
        page_link.set(link)
        try:
            await self._app(scope, receive, send)
        finally:
            link.close()
            if self._links.get(key) is link:
                del self._links[key]
