"""Between a browser and the app: only pages that this program served are let in, and none of them calls out."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from evit_edge import __version__

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1
_COOKIE = "evit_edge_token"

# Flutter compiles WebAssembly, starts workers from blobs and styles inline. Its client also asks a CDN for a part
# that the app does not use, whatever `no_cdn` says; this keeps the browser from asking.
_CONTENT_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob: ws:; "
    "frame-ancestors 'none'"
)


_SCRIPT = f'<script src="/camera.js?v={__version__}"></script>'.encode()


class CameraScript:
    """ASGI middleware. Adds the camera's script to pages; it has to come before Flet opens its socket.

    Args:
        app: What serves the pages.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on; put the script at the head of a page."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = False

        async def with_script(message: Message) -> None:
            nonlocal added
            if message["type"] == "http.response.start":
                headers = dict(message.get("headers", ()))
                added = message["status"] == 200 and headers.get(b"content-type", b"").startswith(b"text/html")
                if added:  # its length is no longer that
                    kept = [header for header in message["headers"] if header[0] != b"content-length"]
                    message = {**message, "headers": kept}
            elif added and message.get("body"):
                added = False
                message = {**message, "body": message["body"].replace(b"<head>", b"<head>" + _SCRIPT, 1)}
            await send(message)

        await self._app(scope, receive, with_script)


class OwnPagesOnly:
    """ASGI middleware. A page of another site may open a socket to this machine, and Flet would answer it.

    Args:
        app: What is guarded.
        origins: Where own pages come from, such as ``http://127.0.0.1:8550``; None where the program listens to a
            network and has many names: then a page's origin must be the address that it asked for.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str] | None) -> None:
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
        origins = _headers(scope, b"origin")
        allowed = self._origins or frozenset(f"http://{host}" for host in _headers(scope, b"host"))
        return len(origins) == 1 and origins[0] in allowed


class TokenOnly:
    """ASGI middleware. Lets in who knows the token: given once as ``?token=``, then kept in a cookie.

    Args:
        app: What is guarded.
        token: The secret.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, or refuse it."""
        if scope["type"] == "lifespan" or self._is_right(_cookie(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        elif self._is_right(_asked_token(scope)):
            # HttpOnly: no script needs it. Strict: pages of other sites do not send it along.
            cookie = f"{_COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 303, b"", [(b"set-cookie", cookie.encode()), (b"location", b"/")])
        else:
            text = b"The address needs ?token= with the token that evit-edge app printed when it started.\n"
            await _answer(send, 401, text, [(b"content-type", b"text/plain; charset=utf-8")])

    def _is_right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _cookie(scope: Scope) -> str:
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load("; ".join(_headers(scope, b"cookie")))
    except CookieError:
        return ""
    return cookies[_COOKIE].value if _COOKIE in cookies else ""


def _asked_token(scope: Scope) -> str:
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return str(query.get("token", [""])[0])
