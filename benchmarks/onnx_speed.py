"""int8 against float ONNX in ONNX Runtime, for each variant: one thread, in turns, with intervals.

Weights are random with BatchNorm statistics and attention biases that do something; ranges are those of four
photos. A ratio is the time of int8 over that of float, so below 1 is faster. It is a trustworthy one only where
the verdict is ``valid``.

    python benchmarks/onnx_speed.py                # all six, ten minutes
    python benchmarks/onnx_speed.py --models m0 m5
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import skimage.data
import torch
from int8_vs_stock import PHOTOS, randomised

from evit_converters import onnx
from evit_edge.benchmark import BenchmarkRequest, benchmark
from evit_edge.benchmark.report import Report
from evit_edge.models.config import VARIANTS, variant
from evit_edge.models.deploy import deploy
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.preprocessing import Preprocessing


def write_models(name: str, folder: Path) -> tuple[Path, Path]:
    """A variant as float and as int8."""
    model = randomised(EfficientViT(variant(name)))
    rule = Preprocessing(image_size=model.config.image_size)
    side = rule.image_size
    module = deploy(model, mean=rule.mean, std=rule.std)
    content = onnx.export(module, torch.zeros(1, side, side, 3, dtype=torch.uint8))
    run = onnx.activation_runner(content)
    seen = [run(rule.apply(getattr(skimage.data, photo)())[None]) for photo in PHOTOS]
    ranges = {
        key: (min(0.0, *(float(s[key].min()) for s in seen)), max(0.0, *(float(s[key].max()) for s in seen)))
        for key in seen[0]
    }
    paths = folder / f"{name}.onnx", folder / f"{name}-int8.onnx"
    paths[0].write_bytes(content)
    paths[1].write_bytes(onnx.quantize(content, onnx.Quantization.INT8, ranges))
    return paths


def measured(paths: tuple[Path, Path]) -> Report:
    """Both in turns; the float model is the baseline."""
    return benchmark(BenchmarkRequest(tuple(map(str, paths)), stages=False, cold_start=False, peaks=False))


def main() -> None:
    """Print a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(VARIANTS), help="m0 to m5 (default: all)")
    print("time of int8 / time of float, 99 % interval, verdict")
    for name in parser.parse_args().models:
        with tempfile.TemporaryDirectory() as folder:
            report = measured(write_models(name, Path(folder)))
        (ratio,), (device,) = report.ratios, report.devices
        low, high = ratio.interval.low, ratio.interval.high
        print(
            f"{variant(name).name}: {ratio.value:.3f} [{low:.3f}, {high:.3f}], {device.verdict.judgement}",
            flush=True,
        )


if __name__ == "__main__":
    main()
