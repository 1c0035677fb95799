"""``evit-edge convert``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_edge.cli.interruption import stop_if_interrupted
from evit_edge.cli.options import Json, ModelOption, choice
from evit_edge.cli.terminal import print_json, print_table, remark

if TYPE_CHECKING:
    from evit_edge.pipeline import ConvertResult, Progress
    from evit_edge.pipeline.budget import BudgetReport

_AT_FAULT = 10

_TITLES = {
    "load": "read the weights",
    "export": "export",
    "calibrate": "calibrate on photos",
    "search": "search within the budget",
    "quantize": "quantize",
    "verify": "verify",
    "write": "write",
}


def convert(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")],
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="A checkpoint file, hf:OWNER/NAME, or everyday (the default, shipped)."),
    ] = None,
    model: ModelOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Text file, one label a line.")] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", help="Input side in pixels, 128 to 512.")
    ] = None,
    to: Annotated[str, typer.Option("--to", help="tflite, coreml, onnx, or several: tflite,coreml.")] = "tflite",
    quantize: Annotated[
        str,
        typer.Option(
            "--quantize",
            help="none, fp16, int8, int8-full; tflite also int8-dynamic, int8-weights, int16-act; "
            "coreml also palette4, palette6.",
        ),
    ] = "none",
    deployment_target: Annotated[
        str | None,
        typer.Option("--deployment-target", help="coreml: iOS15 to iOS18; by default the oldest that fits."),
    ] = None,
    tune: Annotated[
        str,
        typer.Option("--tune", help="int8 on tflite: portable, or host (by time on this machine; a minute more)."),
    ] = "portable",
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            "--calibration", help="For integer activations: folder of photos (repeatable) or a calibration cache."
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Photos to calibrate with at most.")] = 256,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of photos.")] = 0,
    estimator: Annotated[
        str,
        typer.Option("--estimator", help="Of value ranges: mse, minmax, moving-average, percentile or entropy."),
    ] = "mse",
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", help="Points of top-1 that int8 may lose; layers stay float until it is kept."),
    ] = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option("--validation", help="For --max-drop: folder of class folders, held out; repeatable."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="For --max-drop: promise the upper end of the 95 % interval.")
    ] = False,
    output_kind: Annotated[
        str, typer.Option("--output-kind", help="probabilities (softmax inside) or logits.")
    ] = "probabilities",
    author: Annotated[str, typer.Option("--author", help="Who trained it, as the file shall say.")] = "",
    license: Annotated[str, typer.Option("--license", help="Its terms, as the file shall say.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    json: Json = False,
) -> None:
    """Convert a checkpoint to a file for phones and prove that it answers like the original."""
    from evit_calibration.ranges import Estimator
    from evit_converters.coreml import DeploymentTarget
    from evit_edge.errors import BudgetError
    from evit_edge.manifest import Quantization
    from evit_edge.pipeline import Budget, ConvertRequest, Target, Tuning, needs_ranges
    from evit_edge.pipeline import convert as convert_model
    from evit_edge.tensors import OutputKind
    from evit_edge.zoo import EVERYDAY

    targets = [choice(Target, name, "--to") for name in to.split(",")]
    quantization = choice(Quantization, quantize, "--quantize")
    tuning = choice(Tuning, tune, "--tune")
    oldest = (
        None if deployment_target is None else choice(DeploymentTarget, deployment_target, "--deployment-target")
    )
    if max_drop is None and (validation or strict):
        raise typer.BadParameter("--validation and --strict serve --max-drop; give it, too")
    budget = None if max_drop is None else Budget(max_drop, tuple(validation or ()), strict)
    several = len(targets) > 1  # each then takes the options that it has a use for; one alone refuses the others
    requests = [
        ConvertRequest(
            output=output,
            weights=weights or EVERYDAY,
            model=model,
            labels=labels,
            image_size=image_size,
            target=target,
            quantization=quantization,
            tuning=Tuning.PORTABLE if several and target is not Target.TFLITE else tuning,
            deployment_target=None if several and target is not Target.COREML else oldest,
            calibration=() if several and not needs_ranges(target, quantization) else tuple(calibration or ()),
            samples=samples,
            seed=seed,
            estimator=choice(Estimator, estimator, "--estimator"),
            budget=budget,
            output_kind=choice(OutputKind, output_kind, "--output-kind"),
            author=author,
            license=license,
            overwrite=overwrite,
            command=shlex.join(["evit-edge", *sys.argv[1:]]),
        )
        for target in targets
    ]
    for request in requests:
        try:
            with _shown() as tell:
                result = convert_model(request, tell)
        except BudgetError as exc:
            print_missed(exc.found, json=json)
            raise
        print_json(document(result)) if json else print_result(result)


@contextmanager
def _shown() -> Iterator[Callable[[Progress], None]]:
    """Name each stage on stderr while it runs, with a bar for photos, and leave its time behind."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        task = bars.add_task("", total=None)

        def tell(progress: Progress) -> None:
            stop_if_interrupted()
            title = _TITLES[progress.stage.value]
            if progress.remark is not None:
                remark(progress.remark)
            elif progress.seconds is not None:
                console.print(f"  {title:<24}{progress.seconds:6.1f} s")
            else:
                bars.update(task, description=title, completed=progress.done, total=progress.total or None)

        yield tell


def print_result(result: ConvertResult) -> None:
    """Print what was written and how it was proved."""
    entry = result.manifest.artefact
    known = ("sha256", "size", "output kind")  # said better below, or of no interest here
    rows = [("file", str(result.artefact)), ("size", f"{entry.size_bytes / 1e6:.2f} MB")]
    rows += [(gate.name, gate.measured) for gate in result.report.gates if gate.name not in known]
    print_table(f"{result.manifest.source.name}, {result.manifest.quantization}", ("", ""), rows, left=2)


def print_missed(found: BudgetReport, *, json: bool) -> None:
    """Print the best that a search found, and which operators are at fault."""
    from evit_edge.strict_json import to_json

    if json:
        print_json({"budget": to_json(found)})
        return
    rows = [
        (str(len(trial.exempt)), f"{trial.drop:.2f}", f"{trial.worst:.2f}", "yes" if trial.kept else "no")
        for trial in found.trials
    ]
    print_table("models tried", ("exempt", "points lost", "at most", "kept"), rows, left=0)
    entry = found.entry
    low, high = entry.interval
    best = [
        ("top-1, checkpoint", f"{100 * entry.float_top1:.2f} %"),
        ("top-1, best model", f"{100 * entry.top1:.2f} %"),
        ("points lost", f"{entry.drop:.2f} [{low:.2f}, {high:.2f}]"),
        ("operators exempted", str(len(found.exempt))),
    ]
    print_table(f"best of {entry.trials}, on {entry.photos} photos", ("", ""), best, left=2)
    fault = [
        (operator.name, operator.kind, f"{operator.loss.sqnr_db:.1f}", str(operator.loss.flips))
        for operator in found.ranking[:_AT_FAULT]
    ]
    print_table("operators at fault", ("operator", "kind", "SQNR alone, dB", "top-1 flips"), fault, left=2)


def document(result: ConvertResult) -> dict[str, Any]:
    """The result as JSON."""
    from evit_edge.cli.verify import document as verification
    from evit_edge.strict_json import to_json

    return {
        "artefact": str(result.artefact),
        "manifest": to_json(result.manifest),
        "verification": verification(result.report),
        "stage_s": {stage.value: seconds for stage, seconds in result.stage_s.items()},
    }
