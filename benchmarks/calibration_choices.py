"""Which estimator of ranges and which rounding of weights serves which network: the table behind the defaults.

EfficientViT-M0 is the shipped model on validation photos. MobileNetV3-Large and MobileViT-XXS are timm's, with
random weights and BatchNorm statistics (nothing trained is at hand offline): their SQNR is of honest noise, their
answers mean nothing. All int8 models leave in float what the converter leaves there (scores, residual stream), but
for the rows that say otherwise.

    python benchmarks/calibration_choices.py --data ../shared/data
    python benchmarks/calibration_choices.py --data ../shared/data --only everyday --photos 400
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from int8_vs_stock import timm
from torch import nn
from weight_candidates import Weights, collect_moments, rounded

from evit_calibration import estimators
from evit_calibration.histogram import StreamingHistogram
from evit_calibration.photos import list_photos, sample_photos
from evit_calibration.sensitivity import Loss, measure_loss
from evit_converters import tflite
from evit_converters.tflite import Precision, Quantization
from evit_edge.images import read_rgb
from evit_edge.models.checkpoints import load_checkpoint
from evit_edge.pipeline.to_tflite import export_float
from evit_edge.preprocessing import Preprocessing
from evit_edge.sensitivity.measuring import scores_of
from evit_edge.tensors import OutputKind

NETWORKS = ("everyday", "mobilenetv3_large_100", "mobilevit_xxs")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Images = list[npt.NDArray[np.uint8]]
Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Row:
    """One choice on one network."""

    network: str
    choice: str
    loss: Loss


def build(name: str) -> tuple[bytes, Preprocessing]:
    """A float .tflite and how photos become its input."""
    if name == "everyday":
        checkpoint = load_checkpoint(name)
        return export_float(checkpoint, OutputKind.LOGITS), checkpoint.preprocessing
    side = 256 if name.startswith("mobilevit") else 224
    torch.manual_seed(0)
    net = randomised(timm().create_model(name).eval())
    classifier = tflite.ImageClassifier(net, image_size=(side, side), mean=MEAN, std=STD, softmax=False)
    return tflite.export(classifier, classifier.example), Preprocessing(image_size=side)


def randomised(net: nn.Module) -> nn.Module:
    """BatchNorm statistics that are no identity."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return net


class MovingAverage:
    """Smallest and largest value of each photo, averaged: ai-edge-quantizer's own way."""

    def __init__(self) -> None:
        self.ends: npt.NDArray[np.float64] | None = None

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Add a photo's values."""
        new = np.array([min(float(values.min()), 0.0), max(float(values.max()), 0.0)])
        self.ends = new if self.ends is None else 0.95 * self.ends + 0.05 * new


def all_ranges(model: bytes, images: Images) -> dict[str, Ranges]:
    """Every estimator's ranges, from one pass."""
    run = tflite.activation_runner(model)
    histograms: dict[str, StreamingHistogram] = {}
    averages: dict[str, MovingAverage] = {}
    for image in images:
        for name, values in run(image[None]).items():
            histograms.setdefault(name, StreamingHistogram()).add(values)
            averages.setdefault(name, MovingAverage()).add(values)
    told: dict[str, Any] = {
        "minmax": estimators.minmax_range,
        "percentile 99.99": lambda histogram: estimators.percentile_range(histogram, 99.99),
        "percentile 99.999": lambda histogram: estimators.percentile_range(histogram, 99.999),
        "mse": estimators.least_squares_range,
        "entropy": estimators.least_divergence_range,
    }
    ranges: dict[str, Ranges] = {
        key: {name: tell(histogram) for name, histogram in histograms.items()} for key, tell in told.items()
    }
    ranges["moving average"] = {
        name: (float(average.ends[0]), float(average.ends[1]))
        for name, average in averages.items()
        if average.ends is not None
    }
    return ranges


def measure(name: str, calibration: Images, photos: npt.NDArray[np.uint8], model: bytes) -> list[Row]:
    """All rows of one network."""
    reference = scores_of(model, photos, OutputKind.LOGITS)
    ranges = all_ranges(model, calibration)
    spared = frozenset(tflite.delicate_operators(model))

    def loss(content: bytes, spans: Mapping[str, tuple[float, float]], exempt: frozenset[str]) -> Loss:
        int8 = tflite.quantize(content, Quantization.INT8, spans, exempt=dict.fromkeys(exempt, Precision.FLOAT))
        return measure_loss(scores_of(int8, photos, OutputKind.LOGITS), reference)

    rows = [Row(name, f"ranges: {key}", loss(model, spans, spared)) for key, spans in ranges.items()]
    rows.append(Row(name, "ranges: mse, everything in int8", loss(model, ranges["mse"], frozenset())))
    moments = collect_moments(model, calibration[: len(calibration) // 2])
    for how in Weights:
        content = rounded(model, moments, how, spared)
        rows.append(
            Row(
                name,
                f"weights alone: {how}",
                measure_loss(scores_of(content, photos, OutputKind.LOGITS), reference),
            )
        )
        rows.append(Row(name, f"ranges: mse, weights: {how}", loss(content, ranges["mse"], spared)))
    content = rounded(model, moments, Weights.GPTQ, frozenset())
    rows.append(
        Row(
            name,
            f"ranges: mse, weights: {Weights.GPTQ}, everything in int8",
            loss(content, ranges["mse"], frozenset()),
        )
    )
    return rows


def read(folders: list[Path], count: int, rule: Preprocessing) -> Images:
    """A draw of photos as the network sees them."""
    paths = sample_photos([path for folder in folders for path in list_photos(folder)], count, seed=0)
    return [rule.apply(read_rgb(path)) for path in paths]


def show(rows: list[Row]) -> None:
    """Print the table."""
    print("| network | choice | SQNR, dB | agreement, % |")
    print("|---|---|---|---|")
    for row in rows:
        agreement = 100 * (1 - row.loss.flips / row.loss.photos)
        print(f"| {row.network} | {row.choice} | {row.loss.sqnr_db:.2f} | {agreement:.2f} |")


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with caltech101/ and flowers/")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--samples", type=int, default=128, help="photos to calibrate with")
    parser.add_argument("--photos", type=int, default=200, help="photos to measure on")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.only:
        model, rule = build(name)
        parts = [options.data / "caltech101", options.data / "flowers"]
        calibration = read([part / "train" for part in parts], options.samples, rule)
        photos = np.stack(read([part / "val" for part in parts], options.photos, rule))
        rows += measure(name, calibration, photos, model)
    show(rows)


if __name__ == "__main__":
    main()
