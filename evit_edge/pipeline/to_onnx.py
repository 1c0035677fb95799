"""From a checkpoint to an .onnx."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from evit_calibration.cache import CalibrationCache
from evit_converters import onnx
from evit_edge import __version__
from evit_edge.evaluation.dataset import LabelledPhotos
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.models.deploy import deploy
from evit_edge.pipeline.contents import Built, carried_description, description
from evit_edge.pipeline.journal import Journal
from evit_edge.pipeline.ranges import FloatGraph, calibrate
from evit_edge.pipeline.request import ConvertRequest, Stage
from evit_edge.runtime.description import DESCRIPTION_KEY, LABELS_KEY


def write_onnx(
    request: ConvertRequest,
    checkpoint: Checkpoint,
    source: CalibrationCache | list[Path] | None,
    _validation: LabelledPhotos | None,
    artefact: Path,
    journal: Journal,
) -> Built:
    """Export, calibrate where needed, quantize, describe.

    Args:
        request: What to do.
        checkpoint: The model.
        source: Ranges or photos, where activations become integers.
        _validation: None: no accuracy can be promised for this format yet, and requests for it are refused.
        artefact: Where the file shall be.
        journal: Told of each stage.

    Raises:
        CalibrationError: The ranges or photos cannot be used.
        ConverterError: The model cannot be exported or quantized, or a library is missing.
    """
    rule, side = checkpoint.preprocessing, checkpoint.config.image_size
    with journal.stage(Stage.EXPORT):
        module = deploy(checkpoint.model, mean=rule.mean, std=rule.std, output_kind=request.output_kind)
        example = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        content = onnx.export(module, example, output_name=request.output_kind.value)
    calibrated = None
    if source is not None:
        with journal.stage(Stage.CALIBRATE):
            graph = FloatGraph(tuple(onnx.activation_names(content)), lambda: onnx.activation_runner(content))
            calibrated = calibrate(source, request, checkpoint, graph, journal.tell)
    with journal.stage(Stage.QUANTIZE):
        ranges = None if calibrated is None else calibrated.spans
        content = onnx.quantize(content, onnx.Quantization(request.quantization.value), ranges)
        content = onnx.describe(
            content,
            version=__version__,
            description=description(checkpoint, request),
            metadata=_metadata(checkpoint, request),
        )
        onnx.check(content)
        artefact.write_bytes(content)
    return Built(calibrated)


def _metadata(checkpoint: Checkpoint, request: ConvertRequest) -> dict[str, str]:
    told = {DESCRIPTION_KEY: carried_description(checkpoint, request)}
    if checkpoint.labels:
        told[LABELS_KEY] = json.dumps(list(checkpoint.labels), ensure_ascii=False)
    given = {"name": checkpoint.name, "author": request.author, "license": request.license}
    return told | {key: value for key, value in given.items() if value}
