"""``evit-edge analyze channels``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.cli.options import FiguresFile, Picture, Threads
from evit_edge.cli.terminal import percent, print_table, remark, share_bar

if TYPE_CHECKING:
    from evit_edge.analysis.channels_report import ChannelsReport


def channels(
    model: Annotated[str, typer.Argument(help="A checkpoint of an EfficientViT, hf:OWNER/NAME, or everyday.")],
    photos: Annotated[
        list[Path], typer.Option("--photos", help="Folder with one folder of photos per class; repeatable.")
    ],
    keep: Annotated[float, typer.Option("--keep", help="Part of the channels that stays, up to 1.")] = 0.5,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Rounds of measuring and taking away.")] = 4,
    count: Annotated[int, typer.Option("--count", min=1, help="Photos to look at, at most.")] = 512,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choice of photos.")] = 0,
    alias: Annotated[
        list[str] | None,
        typer.Option("--alias", help="FOLDER=LABEL, for a folder named otherwise; repeatable."),
    ] = None,
    apply: Annotated[
        Path | None, typer.Option("--apply", help="Folder to write the pruned checkpoint and its widths to.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a pruned checkpoint there.")] = False,
    threads: Threads = 1,
    picture: Picture = None,
    json: FiguresFile = None,
) -> None:
    """Show which Q, K, V and FFN channels a network needs (figure 5 of the paper), and prune it to a budget."""
    from evit_edge.analysis.requirements import require_analysis
    from evit_edge.drawing import check_picture_path
    from evit_edge.evaluation.dataset import parse_aliases

    require_analysis()
    from evit_edge.analysis.channels import ChannelsRequest, analyze_channels, write_pruned
    from evit_edge.analysis.channels_picture import draw_channels
    from evit_edge.analysis.channels_report import write_channels

    if picture is not None:
        check_picture_path(picture)
    request = ChannelsRequest(
        model,
        tuple(photos),
        keep=keep,
        steps=steps,
        count=count,
        seed=seed,
        aliases=tuple(parse_aliases(alias or ()).items()),
        threads=threads,
        command=shlex.join(["evit-edge", *sys.argv[1:]]),
    )
    with share_bar() as tell:
        report, pruned = analyze_channels(request, tell)
    written = None if apply is None else write_pruned(apply, report, pruned, overwrite=overwrite)
    if json is not None:
        write_channels(json, report)
    if picture is not None:
        draw_channels(report, picture)
    print_channels(report)
    if written is not None:
        typer.echo(f"{written} holds the pruned network; train it further with --from.")


def print_channels(report: ChannelsReport) -> None:
    """Print what stays of each part, and what that makes of the network."""
    from evit_edge.analysis.channels_picture import NAMES

    rows = [
        (
            share.part,
            NAMES[share.kind],
            str(share.before),
            str(share.after),
            percent(share.after / share.before),
            f"{share.before / share.embedding:.2f}",
            f"{share.after / share.embedding:.2f}",
            f"{share.importance:.2e}",
        )
        for share in report.shares
    ]
    columns = ("part", "kind", "channels", "kept", "%", "of input", "kept", "importance")
    title = (
        f"{report.name}: {percent(report.keep)} % of the channels kept, by importance on {report.photos} photos"
    )
    print_table(title, columns, rows, left=2)
    before, after = report.before, report.after
    figures = (
        ("parameters", f"{before.parameters:,}", f"{after.parameters:,}"),
        ("MMACs", f"{before.macs / 1e6:.1f}", f"{after.macs / 1e6:.1f}"),
        ("top-1 %, these photos", percent(report.quality_before.top1), percent(report.quality_after.top1)),
        ("cross entropy", f"{report.quality_before.loss:.3f}", f"{report.quality_after.loss:.3f}"),
    )
    print_table("The network, not trained since", ("", "before", "pruned"), figures)
    if report.unreadable:
        remark(f"{report.unreadable} photos could not be read")
