"""Between a browser and the app: only pages that this program served are let in, and none of them calls out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1

# Flutter compiles WebAssembly, starts workers from blobs and styles inline. Its client also asks a CDN for a part
# that the app does not use, whatever `no_cdn` says; this keeps the browser from asking.
_CONTENT_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob: ws:; "
    "frame-ancestors 'none'"
)


class OwnPagesOnly:
    """ASGI middleware. A page of another site may open a socket to this machine, and Flet would answer it.

    Args:
        app: What is guarded.
        origins: Where own pages come from, such as ``http://127.0.0.1:8550``.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, or close it."""
        if scope["type"] == "websocket" and not self._is_own(scope):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", _CONTENT_POLICY.encode())
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        await self._app(scope, receive, with_policy)

    def _is_own(self, scope: Scope) -> bool:
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        return len(origins) == 1 and origins[0] in self._origins
