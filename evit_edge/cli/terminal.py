"""Printing: tables and JSON on stdout, progress and remarks on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import typer

_KEPT_WHOLE = 20
_WIDTH_IN_FILES = 200


def print_json(value: Any) -> None:
    """Print a JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first ``left`` columns are words, the others figures."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for i, column in enumerate(columns):
        width = max((len(row[i]) for row in rows), default=0)
        justify: Literal["left", "right"] = "left" if i < left else "right"
        table.add_column(
            column, justify=justify, overflow="fold", min_width=min(width, _KEPT_WHOLE if not i else 0)
        )
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console(highlight=False, soft_wrap=True)
    edge = None if console.is_terminal else _WIDTH_IN_FILES  # a file or a pipe has no edge to fold at
    console.print(f"[bold]{escape(title)}[/bold]")
    Console(highlight=False, width=edge).print(table)


def remark(text: str) -> None:
    """Print one line on stderr."""
    typer.echo(f"evit-edge: {' '.join(text.split())}", err=True)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left on stderr, where that is a terminal.

    Args:
        title: What is being done.
        total: Steps; None where they are not known.

    Yields:
        A function that takes the number of steps just done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda steps: progress.advance(task, steps)


@contextmanager
def share_bar() -> Iterator[Callable[[str, float], None]]:
    """Show a bar with the time left on stderr, where that is a terminal.

    Yields:
        A function that takes what is being done and the share of the whole that is done, 0..1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("loading", total=1.0)
        yield lambda what, share: bars.update(task, description=what, completed=share)


def percent(value: float) -> str:
    """0.7083 as 70.8."""
    return f"{100 * value:.1f}"


def milliseconds(seconds: float) -> str:
    """0.00213 as 2.13."""
    return f"{1000 * seconds:.2f}"
