"""``evit-edge report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.cli.benchmark import NOT_VALID, check_outputs, write_outputs
from evit_edge.cli.terminal import print_table, remark

if TYPE_CHECKING:
    from evit_edge.benchmark.comparison import Comparison
    from evit_edge.benchmark.report import Report

REGRESSED = 5


def report(
    files: Annotated[
        list[Path], typer.Argument(help="Reports that benchmark --json wrote: one to show, two to compare.")
    ],
    fail_above: Annotated[
        str | None,
        typer.Option(
            "--fail-above", help="Exit with 5 if a model is slower beyond noise and by more, such as 5%."
        ),
    ] = None,
    require_valid: Annotated[
        bool, typer.Option("--require-valid", help="Exit with 4 unless every report is valid and complete.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Page to write, of one report.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Text to write, for a pull request.")] = None,
) -> None:
    """Show a latency report again, or compare two of different days or devices."""
    from evit_edge.benchmark.report import read_report

    if len(files) > 2:
        raise typer.BadParameter(f"{len(files)} given; one to show or two to compare", param_hint="FILES")
    if len(files) == 1 and fail_above is not None:
        raise typer.BadParameter("it compares two reports; give a second one", param_hint="--fail-above")
    if len(files) == 2 and html is not None:
        raise typer.BadParameter("it shows one report; drop the other", param_hint="--html")
    limit = _share(fail_above)
    check_outputs(html, markdown)
    reports = [read_report(file) for file in files]
    regressed = False
    if len(reports) == 1:
        from evit_edge.cli.benchmark_view import print_report

        write_outputs(reports[0], None, html, markdown)
        print_report(reports[0])
    else:
        regressed = _compare(reports[0], reports[1], limit, markdown)
    if require_valid and not all(entry.trusted for entry in reports):
        raise typer.Exit(NOT_VALID)
    if regressed:
        raise typer.Exit(REGRESSED)


def _compare(before: Report, after: Report, limit: float | None, markdown: Path | None) -> bool:
    """Print, write, and tell whether the limit is broken."""
    from evit_edge.benchmark.comparison import compare
    from evit_edge.benchmark.markdown import comparison_text
    from evit_edge.benchmark.presentation import comparison_rows
    from evit_edge.files import replacing

    found = compare(before, after)
    rows = comparison_rows(found, (before, after))
    print_table(rows.title, rows.columns, rows.rows, left=rows.left)
    for text in found.remarks:
        typer.echo(f"note: {text}")
    if markdown is not None:
        with replacing(markdown) as temporary:
            temporary.write_text(comparison_text(found, (before, after)), encoding="utf-8")
        remark(f"written: {markdown}")
    return limit is not None and _failed(found, limit)


def _failed(found: Comparison, limit: float) -> bool:
    broken = found.regressions(limit)
    for change in broken:
        remark(f"{change.name} is {100 * change.growth:.1f} % slower; at most {100 * limit:g} % is allowed")
    return bool(broken)


def _share(text: str | None) -> float | None:
    """5% or 0.05 as 0.05."""
    if text is None:
        return None
    number = text.strip().removesuffix("%").strip()
    try:
        value = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise typer.BadParameter(f"{text!r} given; a share such as 5% or 0.05", param_hint="--fail-above")
    return value
