"""``evit-edge evaluate``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_edge.cli.options import (
    DEFAULT_MEMORY_GIB,
    DEFAULT_TIME_S,
    InProcess,
    InputRangeOption,
    Json,
    Labels,
    MemoryLimit,
    TimeLimit,
    limits_of,
    open_model,
)
from evit_edge.cli.terminal import print_json, progress_bar, remark

if TYPE_CHECKING:
    from evit_edge.evaluation.report import EvaluationReport

_BAD_SHOWN = 5


def evaluate(
    artefacts: Annotated[
        list[str], typer.Argument(help="Models to compare: .tflite, .mlpackage, checkpoints, or everyday.")
    ],
    *,
    data: Annotated[
        list[Path], typer.Option("--data", help="Folder with one folder of photos per class; repeatable.")
    ],
    alias: Annotated[
        list[str] | None,
        typer.Option("--alias", help="FOLDER=LABEL, for a folder named otherwise; repeatable."),
    ] = None,
    confusion_matrix: Annotated[
        Path | None, typer.Option("--confusion-matrix", help="Picture to write (.png, .svg or .pdf).")
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Show every class, not only the ten worst.")
    ] = False,
    labels: Labels = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads (default: all).")] = None,
    input_range: InputRangeOption = None,
    memory_limit: MemoryLimit = DEFAULT_MEMORY_GIB,
    time_limit: TimeLimit = DEFAULT_TIME_S,
    in_process: InProcess = False,
    json: Json = False,
) -> None:
    """Measure top-1 and top-5 on labelled photos, and compare every two models on the same photos."""
    from evit_edge.cli.evaluation_tables import document, print_report
    from evit_edge.drawing import check_picture_path
    from evit_edge.evaluation.dataset import label_photos, parse_aliases
    from evit_edge.evaluation.prediction import predict
    from evit_edge.evaluation.report import report

    if confusion_matrix is not None:
        check_picture_path(confusion_matrix)
    threads = threads or os.cpu_count() or 1
    limits = limits_of(memory_limit, time_limit, in_process)
    runners = [
        open_model(
            artefact, threads=threads, labels=labels, limits=limits, input_range=input_range, override=False
        )
        for artefact in artefacts
    ]
    photos = label_photos(data, [runner.info for runner in runners], parse_aliases(alias or ()))
    with progress_bar("photos", len(photos.paths)) as progress:
        result = report(predict(runners, photos, progress))
    for reason in result.bad[:_BAD_SHOWN]:
        remark(f"left out: {reason}")
    if confusion_matrix is not None:
        _draw(result, confusion_matrix)
    if json:
        print_json(document(result))
    else:
        print_report(result, every_class=per_class)


def _draw(result: EvaluationReport, path: Path) -> None:
    """One picture per model; several get their number in the file's name."""
    from evit_edge.evaluation.picture import draw_confusion

    for i, model in enumerate(result.models, start=1):
        numbered = path if len(result.models) == 1 else path.with_stem(f"{path.stem}-{i}")
        draw_confusion(model, numbered)
        remark(f"confusion matrix of {model.name} written to {numbered}")
