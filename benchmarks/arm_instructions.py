"""Executed instructions of float against int8 on an emulated Cortex-A76. They are no time.

EfficientViT and MobileNetV3 have random weights, as in int8_speed.py, which makes the same files; ``everyday`` is
the shipped model. The counts are those of ``evit-edge analyze instructions``, one thread, in both runtimes.

    python benchmarks/arm_instructions.py --arm64-root .envs/arm64                      # exports them, too
    python benchmarks/arm_instructions.py --arm64-root .envs/arm64 --cache /tmp/models  # keep exported files
    python benchmarks/arm_instructions.py --models everyday efficientvit_m0             # some of them
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

from int8_speed import MOBILENET, Models

from evit_edge.analysis.instructions import (
    InstructionCount,
    InstructionsReport,
    InstructionsRequest,
    analyze_instructions,
)
from evit_edge.manifest import Quantization
from evit_edge.pipeline import ConvertRequest, convert
from evit_edge.zoo import EVERYDAY, artefact_path

NETWORKS = (*(f"efficientvit_m{n}" for n in range(6)), MOBILENET, EVERYDAY)
KINDS = ("float", "int8")


def files(models: Models, network: str, folder: Path) -> tuple[str, ...]:
    """Float and int8 of a network."""
    if network != EVERYDAY:
        for kind in KINDS:
            (folder / f"{network}-{kind}.tflite").write_bytes(models[f"{network} {kind}"])
        return tuple(str(folder / f"{network}-{kind}.tflite") for kind in KINDS)
    request = ConvertRequest(folder / EVERYDAY, weights=EVERYDAY, quantization=Quantization.NONE)
    return str(convert(request).artefact), str(artefact_path("everyday-int8"))


def show(network: str, report: InstructionsReport) -> None:
    """A row for each runtime, and whose kernels ran."""
    for runtime in dict.fromkeys(entry.runtime for entry in report.counts):
        both = [entry for entry in report.counts if entry.runtime == runtime]
        if len(both) == len(KINDS):
            print(_row(network, runtime, *both), flush=True)
    for text in report.remarks:
        print(f"<!-- {text} -->", flush=True)


def _row(network: str, runtime: str, plain: InstructionCount, quantized: InstructionCount) -> str:
    spread = max(entry.spread / entry.instructions for entry in (plain, quantized))
    counts = f"{plain.instructions / 1e6:.1f} | {quantized.instructions / 1e6:.1f} | {quantized.ratio:.2f}"
    return f"| {network} | {runtime} | {counts} | {spread:.0e} | {plain.division} | {quantized.division} |"


def main() -> None:
    """Print the table in Markdown, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=NETWORKS, help="default: all")
    parser.add_argument("--arm64-root", type=Path, help="folder that tools/arm64 built, if not in the cache")
    parser.add_argument("--cache", type=Path, help="folder to keep exported models in")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = arguments.cache or folder / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        print("| network | runtime | float | int8 | float / int8 | spread | float: XNNPACK | int8: XNNPACK |")
        print("|---|---|---|---|---|---|---|---|")
        for network in arguments.models:
            request = InstructionsRequest(files(Models(cache), network, folder), arguments.arm64_root)
            report = analyze_instructions(request)
            show(network, report)
        print(f"\nMillions of {report.meaning}; {report.emulator}.")


if __name__ == "__main__":
    main()
