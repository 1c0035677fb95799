"""The main road: a request goes in, a proved artefact comes out, each stage a function of the one before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from evit_calibration.cache import CalibrationCache
from evit_calibration.errors import CalibrationError
from evit_converters import tflite
from evit_converters.errors import ConverterError
from evit_edge.errors import ConversionError, DataError, RequestError
from evit_edge.files import publishing, refuse_existing
from evit_edge.golden import write_golden
from evit_edge.manifest import Quantization, golden_path, manifest_path, write_manifest
from evit_edge.models.checkpoints import Checkpoint, load_checkpoint
from evit_edge.models.deploy import deploy
from evit_edge.pipeline.contents import describe, golden, packed
from evit_edge.pipeline.ranges import Calibrated, calibrate, find_source
from evit_edge.pipeline.request import ConvertRequest, ConvertResult, Progress, Stage
from evit_edge.runtime import read_labels
from evit_edge.verification import VerifyRequest, verify
from evit_edge.zoo import EVERYDAY

_SUFFIX = {Quantization.NONE: "fp32", Quantization.FP16: "fp16", Quantization.INT8: "int8"}


class Journal:
    """Tells the caller of stages and adds up their times."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self.tell = tell
        self.stage_s: dict[Stage, float] = {}

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Time what happens inside."""
        self.tell(Progress(stage))
        started = time.perf_counter()
        yield
        self.stage_s[stage] = time.perf_counter() - started
        self.tell(Progress(stage, seconds=self.stage_s[stage]))


def convert(request: ConvertRequest, tell: Callable[[Progress], None]) -> ConvertResult:
    """As :func:`evit_edge.pipeline.convert` says."""
    journal = Journal(tell)
    with journal.stage(Stage.LOAD):
        checkpoint = _load(request, journal)
        name = f"{checkpoint.name}-{_SUFFIX[request.quantization]}"
        refuse_existing([request.output / f"{name}.tflite"], overwrite=request.overwrite)
        source = _source(request, checkpoint)
    with publishing(request.output, last=".json", overwrite=request.overwrite) as folder:
        artefact = folder / f"{name}.tflite"
        content, calibrated = _converted(request, checkpoint, source, journal)
        artefact.write_bytes(packed(content, checkpoint, request))
        manifest = describe(request, checkpoint, artefact, calibrated)
        if manifest.artefact.partitions != 1:
            told = (
                f"XNNPACK takes the graph in {manifest.artefact.partitions} partitions instead of 1: it is slower"
            )
            tell(Progress(Stage.QUANTIZE, remark=told))
        with journal.stage(Stage.VERIFY):
            write_golden(golden_path(artefact), golden(checkpoint))
            report = verify(VerifyRequest(artefact, manifest=manifest))
            report.raise_if_failed()
        with journal.stage(Stage.WRITE):
            manifest = replace(manifest, parity=report.figures)
            write_manifest(manifest_path(artefact), manifest)
            if calibrated is not None and calibrated.is_new:
                calibrated.cache.save(folder / f"{name}.calibration.json")
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


def _source(request: ConvertRequest, checkpoint: Checkpoint) -> CalibrationCache | list[Path] | None:
    if request.quantization is not Quantization.INT8:
        return None
    try:
        return find_source(request, checkpoint)
    except CalibrationError as exc:
        raise DataError(str(exc)) from exc


def _converted(
    request: ConvertRequest,
    checkpoint: Checkpoint,
    source: CalibrationCache | list[Path] | None,
    journal: Journal,
) -> tuple[bytes, Calibrated | None]:
    """Export, calibrate where needed, quantize."""
    rule = checkpoint.preprocessing
    try:
        with journal.stage(Stage.EXPORT):
            module = deploy(checkpoint.model, mean=rule.mean, std=rule.std, output_kind=request.output_kind)
            side = checkpoint.config.image_size
            content = tflite.export(module, torch.zeros(1, side, side, 3, dtype=torch.uint8))
        calibrated = None
        if source is not None:
            with journal.stage(Stage.CALIBRATE):
                calibrated = calibrate(source, request.seed, checkpoint, content, journal.tell)
        with journal.stage(Stage.QUANTIZE):
            ranges = None if calibrated is None else calibrated.spans
            mode = tflite.Quantization(request.quantization.value)
            return tflite.quantize(content, mode, ranges), calibrated
    except CalibrationError as exc:
        raise DataError(str(exc)) from exc
    except ConverterError as exc:
        raise ConversionError(f"{checkpoint.name} cannot be converted: {exc}") from exc
