"""The app for browsers: a web server of this machine, or of a network where that is asked for."""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evit_edge.errors import RequestError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from evit_app.application import App

LOOPBACK = "127.0.0.1"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""What a browser may send at once, a picture included; at uvicorn's 16 MiB large PNGs would cut the connection."""

ASSETS = Path(__file__).resolve().parent / "assets"

_KEPT_S = 60  # how long the page of a closed tab waits for it to come back; Flet keeps it an hour


@dataclass(frozen=True)
class Address:
    """Where the program listens.

    Attributes:
        host: An IP address.
        port: 1 to 65535.
        token: What a browser has to know; None on loopback.
    """

    host: str
    port: int
    token: str | None

    @classmethod
    def of(cls, host: str, port: int) -> Address:
        """An address with a fresh token where others can reach it.

        Raises:
            RequestError: It is no IP address.
        """
        try:
            parsed = ipaddress.ip_address(host)
        except ValueError as exc:
            raise RequestError(
                f"--host {host} given; an IP address of this machine is accepted, such as {LOOPBACK}, or 0.0.0.0"
            ) from exc
        return cls(host, port, None if parsed.is_loopback else secrets.token_urlsafe(24))

    @property
    def url(self) -> str:
        """What a person opens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}" + (f"/?token={self.token}" if self.token else "")

    @property
    def origins(self) -> frozenset[str] | None:
        """Origins of own pages; None where there are too many names to list."""
        if self.token is not None:
            return None
        return frozenset({self.url, f"http://localhost:{self.port}"})


def serve(opened: App, address: Address, tell: Callable[[str], Any]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        opened: The app.
        address: Where to listen.
        tell: Gets one line when the server is about to listen.

    Raises:
        RequestError: The address cannot be used.
    """
    import uvicorn

    with _listening(address) as listener:
        config = uvicorn.Config(
            _guarded(opened, address),
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # pictures do not become smaller, only later
            log_level="critical",  # an open page at the end is an error to uvicorn; Flet logs its own
            timeout_graceful_shutdown=1,
        )
        tell(f"{address.url} (Ctrl+C ends it)")
        server = uvicorn.Server(config)
        # uvicorn raises again what ended it; unhandled, SIGTERM would leave no time to clean up.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with suppress(KeyboardInterrupt):
                server.run(sockets=[listener])
        finally:
            opened.close()
            signal.signal(signal.SIGTERM, before)
        if not server.started:
            raise RequestError("the web server did not start; evit-edge doctor says what is installed")


def _guarded(opened: App, address: Address) -> ASGIApp:
    import flet

    from evit_app.camera_link import CameraSockets
    from evit_app.web import CameraScript, OwnPagesOnly, TokenOnly

    os.environ.setdefault("FLET_SESSION_TIMEOUT", str(_KEPT_S))
    # assets_dir: by default a folder of that name in the current one would be served.
    asgi = flet.run(opened.start, assets_dir=str(ASSETS), no_cdn=True, export_asgi_app=True)
    guarded: ASGIApp = OwnPagesOnly(CameraSockets(CameraScript(asgi)), address.origins)
    return guarded if address.token is None else TokenOnly(guarded, address.token)


def _listening(address: Address) -> socket.socket:
    """A socket on the address and on no other.

    Raises:
        RequestError: It is taken, not allowed, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as exc:
        raise RequestError(
            f"port {address.port} of {address.host} cannot be used: {exc.strerror or exc}; "
            "choose another with --port"
        ) from exc
