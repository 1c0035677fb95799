"""How much faster our int8 and float models are than a stock export of the same network.

For each variant: timm's network with random weights (BatchNorm statistics and attention biases made
non-trivial) is exported by litert-torch as it is, to float; the same weights go through evit-edge, to float
and to int8 with ranges from five photos. All models run on one thread in one process, in turns (A B C A B C ...),
so that a disturbance meets all alike; the minimum of each counts. Only the ratios mean anything.

    python benchmarks/int8_vs_stock.py                 # M0 and M5, a few minutes
    python benchmarks/int8_vs_stock.py --models all --runs 200
"""

from __future__ import annotations

import argparse
import functools
import importlib
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import skimage.data
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from evit_converters import tflite
from evit_converters.quiet import quiet
from evit_edge.models.config import VARIANTS, variant
from evit_edge.models.deploy import deploy
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.preprocessing import Preprocessing

TARGETS = {"efficientvit_m0": 1.9, "efficientvit_m5": 2.8}  # stock float over our int8
PHOTOS = ("astronaut", "cat", "coffee", "rocket")


Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Timing:
    """Minimal time of each model of one variant, in seconds."""

    name: str
    stock_s: float
    float_s: float
    int8_s: float
    int8_partitions: int


def build_models(name: str) -> dict[str, bytes]:
    """The three files of one variant: ``stock``, ``float`` and ``int8``."""
    model = randomised(EfficientViT(variant(name)))
    rule = Preprocessing(image_size=model.config.image_size)
    module = deploy(model, mean=rule.mean, std=rule.std, tokenwise=True)
    side = rule.image_size
    ours = tflite.export(module, torch.zeros(1, side, side, 3, dtype=torch.uint8))
    ranges = min_max_ranges(ours, [rule.apply(getattr(skimage.data, photo)()) for photo in PHOTOS])
    return {"stock": stock_export(model), "float": ours, "int8": quantized(ours, ranges)}


def quantized(content: bytes, ranges: dict[str, tuple[float, float]]) -> bytes:
    """As ``evit-edge convert --quantize int8`` does it: scores and residual stream stay in float."""
    exempt = dict.fromkeys(tflite.delicate_operators(content), tflite.Precision.FLOAT)
    return tflite.quantize(content, tflite.Quantization.INT8, ranges, exempt=exempt)


def randomised(model: Network) -> Network:
    """Random but honest weights: no branch is zero, no statistic trivial."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
                module.running_mean.normal_(0, 0.2, generator=generator)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
        for key, parameter in model.named_parameters():
            if key.endswith("attention_biases"):
                parameter.normal_(0, 0.5, generator=generator)
    return model.eval()


def stock_export(model: EfficientViT) -> bytes:
    """litert-torch's own export of timm's network: float NCHW input, logits."""
    side = model.config.image_size
    theirs = timm().create_model(model.config.name, img_size=side).eval()
    theirs.load_state_dict(model.state_dict())
    with quiet():
        converted = importlib.import_module("litert_torch").convert(theirs, (torch.zeros(1, 3, side, side),))
        return bytes(converted.model_content())


@functools.cache
def timm() -> Any:
    """The module timm, which wants two torchvision operators declared where torchvision has no compiled part."""
    library = torch.library.Library("torchvision", "DEF")
    timm.library = library  # type: ignore[attr-defined]  # torch forgets a schema with its Library object
    for schema in ("nms(Tensor a, Tensor b, float c) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor"):
        library.define(schema)
    return importlib.import_module("timm")


def min_max_ranges(model: bytes, images: list[npt.NDArray[np.uint8]]) -> dict[str, tuple[float, float]]:
    """True minimum and maximum of each activation."""
    run = tflite.activation_runner(model)
    ranges: dict[str, tuple[float, float]] = {}
    for image in images:
        for key, values in run(image[None]).items():
            low, high = ranges.get(key, (np.inf, -np.inf))
            ranges[key] = (min(low, float(values.min())), max(high, float(values.max())))
    return ranges


def measure(models: Mapping[str, bytes], runs: int) -> dict[str, float]:
    """Minimal seconds of one inference of each model, on one thread, in turns."""
    interpreters: dict[str, Any] = {}
    for key, content in models.items():
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        values = np.random.default_rng(0).integers(0, 256, detail["shape"])
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
        interpreter.invoke()
        interpreters[key] = interpreter
    best = dict.fromkeys(models, float("inf"))
    for _ in range(runs):
        for key, interpreter in interpreters.items():
            start = time.perf_counter()
            interpreter.invoke()
            best[key] = min(best[key], time.perf_counter() - start)
    return best


def compare(name: str, runs: int) -> Timing:
    """Build and time one variant."""
    models = build_models(name)
    best = measure(models, runs)
    partitions = tflite.partitions(models["int8"]).partitions
    return Timing(name, best["stock"], best["float"], best["int8"], partitions)


def show(timing: Timing) -> str:
    """One line of the table; the target where there is one."""
    ratio = timing.stock_s / timing.int8_s
    target = TARGETS.get(timing.name)
    verdict = f"  (target {target}x: {'met' if ratio >= target else 'missed'})" if target else ""
    return (
        f"{timing.name:16} {1e3 * timing.stock_s:9.2f} {1e3 * timing.float_s:9.2f} {1e3 * timing.int8_s:9.2f} "
        f"{timing.stock_s / timing.float_s:10.2f}x {ratio:9.2f}x {timing.int8_partitions:10}{verdict}"
    )


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["m0", "m5"], help="m0 to m5, or all (default: m0 m5)")
    parser.add_argument("--runs", type=int, default=100, help="turns, at least 60 (default: 100)")
    arguments = parser.parse_args()
    if arguments.runs < 60:
        parser.error(f"{arguments.runs} runs given; a minimum over fewer than 60 means little")
    names = list(VARIANTS) if arguments.models == ["all"] else [variant(name).name for name in arguments.models]
    warnings.simplefilter("ignore")
    print(f"minimum of {arguments.runs} runs in turns, one thread, ms")
    print(
        f"{'':16} {'stock':>9} {'float':>9} {'int8':>9} {'stock/float':>11} {'stock/int8':>10} {'partitions':>10}"
    )
    for name in names:
        print(show(compare(name, arguments.runs)), flush=True)


if __name__ == "__main__":
    main()
