"""``evit-edge benchmark``."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_edge.cli.interruption import INTERRUPTED
from evit_edge.cli.options import (
    DEFAULT_MEMORY_GIB,
    DEFAULT_TIME_S,
    InProcess,
    MemoryLimit,
    TimeLimit,
    choice,
    limits_of,
)
from evit_edge.cli.terminal import remark

if TYPE_CHECKING:
    from evit_edge.benchmark.report import Report

NOT_VALID = 4
_STDOUT = Path("-")


def benchmark(
    artefacts: Annotated[
        list[str],
        typer.Argument(
            help="Models to time in turns: .tflite or .onnx files, checkpoints, everyday, or everyday-int8."
        ),
    ],
    device: Annotated[
        str, typer.Option("--device", help="host, android, android:SERIAL, android:all, mac or ios.")
    ] = "host",
    threads: Annotated[str, typer.Option("--threads", help="Numbers of threads, such as 1,2,4.")] = "1",
    runs: Annotated[
        int | None, typer.Option("--runs", min=1, help="Runs of each model at least (default: 100, and 3 s).")
    ] = None,
    min_time: Annotated[
        float | None, typer.Option("--min-time", min=0.0, help="Timed seconds of each model at least.")
    ] = None,
    thorough: Annotated[bool, typer.Option("--thorough", help="1024 runs and 60 s of each model.")] = False,
    image: Annotated[
        Path | None, typer.Option("--image", help="Photo that the pipeline's steps are timed on.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="What ratios are against (default: the first artefact).")
    ] = None,
    accelerator: Annotated[
        str, typer.Option("--accelerator", help="cpu; on phones also gpu, nnapi, neural-engine, all.")
    ] = "cpu",
    operators: Annotated[bool, typer.Option("--operators", help="On Android: time by operator.")] = False,
    benchmark_model: Annotated[
        Path | None, typer.Option("--benchmark-model", help="On Android: TFLite's benchmark_model program.")
    ] = None,
    only_inference: Annotated[
        bool,
        typer.Option("--only-inference", help="Leave out stages, cold start, memory and the machine's peaks."),
    ] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="Accept evaluators whose time says nothing about a device.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Show figures of others beside, named as such.")
    ] = False,
    require_valid: Annotated[
        bool, typer.Option("--require-valid", help="Exit with 4 unless the times are valid and complete.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order of turns.")] = 0,
    memory_limit: MemoryLimit = DEFAULT_MEMORY_GIB,
    time_limit: TimeLimit = DEFAULT_TIME_S,
    in_process: InProcess = False,
    json: Annotated[
        Path | None, typer.Option("--json", help="File to write the whole report to; - prints it.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Page to write, for any browser, offline.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Text to write, for a pull request.")] = None,
) -> None:
    """Measure how long models take, and say whether that can be trusted.

    Ctrl-C ends early with a partial report; a second one ends at once.
    """
    from evit_edge.benchmark import BenchmarkRequest, DeviceChoice
    from evit_edge.benchmark import benchmark as measure
    from evit_edge.benchmark.report import Accelerator
    from evit_edge.cli.benchmark_view import print_report, shown
    from evit_edge.zoo import artefact_path

    artefacts = [str(artefact_path(artefact)) for artefact in artefacts]
    baseline = None if baseline is None else str(artefact_path(baseline))
    check_outputs(json, html, markdown)
    _protect_manifests(json, [*artefacts, *([baseline] if baseline else [])])
    least_runs, least_s = _least(runs, min_time, thorough)
    request = BenchmarkRequest(
        artefacts=tuple(artefacts),
        device=DeviceChoice.parse(device),
        threads=_numbers(threads),
        accelerators=tuple(choice(Accelerator, name.strip(), "--accelerator") for name in accelerator.split(",")),
        min_runs=least_runs,
        min_time_s=least_s,
        image=image,
        baseline=baseline,
        stages=not only_inference,
        cold_start=not only_inference,
        peaks=not only_inference,
        operators=operators,
        published=published,
        reference=reference,
        benchmark_model=benchmark_model,
        seed=seed,
        command=shlex.join(["evit-edge", *sys.argv[1:]]),
        limits=limits_of(memory_limit, time_limit, in_process),
    )
    stop = threading.Event()
    with _stopping(stop), shown() as tell:
        report = measure(request, tell, stop)
    write_outputs(report, json, html, markdown)
    if json != _STDOUT:
        print_report(report)
    if stop.is_set():
        raise typer.Exit(INTERRUPTED)
    if require_valid and not report.trusted:
        raise typer.Exit(NOT_VALID)


def _least(runs: int | None, min_time: float | None, thorough: bool) -> tuple[int, float]:
    """Runs and seconds: what was asked for; where only runs were, no seconds."""
    from evit_edge.benchmark.request import DEFAULT_RUNS, DEFAULT_TIME_S, THOROUGH_RUNS, THOROUGH_TIME_S

    if thorough and (runs is not None or min_time is not None):
        raise typer.BadParameter("it sets both --runs and --min-time; drop them", param_hint="--thorough")
    if thorough:
        return THOROUGH_RUNS, THOROUGH_TIME_S
    if runs is not None:
        return runs, min_time or 0.0
    return DEFAULT_RUNS, DEFAULT_TIME_S if min_time is None else min_time


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} given; numbers such as 1,2,4", param_hint="--threads") from exc


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set the event, so that no run is torn; let the second one through."""

    def interrupt(number: int, frame: Any) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()

    if threading.current_thread() is not threading.main_thread():  # only there can it be done, or is it needed
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def check_outputs(*paths: Path | None) -> None:
    """Say before minutes of measuring what could not be written after them.

    Raises:
        OutputError: A folder is missing or may not be written.
    """
    from evit_edge.errors import OutputError

    for path in paths:
        if path is None or path == _STDOUT:
            continue
        folder = path.parent
        if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise OutputError(f"{path} cannot be written; give a file in an existing, writable folder")


def _protect_manifests(report: Path | None, artefacts: list[str]) -> None:
    """Keep a report from lying where an artefact's manifest is looked for.

    Raises:
        OutputError: It would.
    """
    from evit_edge.errors import OutputError
    from evit_edge.manifest import manifest_path

    for artefact in artefacts:
        if report is not None and report.absolute() == manifest_path(Path(artefact)).absolute():
            raise OutputError(
                f"{report} is the place of {artefact}'s manifest; choose another name for the report"
            )


def write_outputs(report: Report, json: Path | None, html: Path | None, markdown: Path | None) -> None:
    """Write what was asked for."""
    from evit_edge.benchmark.report import report_text, write_report
    from evit_edge.files import replacing

    if json == _STDOUT:
        typer.echo(report_text(report), nl=False)
    elif json is not None:
        write_report(json, report)
    texts = []
    if html is not None:
        from evit_edge.benchmark.html import html_page

        texts.append((html, html_page(report)))
    if markdown is not None:
        from evit_edge.benchmark.markdown import markdown as in_markdown

        texts.append((markdown, in_markdown(report)))
    for path, text in texts:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for written in (json, html, markdown):
        if written not in (None, _STDOUT):
            remark(f"written: {written}")
