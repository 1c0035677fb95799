"""``evit-edge analyze heads``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.cli.options import FiguresFile, Picture, Threads
from evit_edge.cli.terminal import print_table, remark, share_bar

if TYPE_CHECKING:
    from evit_edge.analysis.heads_report import HeadsReport, ModelHeads

_LISTED = 6


def heads(
    models: Annotated[
        list[str],
        typer.Argument(help="Checkpoints, everyday, hf:OWNER/NAME, timm:NAME, or MODULE:FUNCTION; to compare."),
    ],
    photos: Annotated[list[Path], typer.Option("--photos", help="Folder of photos, at any depth; repeatable.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Photos to look at, at most.")] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choice of photos.")] = 0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Photos at a time.")] = 8,
    image_size: Annotated[
        int | None, typer.Option("--image-size", help="Side of the input; each network's own by default.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Download trained weights for timm's models.")
    ] = False,
    threads: Threads = 1,
    picture: Picture = None,
    json: FiguresFile = None,
) -> None:
    """Show how like another head each attention head attends on photos (figure 4 of the paper)."""
    from evit_edge.analysis.requirements import require_analysis
    from evit_edge.drawing import check_picture_path

    require_analysis()
    from evit_edge.analysis.heads import HeadsRequest, analyze_heads
    from evit_edge.analysis.heads_picture import draw_heads
    from evit_edge.analysis.heads_report import write_heads

    if picture is not None:
        check_picture_path(picture)
    request = HeadsRequest(
        tuple(models),
        tuple(photos),
        count=count,
        seed=seed,
        batch=batch,
        image_size=image_size,
        pretrained=pretrained,
        threads=threads,
        command=shlex.join(["evit-edge", *sys.argv[1:]]),
    )
    with share_bar() as tell:
        report = analyze_heads(request, tell)
    if json is not None:
        write_heads(json, report)
    if picture is not None:
        draw_heads(report, picture)
    print_heads(report)


def print_heads(report: HeadsReport) -> None:
    """Print a table for each network, and one that compares them."""
    for model in report.models:
        _print_blocks(model, report.photos)
    if len(report.models) > 1:
        rows = [
            (model.name, model.features, f"{model.mean_cosine:.3f}", f"{model.mean_correlation:.3f}")
            for model in report.models
        ]
        print_table("Mean over the blocks", ("model", "heads see", "cosine", "correlation"), rows, left=2)
    if report.unreadable:
        remark(f"{report.unreadable} photos could not be read")
    for text in report.remarks:
        remark(text)


def _each(values: tuple[float, ...]) -> str:
    if len(values) > _LISTED:
        return f"{min(values):.3f} to {max(values):.3f} ({len(values)} heads)"
    return " ".join(f"{value:.3f}" for value in values)


def _print_blocks(model: ModelHeads, photos: int) -> None:
    rows = [
        (
            block.name or "(the network itself)",
            "splits" if block.splits else "all",
            str(block.tokens),
            f"{block.mean_cosine:.3f}",
            f"{block.mean_correlation:.3f}",
            _each(block.cosine),
        )
        for block in model.blocks
    ]
    columns = ("attention", "heads see", "tokens", "cosine", "correlation", "cosine of each head")
    print_table(
        f"{model.name}: likeness of each head to the head most like it, {photos} photos", columns, rows, left=2
    )
    if model.single:
        typer.echo(f"{model.single} attentions of a single head have nothing to be compared with.")
