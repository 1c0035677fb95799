"""``evit-edge profile``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.cli.options import Artefact, FiguresFile, Picture, Threads
from evit_edge.cli.terminal import print_table, remark, share_bar

if TYPE_CHECKING:
    from evit_edge.profiling import Profile


def profile(
    artefact: Artefact,
    device: Annotated[
        str, typer.Option("--device", help="host, or android[:SERIAL] for a phone on adb (a .tflite only).")
    ] = "host",
    threads: Threads = 1,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures at a time, for checkpoints.")] = 1,
    seconds: Annotated[float, typer.Option("--seconds", help="How long to time, about.")] = 30.0,
    benchmark_model: Annotated[
        Path | None, typer.Option("--benchmark-model", help="TFLite's benchmark_model for Android.")
    ] = None,
    picture: Picture = None,
    json: FiguresFile = None,
) -> None:
    """Show where a model's time goes: convolution and matmul against what waits for memory."""
    from evit_edge.benchmark.request import DeviceChoice
    from evit_edge.drawing import check_picture_path
    from evit_edge.profiling import ProfileRequest, write_profile
    from evit_edge.profiling import profile as profile_model
    from evit_edge.profiling.picture import draw_profile
    from evit_edge.zoo import artefact_path

    if picture is not None:
        check_picture_path(picture)
    request = ProfileRequest(
        str(artefact_path(artefact)),
        device=DeviceChoice.parse(device),
        threads=threads,
        batch=batch,
        seconds=seconds,
        benchmark_model=benchmark_model,
        command=shlex.join(["evit-edge", *sys.argv[1:]]),
    )
    with share_bar() as tell:
        found = profile_model(request, tell)
    if json is not None:
        write_profile(json, found)
    if picture is not None:
        draw_profile(found, picture)
    print_profile(found)


def print_profile(found: Profile) -> None:
    """Print the classes, what is left over, and how it was measured."""
    rows = [
        (
            entry.op_class.value,
            entry.bound.value if entry.bound else "?",
            str(entry.count),
            f"{1e3 * entry.time_s:.3f}",
            "" if entry.error_s is None else f"{1e3 * entry.error_s:.3f}",
            f"{100 * entry.time_s / found.whole_s:.1f}",
        )
        for entry in found.classes
    ]
    left, whole = found.residual_s, found.whole_s
    rows.append(("not explained", "", "", f"{1e3 * left:.3f}", "", f"{100 * left / whole:.1f}"))
    rows.append(("whole model", "", "", f"{1e3 * whole:.3f}", "", "100"))
    title = f"{found.artefact} in {found.engine} on {found.device_name}, {found.threads} thread(s)"
    print_table(title, ("class", "bound by", "operators", "ms", "± ms", "%"), rows, left=2)
    typer.echo(f"Method: {found.method}; {found.runs} runs.")
    for text in found.remarks:
        remark(text)
