"""``evit-edge classify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_edge.cli.options import (
    DEFAULT_MEMORY_GIB,
    DEFAULT_TIME_S,
    Artefact,
    InProcess,
    InputRangeOption,
    Json,
    Labels,
    MemoryLimit,
    Threads,
    TimeLimit,
    limits_of,
    open_model,
)
from evit_edge.cli.terminal import milliseconds, percent, print_json, print_table

if TYPE_CHECKING:
    from evit_edge.classification import Classification
    from evit_edge.runtime.info import ModelInfo


def classify(
    artefact: Artefact,
    images: Annotated[list[Path], typer.Argument(help="Photos of any format that Pillow decodes.")],
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to name.")] = 5,
    labels: Labels = None,
    threads: Threads = 1,
    input_range: InputRangeOption = None,
    memory_limit: MemoryLimit = DEFAULT_MEMORY_GIB,
    time_limit: TimeLimit = DEFAULT_TIME_S,
    in_process: InProcess = False,
    json: Json = False,
) -> None:
    """Name what photos show, with probabilities and the time of each step.

    Third parties' .tflite and .mlpackage classifiers work too: quantized or float input, NHWC or NCHW.
    They are checked, and run in a process of their own.
    """
    from evit_edge.classification import classify as classify_photo
    from evit_edge.classification import warm_up

    limits = limits_of(memory_limit, time_limit, in_process)
    runner = open_model(artefact, threads=threads, labels=labels, limits=limits, input_range=input_range)
    warm_up(runner)
    results = [classify_photo(runner, image, top) for image in images]
    if json:
        print_json(_document(runner.info, results))
        return
    for result in results:
        _print(result)
    _print_footnote(runner.info)


def _document(info: ModelInfo, results: list[Classification]) -> dict[str, Any]:
    return {
        "artefact": str(info.path),
        "runtime": f"{info.runtime} {info.runtime_version}",
        "threads": info.threads,
        "output_kind": info.output_kind.value,
        "preprocessing": info.preprocessing.to_json(),
        "preprocessing_source": info.preprocessing_source.value,
        "remark": info.remark,
        "images": [
            {
                "path": str(result.path),
                "predictions": [vars(prediction) for prediction in result.predictions],
                "decode_s": result.decode_s,
                "preprocess_s": result.preprocess_s,
                "inference_s": result.inference_s,
            }
            for result in results
        ],
    }


def _print(result: Classification) -> None:
    times = (
        f"decode {milliseconds(result.decode_s)} ms, preprocess {milliseconds(result.preprocess_s)} ms, "
        f"inference {milliseconds(result.inference_s)} ms"
    )
    rows = [(p.label, percent(p.probability)) for p in result.predictions]
    print_table(f"{result.path}: {times}", ("class", "probability %"), rows)


def _print_footnote(info: ModelInfo) -> None:
    rule = info.preprocessing
    softmax = ", softmax applied to its logits" if info.output_kind.value == "logits" else ""
    typer.echo(
        f"{info.runtime} {info.runtime_version}, {info.threads} thread(s); photos resized to {rule.resize_to} px, "
        f"cut to {rule.image_size} px (rule: {info.preprocessing_source}){softmax}"
    )
    if info.remark is not None:
        typer.echo(info.remark)
