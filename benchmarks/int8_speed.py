"""The speed half of the promise about int8: ratios, partitions, and the distance from the roofline.

"Stock" is litert-torch's own export of timm's network, and ai-edge-quantizer's ``static_wi8_ai8`` on it. "Ours" is
what evit-edge makes of the same network. Weights are random with BatchNorm statistics and attention biases that do
something; ranges are those of four photos. The two models of a ratio run in one process on one thread, in turns
(A B A B ...), and are loaded several times; the minimum of each counts. Only ratios mean anything, so only ratios
are printed.

    python benchmarks/int8_speed.py                      # everything; exporting takes ten minutes
    python benchmarks/int8_speed.py --cache /tmp/models  # keep exported files for the next time
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage.data
import torch
from ai_edge_quantizer import quantizer, recipe
from int8_vs_stock import PHOTOS, measure, min_max_ranges, quantized, randomised, timm
from torch import nn

from evit_converters import tflite
from evit_converters.quiet import quiet
from evit_converters.tflite.graph import Graph
from evit_edge.benchmark.roofline import limit, measure_peaks
from evit_edge.benchmark.work import tflite_work
from evit_edge.models.config import variant
from evit_edge.models.deploy import deploy
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.preprocessing import Preprocessing

LOADS = 8
SIDES = {"mobilevit_xxs": 256}
M2, M5, MOBILENET, MOBILEVIT = "efficientvit_m2", "efficientvit_m5", "mobilenetv3_large_100", "mobilevit_xxs"
ONE_PARTITION = (*(f"efficientvit_m{n}" for n in range(6)), MOBILENET, "resnet18", "efficientnet_lite0")


@dataclass(frozen=True)
class Ratio:
    """One line of the table: how much faster the second is than the first."""

    title: str
    slower: str
    faster: str
    least: float
    aim: float


RATIOS = (
    Ratio("M5 int8 over stock float M5", f"{M5} stock float", f"{M5} int8", 3.2, 3.7),
    Ratio("M5 int8 over stock int8 M5", f"{M5} stock int8", f"{M5} int8", 1.55, 1.8),
    Ratio("M5 int8 over MobileNetV3-L float", f"{MOBILENET} stock float", f"{M5} int8", 1.4, 1.6),
    Ratio("M5 int8 over MobileNetV3-L our int8", f"{MOBILENET} int8", f"{M5} int8", 0.85, 1.0),
    Ratio("M2 int8 over MobileViT-XXS float", f"{MOBILEVIT} stock float", f"{M2} int8", 5.5, 7.4),
    Ratio("M2 int8 over MobileViT-XXS our int8", f"{MOBILEVIT} int8", f"{M2} int8", 3.7, 5.0),
    Ratio("MobileNetV3-L our int8 over its float", f"{MOBILENET} stock float", f"{MOBILENET} int8", 1.5, 2.0),
    Ratio("MobileViT-XXS our int8 over its float", f"{MOBILEVIT} stock float", f"{MOBILEVIT} int8", 1.0, 1.5),
)


class Models:
    """Files by name, such as ``efficientvit_m5 stock float``, made when they are first asked for."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def __getitem__(self, name: str) -> bytes:
        path = self._cache / f"{name.replace(' ', '-')}.tflite"
        if not path.exists():
            network, _, kind = name.partition(" ")
            content = _MAKERS[kind](self, network)
            path.write_bytes(content)
        return path.read_bytes()


def network_of(name: str) -> nn.Module:
    """A network of timm's with random but honest weights."""
    torch.manual_seed(0)
    return randomised(timm().create_model(name, **({"img_size": 224} if name.startswith("efficientvit") else {})))


def stock_float(_: Models, name: str) -> bytes:
    """litert-torch's export: float NCHW input, logits."""
    side = SIDES.get(name, 224)
    with quiet():
        converted = import_module("litert_torch").convert(network_of(name), (torch.zeros(1, 3, side, side),))
        return bytes(converted.model_content())


def stock_int8(models: Models, name: str) -> bytes:
    """Stock float with ai-edge-quantizer's static int8."""
    content = models[f"{name} stock float"]
    statistics = {
        key: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
        for key, (low, high) in min_max_ranges(content, [image[0] for image in pictures(content)]).items()
    }
    with quiet():
        engine = quantizer.Quantizer(bytearray(content), recipe.static_wi8_ai8())
        return bytes(engine.quantize(statistics, enable_progress_bar=False).quantized_model)


