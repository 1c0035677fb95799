"""``evit-edge-app``: the app on this machine, in a window or in a browser."""

from __future__ import annotations

import importlib.util
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.errors import EvitEdgeError, MissingExtraError, RequestError, require_installed

if TYPE_CHECKING:
    from evit_app.view import App

HOST = "127.0.0.1"
DEFAULT_PORT = 8550
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""What a browser may send at once, a picture included; at uvicorn's 16 MiB large PNGs would cut the connection."""

app = typer.Typer(
    name="evit-edge-app", pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.command()
def run(
    artefact: Annotated[str, typer.Argument(help="A .tflite file, such as evit-edge convert writes.")],
    web: Annotated[bool, typer.Option("--web", help=f"Serve browsers on {HOST}, in place of a window.")] = False,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="With --web.")] = DEFAULT_PORT,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the engine.")] = 1,
) -> None:
    """Choose pictures and see what a model makes of them, and how fast."""
    try:
        require_installed("flet", extra="app")
        if web:
            require_installed("flet_web", extra="app")
            _serve(artefact, threads, port)
        else:
            _check_desktop()
            _open_window(artefact, threads)
    except EvitEdgeError as exc:
        typer.echo(f"evit-edge-app: error: {' '.join(str(exc).split())}", err=True)
        raise typer.Exit(1) from exc


def main() -> None:
    """Console entry. Exits 0; 1 on an error; 2 on wrong usage."""
    app()


def _opened(artefact: str, threads: int) -> App:
    """The app with its model loaded, so that a broken one is told here and not on a page."""
    from evit_app.session import Session
    from evit_app.view import App

    session = Session.open(artefact, threads=threads)
    return App(lambda: session)


def _serve(artefact: str, threads: int, port: int) -> None:
    import flet
    import uvicorn

    from evit_app.web import OwnPagesOnly

    opened = _opened(artefact, threads)
    with _listening(port) as listener:
        # assets_dir: by default a folder of that name in the current one would be served.
        asgi = flet.run(opened.start, assets_dir=None, no_cdn=True, export_asgi_app=True)
        origins = frozenset(f"http://{host}:{port}" for host in (HOST, "localhost"))
        config = uvicorn.Config(
            OwnPagesOnly(asgi, origins),
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE_BYTES,
            log_level="critical",  # an open page at the end is an error to uvicorn; Flet logs its own
            timeout_graceful_shutdown=1,
        )
        typer.echo(f"evit-edge-app: http://{HOST}:{port} (Ctrl+C ends it)")
        server = uvicorn.Server(config)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        if not server.started:
            raise RequestError("the web server did not start; evit-edge doctor says what is installed")


def _listening(port: int) -> socket.socket:
    """A socket that only this machine reaches.

    Raises:
        RequestError: The port is taken or not allowed.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as exc:
        raise RequestError(
            f"port {port} cannot be used: {exc.strerror or exc}; choose another with --port"
        ) from exc


def _check_desktop() -> None:
    """Refuse what Flet would answer with an installation or a web server of its own.

    Raises:
        MissingExtraError: Flet's window is not installed.
        RequestError: There is no display.
    """
    from flet.utils.platform_utils import is_linux_server
    from flet.version import flet_version

    if is_linux_server():  # type: ignore[no-untyped-call]
        raise RequestError("a window was asked for and there is no display; use --web")
    if importlib.util.find_spec("flet_desktop") is None:
        raise MissingExtraError(
            f"flet-desktop is needed for a window: pip install flet-desktop=={flet_version}; or use --web"
        )


def _open_window(artefact: str, threads: int) -> None:
    import flet

    flet.run(_opened(artefact, threads).start, host=HOST, assets_dir=None)


if __name__ == "__main__":
    main()
