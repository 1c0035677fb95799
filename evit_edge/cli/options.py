"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evit_edge.runtime.checks.limits import Limits
    from evit_edge.runtime.info import Runner

Artefact = Annotated[
    str,
    typer.Argument(
        help="A .tflite, .onnx or .mlpackage, a .safetensors or .pth checkpoint, everyday, or everyday-int8."
    ),
]
Labels = Annotated[
    Path | None, typer.Option("--labels", help="Text file, one label a line, for files that carry none.")
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of the engine.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Variant that the weights must be of, such as efficientvit_m0.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Arm64RootOption = Annotated[
    Path | None, typer.Option("--arm64-root", help="Folder that tools/arm64 built, if not in the cache.")
]
Picture = Annotated[Path | None, typer.Option("--picture", help="Picture to write (.png, .svg or .pdf).")]
FiguresFile = Annotated[Path | None, typer.Option("--json", help="File for all figures.")]
InputRangeOption = Annotated[
    str | None,
    typer.Option(
        "--input-range",
        help="What a float input expects of a pixel where its metadata is silent or wrong: minus-one-to-one "
        "(the default), zero-to-one, imagenet or raw.",
    ),
]
MemoryLimit = Annotated[
    float, typer.Option("--memory-limit", help="GiB that a model may declare, and its process take.")
]
TimeLimit = Annotated[
    float, typer.Option("--time-limit", help="Seconds for opening a model, and for each batch of photos.")
]
InProcess = Annotated[
    bool,
    typer.Option(
        "--in-process", help="Run models in this process: for files that you trust, where every ms counts."
    ),
]
DEFAULT_MEMORY_GIB, DEFAULT_TIME_S = 4.0, 60.0


def limits_of(memory_gib: float, time_s: float, in_process: bool) -> Limits | None:
    """What the three options mean; None for this process.

    Raises:
        RequestError: Nothing runs under such limits.
    """
    from evit_edge.runtime.checks.limits import GIB, Limits

    limits = Limits(round(memory_gib * GIB), time_s)
    return None if in_process else limits


def open_model(
    artefact: str,
    *,
    threads: int,
    labels: Path | None,
    limits: Limits | None,
    input_range: str | None = None,
    override: bool = True,
) -> Runner:
    """Open a model as the options say.

    Args:
        artefact: What the user named.
        threads: Of the engine.
        labels: A labels file.
        limits: Of the model's own process; None for this process.
        input_range: Name of an :class:`InputRange`.
        override: Whether the labels file goes before labels that the model carries.

    Raises:
        EvitEdgeError: The model or the labels cannot be used.
        typer.BadParameter: There is no such input range.
    """
    from evit_edge.runtime import InputRange, open_runner, read_labels
    from evit_edge.runtime.isolated import close, open_isolated

    names = None if labels is None else read_labels(labels)
    try:
        chosen = None if input_range is None else InputRange(input_range)
    except ValueError as exc:
        accepted = ", ".join(InputRange)
        raise typer.BadParameter(
            f"{input_range!r} given; {accepted} are accepted", param_hint="--input-range"
        ) from exc
    if limits is None:
        opening = partial(open_runner, artefact, threads=threads, input_range=chosen)
    else:
        opening = partial(open_isolated, artefact, limits=limits, threads=threads, input_range=chosen)
    runner = opening(labels=names if override else None)
    if not override and names is not None and runner.info.labels is None:
        close(runner)
        return opening(labels=names)
    return runner


def choice(kind: Callable[[str], Any], name: str, option: str) -> Any:
    """A member of an enum by its value, or a usage error that lists them."""
    try:
        return kind(name)
    except ValueError as exc:
        accepted = ", ".join(member.value for member in kind)  # type: ignore[attr-defined]
        raise typer.BadParameter(f"{name!r} given; {accepted} are accepted", param_hint=option) from exc