def our_float(_: Models, name: str) -> bytes:
    """uint8 photos in, probabilities out."""
    rule, side = Preprocessing(image_size=SIDES.get(name, 224)), SIDES.get(name, 224)
    if name.startswith("efficientvit"):
        model = EfficientViT(variant(name))
        model.load_state_dict(network_of(name).state_dict())
        module = deploy(model.eval(), mean=rule.mean, std=rule.std, tokenwise=True)
    else:
        module = tflite.ImageClassifier(network_of(name), image_size=(side, side), mean=rule.mean, std=rule.std)
    return tflite.export(module, torch.zeros(1, side, side, 3, dtype=torch.uint8))


def our_int8(models: Models, name: str) -> bytes:
    """Our float, quantized."""
    content = models[f"{name} float"]
    ranges = min_max_ranges(content, [image[0] for image in pictures(content)])
    return quantized(content, ranges)


_MAKERS: dict[str, Callable[[Models, str], bytes]] = {
    "stock float": stock_float,
    "stock int8": stock_int8,
    "float": our_float,
    "int8": our_int8,
}


def pictures(model: bytes) -> list[npt.NDArray[np.generic]]:
    """Photos as a model takes them: uint8 (1, S, S, 3), or normalised float (1, 3, S, S)."""
    graph = Graph(model)
    shape, dtype = graph.shape(graph.inputs[0]), graph.dtype(graph.inputs[0])
    rule = Preprocessing(image_size=max(shape))
    images = [rule.apply(getattr(skimage.data, photo)()) for photo in PHOTOS]
    if dtype == "UINT8":
        return [image[None] for image in images]
    planes = [((image / 255 - rule.mean) / rule.std).transpose(2, 0, 1)[None] for image in images]
    return [plane.astype(np.float32) for plane in planes]


def verdict(value: float, least: float, aim: float) -> str:
    """Whether a figure, the more the better, holds."""
    return "aim met" if value >= aim else "held" if value >= least else "MISSED"


def print_ratios(models: Models, runs: int) -> None:
    """Time the two models of each ratio in turns; more of them would push each other out of the caches."""
    print(f"{'figure':40} {'measured':>9} {'at least':>9} {'aim':>6}")
    for ratio in RATIOS:
        best = least({name: models[name] for name in (ratio.slower, ratio.faster)}, runs)
        value = best[ratio.slower] / best[ratio.faster]
        told = verdict(value, ratio.least, ratio.aim)
        print(f"{ratio.title:40} {value:8.2f}x {ratio.least:8.2f}x {ratio.aim:5.1f}x  {told}", flush=True)


def least(models: Mapping[str, bytes], runs: int) -> dict[str, float]:
    """Minimal seconds of each model, loaded anew several times: where weights lie in memory changes its time."""
    loads = [measure(models, runs) for _ in range(LOADS)]
    return {name: min(load[name] for load in loads) for name in models}


def print_partitions(models: Models) -> None:
    """Into how many pieces XNNPACK takes each int8 model."""
    for name in ONE_PARTITION:
        report = tflite.partitions(models[f"{name} int8"])
        fault = "".join(f", at fault: {operator.kind} {operator.name}" for operator in report.at_fault)
        print(f"{'partitions of ' + name:40} {report.partitions:9} {'':>8}1 {'':>5}1  {report}{fault}", flush=True)


def print_roofline(models: Models, runs: int) -> None:
    """Measured over least time, by the peaks of this machine measured in the same run."""
    for name in ("efficientvit_m0", M2, M5):
        content = models[f"{name} int8"]
        peaks = measure_peaks(1)
        best = least({name: content}, runs)[name]
        # Forms that fill kernels better have more multiply-accumulates: the float model's are those that count.
        work = replace(tflite_work(content), macs=tflite_work(models[f"{name} float"]).macs)
        found = limit(work, 224 * 224 * 3, peaks, best)
        if found is not None:
            ratio = found.measured_over_limit
            print(f"{'measured/least of ' + name:40} {ratio:8.2f}x {'':>9} {1.3:5.1f}x  {found.bound}", flush=True)


def main() -> None:
    """Print the table, part by part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="turns, at least 60 (default: 100)")
    parser.add_argument("--cache", type=Path, help="folder to keep exported models in")
    arguments = parser.parse_args()
    if arguments.runs < 60:
        parser.error(f"{arguments.runs} runs given; a minimum over fewer than 60 means little")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        cache = arguments.cache or Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        models = Models(cache)
        print_ratios(models, arguments.runs)
        print_partitions(models)
        print_roofline(models, arguments.runs)


if __name__ == "__main__":
    main()
