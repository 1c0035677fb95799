"""``evit-edge sensitivity``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.cli.options import FiguresFile, ModelOption, Picture, Threads, choice
from evit_edge.cli.terminal import print_table, remark, share_bar

if TYPE_CHECKING:
    from evit_edge.sensitivity import SensitivityReport

_SHOWN = 20


def sensitivity(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint file, hf:OWNER/NAME, or everyday.")],
    calibration: Annotated[
        list[Path], typer.Option("--calibration", help="Folder of photos to calibrate with and measure on.")
    ],
    model: ModelOption = None,
    samples: Annotated[int, typer.Option("--samples", help="Photos to calibrate with at most.")] = 256,
    photos: Annotated[int, typer.Option("--photos", help="Of these, photos to measure on at most.")] = 64,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of photos.")] = 0,
    estimator: Annotated[
        str, typer.Option("--estimator", help="mse, minmax, moving-average, percentile or entropy.")
    ] = "mse",
    threads: Threads = 1,
    show_all: Annotated[bool, typer.Option("--all", help="Show every operator, not just the worst.")] = False,
    picture: Picture = None,
    json: FiguresFile = None,
) -> None:
    """Show which operators int8 hurts: each is rounded alone, the answers compared with the float model's."""
    from evit_calibration.ranges import Estimator
    from evit_edge.drawing import check_picture_path
    from evit_edge.sensitivity import SensitivityRequest
    from evit_edge.sensitivity import sensitivity as analyse
    from evit_edge.sensitivity.picture import draw_sensitivity
    from evit_edge.sensitivity.report import write_sensitivity

    if picture is not None:
        check_picture_path(picture)
    request = SensitivityRequest(
        tuple(calibration),
        weights=checkpoint,
        model=model,
        samples=samples,
        photos=photos,
        seed=seed,
        estimator=choice(Estimator, estimator, "--estimator"),
        threads=threads,
        command=shlex.join(["evit-edge", *sys.argv[1:]]),
    )
    with share_bar() as tell:
        report = analyse(request, tell, remark)
    if json is not None:
        write_sensitivity(json, report)
    if picture is not None:
        draw_sensitivity(report, picture)
    print_report(report, everything=show_all)


def print_report(report: SensitivityReport, *, everything: bool) -> None:
    """Print the operators, most harmful first."""
    from evit_calibration.sensitivity import worst_first

    ranked = worst_first(report.operators)
    rows = [
        (entry.name, entry.kind, f"{entry.loss.sqnr_db:.1f}", str(entry.loss.flips))
        for entry in (ranked if everything else ranked[:_SHOWN])
    ]
    title = f"{report.name}: int8 one operator at a time, {report.photos} photos, {report.estimator} ranges"
    print_table(title, ("operator", "kind", "SQNR, dB", "top-1 flips"), rows, left=2)
    if len(rows) < len(ranked):
        typer.echo(f"{len(ranked) - len(rows)} more cost less (--all shows them).")
