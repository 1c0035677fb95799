"""A benchmark in the terminal: while it runs, and when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from evit_edge.cli.terminal import print_table, remark

if TYPE_CHECKING:
    from evit_edge.benchmark.presentation import Rows
    from evit_edge.benchmark.report import Report
    from evit_edge.benchmark.request import Progress, Tell


@contextmanager
def shown() -> Iterator[Tell]:
    """Show on stderr, where that is a terminal, what is done, the time left, and histograms that grow.

    Nothing is drawn by a thread of its own: drawing takes the core from what is being timed.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def tell(progress: Progress) -> None:
            if progress.remark is not None:
                remark(progress.remark)
            if console.is_terminal:
                live.update(_picture(progress), refresh=True)

        yield tell


def _picture(progress: Progress) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    from evit_edge.benchmark.presentation import histogram, milliseconds

    line = Table.grid(padding=(0, 1))
    line.add_row(progress.phase.value, progress.subject, *_bar(ProgressBar, progress))
    models = Table.grid(padding=(0, 2))
    for name, times in progress.times_s.items():
        if times:
            middle = sorted(times)[len(times) // 2]
            models.add_row(f"  {name}", f"{milliseconds(middle)} ms", f"{len(times)} runs", histogram(times))
    return Group(line, models)


def _bar(bar: Any, progress: Progress) -> tuple[Any, ...]:
    if progress.remaining_s is None:
        return ()
    minutes, seconds = divmod(round(progress.remaining_s), 60)
    return bar(total=1.0, completed=progress.done, width=30), f"{minutes}:{seconds:02d} left"


def print_report(report: Report) -> None:
    """Print tables, remarks and verdicts."""
    from evit_edge.benchmark.presentation import headline, operators, pipeline, published, status_line
    from evit_edge.benchmark.surroundings import verdict_lines

    partial = status_line(report)
    if partial is not None:
        typer.echo(partial)
    for rows in (headline(report), pipeline(report), *operators(report), published(report)):
        if rows is not None:
            _print(rows)
    for text in report.remarks:
        typer.echo(f"note: {text}")
    for device in report.devices:
        first, *rest = verdict_lines(device)
        typer.echo(f"{device.name}: {first}")
        for line in rest:
            typer.echo(f"  {line}")


def _print(rows: Rows) -> None:
    print_table(rows.title, rows.columns, rows.rows, left=rows.left)
