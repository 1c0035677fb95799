"""What int8 costs in accuracy: agreement with float, SQNR of the logits, and the paired loss, on held-out photos.

Each model is exported once, calibrated on 256 training photos (the least squared error), and measured on all
validation photos: as ``int8`` (the fastest on a CPU) and ``int8-full`` (every operator integer). The first row of
each model is what a stock calibration gives on the same graph: moving average, and the classifier in
int8, too.

    python benchmarks/int8_accuracy.py --data ../shared/data
    python benchmarks/int8_accuracy.py --data ../shared/data --trashnet runs/trashnet/best.safetensors
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_calibration.photos import list_photos, sample_photos
from evit_calibration.ranges import Estimator, RangeRule, collect_ranges
from evit_calibration.sensitivity import measure_loss
from evit_converters import tflite
from evit_converters.tflite import Precision, Quantization
from evit_edge.evaluation.dataset import class_ids, label_photos
from evit_edge.evaluation.statistics import paired_difference_interval
from evit_edge.images import read_rgb
from evit_edge.models.checkpoints import Checkpoint, load_checkpoint
from evit_edge.pipeline.to_tflite import export_float
from evit_edge.runtime.torch_checkpoint import TorchRunner
from evit_edge.sensitivity.measuring import scores_of
from evit_edge.tensors import OutputKind

SETS = {"everyday": ("caltech101", "flowers"), "trashnet": ("trashnet",)}
LEAST = {"int8": (96.5, 23.0, 0.5), "int8-full": (None, None, 1.5)}
AIM = {"int8": (98.5, 27.0, 0.2), "int8-full": (None, None, 0.5)}


@dataclass(frozen=True)
class Row:
    """One artefact's figures on the validation photos.

    Attributes:
        model: Name of the checkpoint.
        kind: How it was quantized.
        agreement: Photos with float's best class, %.
        sqnr_db: Of the logits, each photo's constant taken out.
        top1: Right answers, %.
        drop: Points of top-1 lost against float, and the 95 % interval of that.
    """

    model: str
    kind: str
    agreement: float
    sqnr_db: float
    top1: float
    drop: tuple[float, float, float]


def measure(name: str, weights: str, data: Path, samples: int) -> list[Row]:
    """All rows of one checkpoint."""
    checkpoint = load_checkpoint(weights)
    rule = checkpoint.preprocessing
    training = [path for part in SETS[name] for path in list_photos(data / part / "train")]
    chosen = sample_photos(training, samples, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        squares, truth = validation(checkpoint, [data / part / "val" for part in SETS[name]], Path(folder))
        # Logits: in int8-full the output is int8, and most probabilities are below its step.
        content = export_float(checkpoint, OutputKind.LOGITS)
        reference = scores_of(content, squares, OutputKind.LOGITS)
        rows = []
        for estimator, kinds in ((Estimator.MOVING_AVERAGE, ("stock",)), (Estimator.MSE, ("int8", "int8-full"))):
            images = (rule.apply(read_rgb(path)) for path in chosen)
            spans = collect_ranges(tflite.activation_runner(content), images, rule=RangeRule(estimator))
            ranges = {key: (span.minimum, span.maximum) for key, span in spans.items()}
            for kind in kinds:
                scores = scores_of(quantized(content, kind, ranges), squares, OutputKind.LOGITS)
                rows.append(row(name, kind, scores, reference, truth))
    return rows


def validation(
    checkpoint: Checkpoint, folders: Sequence[Path], scratch: Path
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Validation photos cut to the model's input, on disk, and their right classes."""
    info = TorchRunner(checkpoint, scratch).info
    photos = label_photos(folders, [info])
    side = checkpoint.config.image_size
    shape = (len(photos.paths), side, side, 3)
    squares = np.memmap(scratch / "squares", mode="w+", dtype=np.uint8, shape=shape)
    for i, path in enumerate(photos.paths):
        squares[i] = checkpoint.preprocessing.apply(read_rgb(path))
    return squares, class_ids(photos.classes, info)[photos.truth]


def quantized(content: bytes, kind: str, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """The artefact; ``stock`` is int8 with the classifier in int8, too."""
    if kind == "int8-full":
        return tflite.quantize(content, Quantization.INT8_FULL, ranges)
    spared = tflite.delicate_operators(content) if kind == "int8" else ()
    return tflite.quantize(content, Quantization.INT8, ranges, exempt=dict.fromkeys(spared, Precision.FLOAT))


def row(
    model: str,
    kind: str,
    scores: npt.NDArray[np.float64],
    reference: npt.NDArray[np.float64],
    truth: npt.NDArray[np.int64],
) -> Row:
    """Figures of scores against float's."""
    loss = measure_loss(scores, reference)
    before, after = reference.argmax(axis=1) == truth, scores.argmax(axis=1) == truth
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    both, neither = int((before & after).sum()), int((~before & ~after).sum())
    interval = paired_difference_interval(both, lost, won, neither)
    drop = 100 * (lost - won) / len(truth)
    return Row(
        model=f"{model} ({len(truth)} photos, float {100 * before.mean():.2f} %)",
        kind=kind,
        agreement=100 * (1 - loss.flips / loss.photos),
        sqnr_db=loss.sqnr_db,
        top1=100 * float(after.mean()),
        drop=(drop, 100 * interval.low, 100 * interval.high),
    )


def show(rows: Sequence[Row]) -> None:
    """Print the table, and whether the goals are met."""
    print("| model | kind | agreement, % | SQNR, dB | top-1, % | points lost [95 %] | at least | aim |")
    print("|---|---|---|---|---|---|---|---|")
    for entry in rows:
        drop, low, high = entry.drop
        verdicts = [
            "" if entry.kind not in goals else "yes" if meets(entry, goals[entry.kind]) else "no"
            for goals in (LEAST, AIM)
        ]
        print(
            f"| {entry.model} | {entry.kind} | {entry.agreement:.2f} | {entry.sqnr_db:.1f} | {entry.top1:.2f} "
            f"| {drop:+.2f} [{low:+.2f}, {high:+.2f}] | {verdicts[0]} | {verdicts[1]} |"
        )


def meets(entry: Row, goal: tuple[float | None, float | None, float]) -> bool:
    """Whether agreement, SQNR and loss are as good as asked for."""
    agreement, sqnr_db, drop = goal
    return entry.agreement >= (agreement or 0) and entry.sqnr_db >= (sqnr_db or 0) and entry.drop[0] <= drop


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with caltech101/, flowers/, trashnet/")
    parser.add_argument("--trashnet", help="a checkpoint that was fine-tuned on trashnet/train")
    parser.add_argument("--samples", type=int, default=256, help="photos to calibrate with")
    options = parser.parse_args()
    models = {"everyday": "everyday"} | ({"trashnet": options.trashnet} if options.trashnet else {})
    show(
        [
            entry
            for name, weights in models.items()
            for entry in measure(name, weights, options.data, options.samples)
        ]
    )


if __name__ == "__main__":
    main()
