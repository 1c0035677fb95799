"""From a checkpoint to a .tflite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from evit_calibration.cache import CalibrationCache
from evit_calibration.sensitivity import OperatorLoss
from evit_converters import tflite
from evit_edge import __version__
from evit_edge.evaluation.dataset import LabelledPhotos
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.models.deploy import deploy
from evit_edge.pipeline.budget import BudgetReport, keep_promise, validation_on
from evit_edge.pipeline.contents import Built, carried_description, description
from evit_edge.pipeline.journal import Journal
from evit_edge.pipeline.ranges import Calibrated, FloatGraph, calibrate
from evit_edge.pipeline.request import Budget, ConvertRequest, Stage, Tuning
from evit_edge.runtime import open_runner
from evit_edge.runtime.info import Runner
from evit_edge.runtime.tflite_file import DESCRIPTION_NAME
from evit_edge.tensors import OutputKind, UInt8Images

Ranges = Mapping[str, tuple[float, float]]


def write_tflite(
    request: ConvertRequest,
    checkpoint: Checkpoint,
    source: CalibrationCache | list[Path] | None,
    validation: LabelledPhotos | None,
    artefact: Path,
    journal: Journal,
) -> Built:
    """Export, calibrate where needed, quantize, pack.

    Args:
        request: What to do.
        checkpoint: The model.
        source: Ranges or photos, where activations become integers.
        validation: Photos to measure the accuracy on, where it was promised.
        artefact: Where the file shall be.
        journal: Told of each stage.

    Raises:
        CalibrationError: The ranges or photos cannot be used.
        ConverterError: The model cannot be exported, quantized or packed.
        BudgetError: The promised accuracy cannot be kept.
    """
    with journal.stage(Stage.EXPORT):
        content = export_float(checkpoint, request.output_kind)
    calibrated = None
    if source is not None:
        with journal.stage(Stage.CALIBRATE):
            graph = FloatGraph(tuple(tflite.activation_names(content)), lambda: tflite.activation_runner(content))
            calibrated = calibrate(source, request, checkpoint, graph, journal.tell)
    writer = _Writer(request, checkpoint, content, calibrated, artefact)
    found = None
    if validation is not None and request.budget is not None:
        with journal.stage(Stage.SEARCH):
            found = _searched(writer, request.budget, validation, journal)
    exempt = () if found is None else found.exempt
    with journal.stage(Stage.QUANTIZE):
        writer.write(exempt)
    division = tflite.partitions(artefact.read_bytes())
    if division.partitions != 1:
        journal.remark(Stage.QUANTIZE, _slower(division))
    return Built(
        calibrated,
        partitions=division.partitions,
        tuned=writer.tuned_kinds,
        exempt={name: precision.value for name, precision in writer.exemptions(exempt).items()},
        budget=None if found is None else found.entry,
    )


def export_float(checkpoint: Checkpoint, output_kind: OutputKind) -> bytes:
    """The inference form as a float .tflite.

    Raises:
        ConverterError: It cannot be exported.
    """
    rule, side = checkpoint.preprocessing, checkpoint.config.image_size
    module = deploy(checkpoint.model, mean=rule.mean, std=rule.std, output_kind=output_kind, tokenwise=True)
    return tflite.export(module, torch.zeros(1, side, side, 3, dtype=torch.uint8))


class _Writer:
    """Writes the artefact, again and again where a search wants it with other exemptions."""

    def __init__(
        self,
        request: ConvertRequest,
        checkpoint: Checkpoint,
        content: bytes,
        calibrated: Calibrated | None,
        artefact: Path,
    ) -> None:
        self.request, self.checkpoint, self.content, self.artefact = request, checkpoint, content, artefact
        self.mode = tflite.Quantization(request.quantization.value)
        self.ranges: Ranges | None = None if calibrated is None else calibrated.spans
        self.tuned: dict[str, tflite.Precision] = {}
        self.tuned_kinds: tuple[str, ...] = ()
        if request.tuning is Tuning.HOST and self.ranges is not None:
            self.tuned, self.tuned_kinds = _tuned(content, self.ranges)

    def exemptions(self, names: tuple[str, ...]) -> dict[str, tflite.Precision]:
        """What is not int8 on purpose: stream and scores, what is faster so here, and what a search found."""
        if self.mode is not tflite.Quantization.INT8:
            return {}
        return self.tuned | dict.fromkeys(
            (*tflite.delicate_operators(self.content), *names), tflite.Precision.FLOAT
        )

    def write(self, names: tuple[str, ...]) -> None:
        exempt = self.exemptions(names)
        content = tflite.quantize(self.content, self.mode, self.ranges, exempt=exempt)
        self.artefact.write_bytes(tflite.pack_metadata(content, _metadata(self.checkpoint, self.request)))

    def open(self, names: tuple[str, ...]) -> Runner:
        self.write(names)
        return open_runner(self.artefact, preprocessing=self.checkpoint.preprocessing)


def _searched(writer: _Writer, budget: Budget, photos: LabelledPhotos, journal: Journal) -> BudgetReport:
    from evit_edge.sensitivity.measuring import tflite_losses

    spared = set(writer.exemptions(()))

    def losses(images: UInt8Images) -> tuple[OperatorLoss, ...]:
        tell, kind = journal.share(Stage.SEARCH), writer.request.output_kind
        every = tflite_losses(writer.content, writer.ranges or {}, images, tell, kind=kind)
        return tuple(loss for loss in every if loss.name not in spared)

    with validation_on(photos, writer.request, writer.checkpoint, journal.counting(Stage.SEARCH)) as validation:
        return keep_promise(
            budget,
            validation,
            writer.open,
            losses,
            journal.trial,
        )


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
