"""The main road: a request goes in, a proved artefact comes out, each stage a function of the one before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from evit_calibration.cache import CalibrationCache
from evit_calibration.errors import CalibrationError
from evit_converters.errors import ConverterError
from evit_edge.errors import ConversionError, DataError, RequestError
from evit_edge.evaluation.dataset import LabelledPhotos
from evit_edge.files import refuse_existing
from evit_edge.golden import write_golden
from evit_edge.manifest import calibration_path, golden_path, manifest_path, write_manifest
from evit_edge.models.checkpoints import Checkpoint, load_checkpoint
from evit_edge.pipeline.budget import find_validation
from evit_edge.pipeline.contents import Built, describe, golden
from evit_edge.pipeline.journal import Journal
from evit_edge.pipeline.ranges import find_source
from evit_edge.pipeline.request import ConvertRequest, ConvertResult, Progress, Stage, Target, needs_ranges
from evit_edge.pipeline.threads import one_thread
from evit_edge.pipeline.to_coreml import write_coreml
from evit_edge.pipeline.to_onnx import write_onnx
from evit_edge.pipeline.to_tflite import write_tflite
from evit_edge.publishing import finish, publishing
from evit_edge.runtime import read_labels
from evit_edge.verification import VerifyRequest, verify
from evit_edge.zoo import EVERYDAY

_WRITERS = {Target.TFLITE: write_tflite, Target.COREML: write_coreml, Target.ONNX: write_onnx}


def convert(request: ConvertRequest, tell: Callable[[Progress], None]) -> ConvertResult:
    """As :func:`evit_edge.pipeline.convert` says."""
    with one_thread():
        return _convert(request, Journal(tell))


def _convert(request: ConvertRequest, journal: Journal) -> ConvertResult:
    with journal.stage(Stage.LOAD):
        checkpoint = _load(request, journal)
        name = request.file_name(checkpoint.name)
        finish(request.output)
        refuse_existing([request.output / name], overwrite=request.overwrite)
        source, validation = _material(request, checkpoint)
        answered = golden(checkpoint)
    last = manifest_path(Path(name)).name
    with publishing(request.output, last=last, overwrite=request.overwrite) as folder:
        artefact = folder / name
        built = _built(request, checkpoint, source, validation, artefact, journal)
        manifest = describe(request, checkpoint, artefact, built)
        with journal.stage(Stage.VERIFY):
            write_golden(golden_path(artefact), answered)
            spans = None if built.calibrated is None else built.calibrated.spans
            report = verify(VerifyRequest(artefact, manifest=manifest, checkpoint=checkpoint, ranges=spans))
            report.raise_if_failed()
        with journal.stage(Stage.WRITE):
            manifest = replace(manifest, parity=report.figures)
            write_manifest(manifest_path(artefact), manifest)
            if built.calibrated is not None and built.calibrated.is_new:
                built.calibrated.cache.save(calibration_path(artefact))
    final = request.output / artefact.name
    return ConvertResult(final, manifest, replace(report, artefact=final), journal.stage_s)


def _load(request: ConvertRequest, journal: Journal) -> Checkpoint:
    if request.weights == EVERYDAY and request.model not in (None, "efficientvit_m0", "m0"):
        raise RequestError(
            f"{request.model} has no shipped weights; give --weights FILE, or hf:timm/{request.model}.r224_in1k"
        )
    checkpoint = load_checkpoint(request.weights, model=request.model, image_size=request.image_size)
    for note in checkpoint.notes:
        journal.tell(Progress(Stage.LOAD, remark=note))
    if request.labels is None:
        return checkpoint
    labels = read_labels(request.labels)
    classes = checkpoint.config.num_classes
    if len(labels) != classes:
        raise DataError(
            f"{request.labels} holds {len(labels)} labels and the model has {classes} classes; "
            "give one label a line, in the model's order"
        )
    return replace(checkpoint, labels=labels, aliases={})


def _material(
    request: ConvertRequest, checkpoint: Checkpoint
) -> tuple[CalibrationCache | list[Path] | None, LabelledPhotos | None]:
    """What to calibrate with and what to measure the accuracy on, found before anything slow is begun."""
    try:
        source = find_source(request, checkpoint) if needs_ranges(request.target, request.quantization) else None
        return source, find_validation(request, checkpoint, source)
    except CalibrationError as exc:
        raise DataError(str(exc)) from exc


def _built(
    request: ConvertRequest,
    checkpoint: Checkpoint,
    source: CalibrationCache | list[Path] | None,
    validation: LabelledPhotos | None,
    artefact: Path,
    journal: Journal,
) -> Built:
    try:
        return _WRITERS[request.target](request, checkpoint, source, validation, artefact, journal)
    except CalibrationError as exc:
        raise DataError(str(exc)) from exc
    except ConverterError as exc:
        raise ConversionError(f"{checkpoint.name} cannot be converted: {exc}") from exc
