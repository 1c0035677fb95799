"""The ``evit-edge`` program: commands, errors as one line, exit codes."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from evit_edge import __version__
from evit_edge.cli import (
    analyze,
    benchmark,
    classify,
    convert,
    doctor,
    evaluate,
    models,
    profile,
    report,
    sensitivity,
    train,
    verify,
)
from evit_edge.cli.interruption import INTERRUPTED, was_interrupted
from evit_edge.cli.plugins import add_plugins
from evit_edge.errors import EvitEdgeError

_BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended


class OneLineErrors(TyperGroup):
    """Prints this package's errors as one line on stderr, exits with their code; ``--debug`` lets them through."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except EvitEdgeError as exc:
            if was_interrupted():
                raise KeyboardInterrupt from exc
            if ctx.params.get("debug"):
                raise
            typer.echo(f"evit-edge: error: {' '.join(str(exc).split())}", err=True)
            ctx.exit(exc.exit_code)


app = typer.Typer(
    name="evit-edge",
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evit-edge {__version__}")
        raise typer.Exit


@app.callback()
def program(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """PyTorch image classifiers to phones: int8 TFLite files that are proved to answer like the original."""
    del debug, version  # read elsewhere
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where only ASCII is known, a question mark and no traceback


app.command()(train.train)
app.command()(convert.convert)
app.command()(sensitivity.sensitivity)
app.command()(classify.classify)
app.command()(evaluate.evaluate)
app.command()(verify.verify)
app.command()(benchmark.benchmark)
app.command()(report.report)
app.command()(profile.profile)
app.add_typer(analyze.analyze_app)
app.command()(models.models)
app.command()(doctor.doctor)
add_plugins(app)


def main() -> None:
    """Console entry. Exits 0; 1 on an error; 2 on wrong usage; 3 on a missed budget; 130 when interrupted."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
