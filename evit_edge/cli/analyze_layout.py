"""``evit-edge analyze layout``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.cli.options import FiguresFile, Picture, Threads, choice
from evit_edge.cli.terminal import percent, print_table, share_bar

if TYPE_CHECKING:
    from evit_edge.analysis.layout_report import LayoutNet, LayoutReport


def layout(
    shares: Annotated[
        str, typer.Option("--shares", help="Shares of layers that attend, with commas between.")
    ] = "0.1,0.2,0.3,0.4,0.5,0.6",
    layers: Annotated[int, typer.Option("--layers", help="Attention layers and FFNs together.")] = 20,
    speedup: Annotated[
        float, typer.Option("--speedup", help="How many times faster than DeiT-T's layers the nets shall be.")
    ] = 1.25,
    batch: Annotated[int, typer.Option("--batch", help="At which latencies are matched.")] = 1,
    throughput_batch: Annotated[int, typer.Option("--throughput-batch", help="At which images/s count.")] = 16,
    image_size: Annotated[int, typer.Option("--image-size", help="Side of the input, a multiple of 16.")] = 224,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    threads: Threads = 1,
    seconds: Annotated[float, typer.Option("--seconds", help="How long to time, about, all in all.")] = 120.0,
    train: Annotated[
        list[Path] | None,
        typer.Option("--train", help="Folder of class folders to train every net on; repeatable."),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="To train each net.")] = 5,
    train_batch: Annotated[int, typer.Option("--train-batch", help="Photos a step.")] = 64,
    workers: Annotated[int, typer.Option("--workers", help="Processes that prepare photos; -1: by cores.")] = -1,
    seed: Annotated[int, typer.Option("--seed", help="Of weights and training.")] = 0,
    picture: Picture = None,
    json: FiguresFile = None,
) -> None:
    """Show what other shares of attention layers cost at equal latency (figure 3 of the paper)."""
    from evit_edge.analysis.requirements import require_analysis
    from evit_edge.drawing import check_picture_path

    require_analysis(*(("kornia", "cv2") if train else ()))
    from evit_edge.analysis.clock import Processor
    from evit_edge.analysis.layout import LayoutRequest, analyze_layout
    from evit_edge.analysis.layout_picture import draw_layout
    from evit_edge.analysis.layout_report import write_layout

    if picture is not None:
        check_picture_path(picture)
    request = LayoutRequest(
        shares=_numbers(shares),
        layers=layers,
        speedup=speedup,
        batch=batch,
        throughput_batch=throughput_batch,
        image_size=image_size,
        processor=choice(Processor, device, "--device"),
        threads=threads,
        seconds=seconds,
        train=tuple(train or ()),
        epochs=epochs,
        train_batch=train_batch,
        workers=workers,
        seed=seed,
        command=shlex.join(["evit-edge", *sys.argv[1:]]),
    )
    with share_bar() as tell:
        report = analyze_layout(request, tell)
    if json is not None:
        write_layout(json, report)
    if picture is not None:
        draw_layout(report, picture)
    print_layout(report)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as exc:
        raise typer.BadParameter(
            f"{text!r} given; numbers with commas between are accepted", param_hint="--shares"
        ) from exc


def print_layout(report: LayoutReport) -> None:
    """Print a row for each share."""
    trained = any(net.accuracy is not None for net in report.nets)
    columns = ["attention", "width", "params M", "MMACs", "ms", "off %", "images/s", "mem (paper)", "mem (bytes)"]
    rows = [_row(net) + ([_accuracy(net)] if trained else []) for net in report.nets]
    first = report.nets[0]
    title = (
        f"{first.layers} layers at {1e3 * report.target_s:.2f} ms, batch {report.batch}; images/s and shares at "
        f"batch {first.runtime.batch}; {report.engine} on {report.device}, {report.threads} thread(s)"
    )
    print_table(title, columns + (["top-1 %"] if trained else []), rows)
    typer.echo(
        f"{report.reference} (24, half of them attend, width 192): {1e3 * report.reference_latency_s:.2f} ms, "
        f"measured in turn with the nets; the target is 1/{report.speedup:g} of it."
    )


def _row(net: LayoutNet) -> list[str]:
    return [
        f"{net.attention_layers}/{net.layers}",
        str(net.width),
        f"{net.runtime.parameters / 1e6:.2f}",
        f"{net.macs / 1e6:.0f}",
        f"{1e3 * net.latency_s:.2f}",
        f"{100 * net.deviation:+.1f}",
        f"{net.images_per_s:.1f}",
        percent(net.runtime.memory_share_in_paper),
        percent(net.runtime.memory_share),
    ]


def _accuracy(net: LayoutNet) -> str:
    found = net.accuracy
    if found is None:
        return "-"
    return f"{percent(found.top1)} [{percent(found.interval.low)}, {percent(found.interval.high)}]"
