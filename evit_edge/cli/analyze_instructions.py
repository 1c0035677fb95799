"""``evit-edge analyze instructions``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.cli.options import Arm64RootOption, FiguresFile
from evit_edge.cli.terminal import print_table, remark, share_bar

if TYPE_CHECKING:
    from evit_edge.analysis.instructions import InstructionsReport


def instructions(
    models: Annotated[
        list[str], typer.Argument(help=".tflite files, or everyday-int8; ratios are taken against the first.")
    ],
    arm64_root: Arm64RootOption = None,
    json: FiguresFile = None,
) -> None:
    """Count the instructions that an emulated Arm core executes in one inference. They are no time."""
    from evit_edge.analysis.instructions import InstructionsRequest, analyze_instructions, write_instructions

    request = InstructionsRequest(tuple(models), arm64_root, shlex.join(["evit-edge", *sys.argv[1:]]))
    with share_bar() as tell:
        report = analyze_instructions(request, tell)
    if json is not None:
        write_instructions(json, report)
    print_instructions(report)


def print_instructions(report: InstructionsReport) -> None:
    """Print a table for each runtime, and whose kernels ran."""
    columns = ("model", "partitions", "million instructions", "spread", "first / this")
    for runtime in dict.fromkeys(entry.runtime for entry in report.counts):
        rows = [
            (
                Path(entry.model).name,
                str(entry.partitions),
                f"{entry.instructions / 1e6:.2f}",
                str(entry.spread),
                "" if entry.ratio is None else f"{entry.ratio:.2f}",
            )
            for entry in report.counts
            if entry.runtime == runtime
        ]
        print_table(f"{report.meaning} ({report.emulator}). One inference in {runtime}", columns, rows)
    for entry in report.counts:
        typer.echo(f"{Path(entry.model).name} in {entry.runtime}: {entry.division}.")
    for text in report.remarks:
        remark(text)
