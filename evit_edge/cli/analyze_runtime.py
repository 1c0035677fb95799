"""``evit-edge analyze runtime``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.cli.options import FiguresFile, Picture, Threads, choice
from evit_edge.cli.terminal import percent, print_table, remark, share_bar

if TYPE_CHECKING:
    from evit_edge.analysis.runtime_report import ModelRuntime, RuntimeReport

_OPERATORS_SHOWN = 12


def runtime(
    models: Annotated[
        list[str],
        typer.Argument(
            help="efficientvit_m0 to m5, checkpoints, everyday, hf:OWNER/NAME, timm:NAME, or MODULE:FUNCTION."
        ),
    ],
    form: Annotated[str, typer.Option("--form", help="train or inference (EfficientViT alone).")] = "train",
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures at a time.")] = 1,
    image_size: Annotated[
        int | None, typer.Option("--image-size", help="Side of the input; each network's own by default.")
    ] = None,
    threads: Threads = 1,
    seconds: Annotated[float, typer.Option("--seconds", help="How long to time each model, about.")] = 10.0,
    unfused: Annotated[
        bool, typer.Option("--unfused", help="Compute attention operator by operator, not by a fused kernel.")
    ] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Lay planes in memory as NHWC.")] = False,
    operators: Annotated[bool, typer.Option("--operators", help="Show each model's longest operators.")] = False,
    picture: Picture = None,
    json: FiguresFile = None,
) -> None:
    """Show which kinds of work the run time goes to, and what of it waits for memory (figure 2 of the paper)."""
    from evit_edge.analysis.requirements import require_analysis
    from evit_edge.drawing import check_picture_path

    require_analysis()
    from evit_edge.analysis.clock import Processor
    from evit_edge.analysis.networks import Form
    from evit_edge.analysis.runtime import RuntimeRequest, analyze_runtime
    from evit_edge.analysis.runtime_picture import draw_runtime
    from evit_edge.analysis.runtime_report import write_runtime

    if picture is not None:
        check_picture_path(picture)
    request = RuntimeRequest(
        tuple(models),
        form=choice(Form, form, "--form"),
        processor=choice(Processor, device, "--device"),
        batch=batch,
        image_size=image_size,
        threads=threads,
        seconds=seconds,
        unfused=unfused,
        channels_last=channels_last,
        command=shlex.join(["evit-edge", *sys.argv[1:]]),
    )
    with share_bar() as tell:
        report = analyze_runtime(request, tell)
    if json is not None:
        write_runtime(json, report)
    if picture is not None:
        draw_runtime(report, picture)
    print_runtime(report, operators=operators)


def print_runtime(report: RuntimeReport, *, operators: bool) -> None:
    """Print a row for each model, and its longest operators if asked for."""
    from evit_edge.analysis.kinds import Kind

    rows = [
        (
            model.name,
            f"{1e3 * model.whole_s:.2f}",
            f"{model.images_per_s:.1f}",
            *(percent(model.share(kind)) for kind in Kind),
            percent(model.outside_share),
            percent(model.memory_share_in_paper),
            percent(model.memory_share),
        )
        for model in report.models
    ]
    batch = report.models[0].batch
    title = f"% of the run time; {report.engine} on {report.device}, {report.threads} thread(s), batch {batch}"
    kinds = ("multiply", "reshape", "norm", "copy", "add", "other")
    print_table(title, ("model", "ms", "images/s", *kinds, "no op", "mem (paper)", "mem (bytes)"), rows)
    if operators:
        for model in report.models:
            _print_operators(model)
    typer.echo(
        f"Balance: {report.flops_per_s / 1e9:.0f} GFLOP/s over {report.bytes_per_s / 1e9:.1f} GB/s = "
        f"{report.flops_per_byte:.1f} operations a byte; an operator below it counts in mem (bytes)."
    )
    for text in report.remarks:
        remark(text)


def _print_operators(model: ModelRuntime) -> None:
    rows = [
        (
            entry.name.removeprefix("aten::"),
            entry.kind.value,
            entry.bound.value,
            f"{entry.calls:.0f}",
            f"{1e3 * entry.time_s:.3f}",
            percent(entry.time_s / model.whole_s),
            f"{1e3 * entry.least_s:.3f}",
        )
        for entry in model.operators[:_OPERATORS_SHOWN]
    ]
    columns = ("operator", "kind", "bound by", "calls", "ms", "%", "least ms")
    print_table(f"{model.name}: longest operators", columns, rows, left=3)
