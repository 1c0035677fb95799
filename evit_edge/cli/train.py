"""``evit-edge train``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_edge.cli.options import Json
from evit_edge.cli.terminal import print_json, print_table, remark

if TYPE_CHECKING:
    from evit_edge.training.loop import Progress, TrainResult


def train(
    data: Annotated[
        list[Path],
        typer.Argument(help="Folders of class folders, or with train/ and val/ inside; several are joined."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run; a started run goes on.")],
    model: Annotated[
        str | None, typer.Option("--model", "--variant", help="m0 to m5; by default that of --from, else m0.")
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option("--ablate", help="Design decision to undo, as models --ablations m4 lists them; repeatable."),
    ] = None,
    init: Annotated[
        str | None, typer.Option("--from", help="Checkpoint to start from, hf:OWNER/NAME, or everyday.")
    ] = None,
    teacher: Annotated[
        list[str] | None, typer.Option("--teacher", help="Checkpoint to distil from; several are averaged.")
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option("--alias", help="FOLDER=CLASS, to merge folders; repeatable.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="Rounds, each scored on the held-out photos.")] = 100,
    passes: Annotated[
        int, typer.Option("--passes", help="Visits of each photo in a round, for small data on a fast device.")
    ] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Photos a step, over all processes.")] = 64,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Peak, for 512 photos a step; scaled with the batch.")
    ] = 4e-3,
    weight_decay: Annotated[float, typer.Option("--weight-decay")] = 0.05,
    warmup_epochs: Annotated[float, typer.Option("--warmup-epochs")] = 5.0,
    image_size: Annotated[int, typer.Option("--image-size", help="Input side in pixels, 128 to 512.")] = 224,
    min_crop_area: Annotated[
        float, typer.Option("--min-crop-area", help="Least part of a photo that a crop keeps.")
    ] = 0.25,
    randaugment_ops: Annotated[int, typer.Option("--randaugment-ops", help="0 switches it off.")] = 2,
    randaugment_magnitude: Annotated[int, typer.Option("--randaugment-magnitude", help="1 to 29.")] = 9,
    mixup: Annotated[float, typer.Option("--mixup", help="Part of the batches that are blended.")] = 0.3,
    cutmix: Annotated[float, typer.Option("--cutmix", help="Part of the batches that are pasted.")] = 0.3,
    label_smoothing: Annotated[float, typer.Option("--label-smoothing")] = 0.1,
    erasing: Annotated[float, typer.Option("--erasing", help="Part of the photos with a hole.")] = 0.25,
    ema_decay: Annotated[float, typer.Option("--ema-decay", help="Of the averaged weights.")] = 0.999,
    agc_clip: Annotated[float, typer.Option("--agc-clip", help="Adaptive gradient clipping; 0: off.")] = 0.02,
    distillation: Annotated[
        float, typer.Option("--distillation", help="Weight of the teachers' answers in the loss.")
    ] = 0.9,
    temperature: Annotated[float, typer.Option("--temperature", help="Of the distillation.")] = 2.0,
    val_fraction: Annotated[
        float, typer.Option("--val-fraction", help="Held out of each class where the data has no val/.")
    ] = 0.2,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option("--workers", help="Processes that prepare photos; -1: by cores.")] = -1,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep decoded photos in memory.")] = True,
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    qat: Annotated[
        str | None, typer.Option("--qat", help="int8: train on values that int8 can express (with --from).")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The model's name; the folder's by default.")] = None,
    json: Json = False,
) -> None:
    """Train or fine-tune a classifier on folders of photos; also under torchrun, on several devices."""
    from evit_edge.errors import require_installed
    from evit_edge.evaluation.dataset import parse_aliases
    from evit_edge.training.config import TrainConfig

    for module in ("torch", "kornia", "cv2", "safetensors", "matplotlib"):
        require_installed(module, extra="train")
    config = TrainConfig(
        data=tuple(data),
        output=output,
        model=ablated(model, ablate or ()),
        name=name or output.name,
        init=init,
        teachers=tuple(teacher or ()),
        aliases=parse_aliases(alias or ()),
        epochs=epochs,
        passes_per_epoch=passes,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_epochs=warmup_epochs,
        agc_clip=agc_clip,
        ema_decay=ema_decay,
        image_size=image_size,
        min_crop_area=min_crop_area,
        randaugment_ops=randaugment_ops,
        randaugment_magnitude=randaugment_magnitude,
        mixup=mixup,
        cutmix=cutmix,
        label_smoothing=label_smoothing,
        erasing=erasing,
        distillation=distillation,
        temperature=temperature,
        val_fraction=val_fraction,
        seed=seed,
        device=device,
        workers=workers,
        cache_photos=cache,
        compile_model=compiled,
        qat=qat,
    )
    from evit_edge.training.loop import train as run
    from evit_edge.training.processes import leads

    with _shown(config.epochs) as tell:
        result = run(config, tell)
    if leads():
        print_json(document(result)) if json else print_result(result)


def ablated(model: str | None, ablations: Iterable[str]) -> str | None:
    """The full name of a model with design decisions undone; as it is where none is.

    Raises:
        RequestError: There is no such model or ablation, or two exclude each other.
    """
    from evit_edge.models.config import DEFAULT_VARIANT, parse_ablations, variant

    chosen = parse_ablations(ablations)
    return variant(model or DEFAULT_VARIANT).ablated(chosen).name if model or chosen else None


@contextmanager
def _shown(epochs: int) -> Iterator[Callable[[Progress], None]]:
    """A bar over the whole run with the time left, and a line for each round; on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("reading the photos", total=None)

        def tell(progress: Progress) -> None:
            done = progress.epoch * progress.steps + progress.step
            text = f"epoch {progress.epoch + 1}/{epochs}  loss {progress.loss:.3f}"
            bars.update(task, description=text, completed=done, total=epochs * progress.steps)
            if progress.record is not None:
                console.print(_line(progress.epoch, progress.record))

        yield tell


def _line(epoch: int, record: dict[str, Any]) -> str:
    top1, top5 = 100 * record["val_top1"], 100 * record["val_top5"]
    speed = f"{record['photos_per_s']:.0f} photos/s"
    return f"  epoch {epoch + 1:>3}  loss {record['loss']:.3f}  top-1 {top1:.1f} %  top-5 {top5:.1f} %  {speed}"


def print_result(result: TrainResult) -> None:
    """Print where the best weights are and how good they are."""
    from evit_edge.evaluation.statistics import wilson_interval

    for note in result.notes:
        remark(note)
    interval = wilson_interval(round(result.top1 * result.val_count), result.val_count)
    rows = [
        ("checkpoint", str(result.best)),
        ("top-1", f"{100 * result.top1:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"),
        ("top-5", f"{100 * result.top5:.1f} %"),
        ("held-out photos", str(result.val_count)),
    ]
    print_table("best round", ("", ""), rows, left=2)


def document(result: TrainResult) -> dict[str, Any]:
    """The result as JSON."""
    return {
        "checkpoint": str(result.best),
        "val_top1": result.top1,
        "val_top5": result.top5,
        "val_photos": result.val_count,
        "epochs": result.epochs,
        "notes": list(result.notes),
    }
