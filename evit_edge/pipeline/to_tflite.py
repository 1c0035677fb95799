"""From a checkpoint to a .tflite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from evit_calibration.cache import CalibrationCache
from evit_converters import tflite
from evit_edge import __version__
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.models.deploy import deploy
from evit_edge.pipeline.contents import Built, carried_description, description
from evit_edge.pipeline.journal import Journal
from evit_edge.pipeline.ranges import FloatGraph, calibrate
from evit_edge.pipeline.request import ConvertRequest, Stage, Tuning
from evit_edge.runtime.tflite_file import DESCRIPTION_NAME


def write_tflite(
    request: ConvertRequest,
    checkpoint: Checkpoint,
    source: CalibrationCache | list[Path] | None,
    artefact: Path,
    journal: Journal,
) -> Built:
    """Export, calibrate where needed, quantize, pack.

    Args:
        request: What to do.
        checkpoint: The model.
        source: Ranges or photos, where activations become integers.
        artefact: Where the file shall be.
        journal: Told of each stage.

    Raises:
        CalibrationError: The ranges or photos cannot be used.
        ConverterError: The model cannot be exported, quantized or packed.
    """
    rule, side = checkpoint.preprocessing, checkpoint.config.image_size
    with journal.stage(Stage.EXPORT):
        module = deploy(checkpoint.model, mean=rule.mean, std=rule.std, output_kind=request.output_kind)
        content = tflite.export(module, torch.zeros(1, side, side, 3, dtype=torch.uint8))
    calibrated = None
    if source is not None:
        with journal.stage(Stage.CALIBRATE):
            graph = FloatGraph(tuple(tflite.activation_names(content)), lambda: tflite.activation_runner(content))
            calibrated = calibrate(source, request.seed, checkpoint, graph, journal.tell)
    with journal.stage(Stage.QUANTIZE):
        ranges = None if calibrated is None else calibrated.spans
        exempt, tuned = _tuned(content, ranges) if request.tuning is Tuning.HOST and ranges else ({}, ())
        mode = tflite.Quantization(request.quantization.value)
        content = tflite.quantize(content, mode, ranges, exempt=exempt)
        artefact.write_bytes(tflite.pack_metadata(content, _metadata(checkpoint, request)))
    division = tflite.partitions(artefact.read_bytes())
    if division.partitions != 1:
        journal.remark(Stage.QUANTIZE, _slower(division))
    return Built(calibrated, partitions=division.partitions, tuned=tuned)


def _tuned(
    content: bytes, ranges: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, tflite.Precision], tuple[str, ...]]:
    """Operators that this machine computes faster in float, and their kinds."""
    exempt = tflite.faster_in_float(content, ranges)
    kinds = {operator.kind for operator in tflite.quantizable_operators(content) if operator.name in exempt}
    return exempt, tuple(sorted(kinds))


def _slower(division: tflite.PartitionReport) -> str:
    """What keeps XNNPACK from taking a graph in one piece."""
    if not division.partitions:
        return "XNNPACK takes nothing of the graph: it is slower than float on a CPU with such a delegate"
    fault = ", ".join(f"{operator.kind} {operator.name}" for operator in division.at_fault[:3])
    more = f" and {len(division.at_fault) - 3} others" if len(division.at_fault) > 3 else ""
    return (
        f"XNNPACK takes the graph in {division.partitions} partitions instead of 1: it is slower; between them "
        f"stand {fault}{more}"
    )


def _metadata(checkpoint: Checkpoint, request: ConvertRequest) -> tflite.ModelMetadata:
    side = checkpoint.config.image_size
    return tflite.ModelMetadata(
        name=checkpoint.name,
        description=description(checkpoint, request),
        version=__version__,
        labels=checkpoint.labels or (),
        image_size=(side, side),
        files={DESCRIPTION_NAME: carried_description(checkpoint, request).encode()},
    )
