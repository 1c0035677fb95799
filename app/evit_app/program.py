"""``evit-edge app`` and ``evit-edge-app``: the app on this machine, in a window or in a browser."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_edge.cli.options import (
    DEFAULT_MEMORY_GIB,
    DEFAULT_TIME_S,
    InProcess,
    MemoryLimit,
    TimeLimit,
    limits_of,
)
from evit_edge.errors import EvitEdgeError, MissingExtraError, RequestError, require_installed

if TYPE_CHECKING:
    from evit_app.application import App
    from evit_edge.runtime.checks import Limits

HOST = "127.0.0.1"
DEFAULT_PORT = 8550
DEMO = Path("demo-output")
"""Where ``make demo`` writes; looked into where no model is named."""

app = typer.Typer(
    name="evit-edge-app", pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


def run(
    models: Annotated[
        list[Path] | None,
        typer.Argument(help="The .tflite files to choose from, or folders of them; else demo-output."),
    ] = None,
    source: Annotated[
        list[Path] | None, typer.Option("--source", help="A video or a folder of photos to offer as a source.")
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Serve browsers, in place of a window.")] = False,
    host: Annotated[
        str, typer.Option("--host", help="With --web: the address to listen on. Other machines then need a token.")
    ] = HOST,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="With --web.")] = DEFAULT_PORT,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the engine.")] = 1,
    memory_limit: MemoryLimit = DEFAULT_MEMORY_GIB,
    time_limit: TimeLimit = DEFAULT_TIME_S,
    in_process: InProcess = False,
) -> None:
    """See live what models make of a camera, and how fast they really run."""
    require_installed("flet", extra="app")
    require_installed("flet_camera", extra="app")
    if web:
        require_installed("flet_web", extra="app")
    else:
        _check_desktop()
    limits = limits_of(memory_limit, time_limit, in_process)
    opened = _opened(tuple(models or ()), tuple(source or ()), threads, limits)
    if web:
        _serve(opened, host, port)
    else:
        _open_window(opened)


@app.command()
@functools.wraps(run)
def _alone(*arguments: Any, **options: Any) -> None:
    try:
        run(*arguments, **options)
    except EvitEdgeError as exc:
        typer.echo(f"evit-edge-app: error: {' '.join(str(exc).split())}", err=True)
        raise typer.Exit(1) from exc


def main() -> None:
    """Console entry. Exits 0; 1 on an error; 2 on wrong usage."""
    app()


def _opened(models: tuple[Path, ...], sources: tuple[Path, ...], threads: int, limits: Limits | None) -> App:
    """The app with its first model loaded, so that a broken one is told here and not on a page."""
    from evit_app.application import App
    from evit_app.choices import Shelf, models_at, sources_here

    default = (DEMO,) if DEMO.is_dir() else ()
    shelf = Shelf(models_at(models or default), limits)
    shelf.session(shelf.paths[0], threads)
    return App(lambda: shelf, sources_here(sources), threads)


def _serve(opened: App, host: str, port: int) -> None:
    from evit_app.server import Address, serve

    address = Address.of(host, port)
    if address.token is not None:
        typer.echo(
            f"evit-edge-app: warning: {host} can be reached from other machines, without encryption. Who knows "
            "the token sees this machine's cameras and the --source files. Browsers give their own camera to "
            "https and localhost only.",
            err=True,
        )
    serve(opened, address, lambda line: typer.echo(f"evit-edge-app: {line}"))


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


def _open_window(opened: App) -> None:
    import flet

    try:
        flet.run(opened.start, host=HOST, assets_dir=None)
    finally:
        opened.close()


if __name__ == "__main__":
    main()
