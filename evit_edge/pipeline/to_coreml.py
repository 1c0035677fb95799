"""From a checkpoint to a .mlpackage."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from evit_calibration.cache import CalibrationCache
from evit_calibration.sensitivity import OperatorLoss, measure_operators
from evit_converters import coreml
from evit_edge import __version__
from evit_edge.evaluation.dataset import LabelledPhotos
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.models.neural_engine import neural_engine
from evit_edge.pipeline.budget import BudgetReport, keep_promise, validation_on
from evit_edge.pipeline.contents import Built, carried_description, description
from evit_edge.pipeline.journal import Journal
from evit_edge.pipeline.ranges import Calibrated, FloatGraph, calibrate
from evit_edge.pipeline.request import Budget, ConvertRequest, Stage
from evit_edge.runtime import open_runner
from evit_edge.runtime.coreml import Evaluator, Precision, read_package
from evit_edge.runtime.coreml.description import distinct_labels
from evit_edge.runtime.description import DESCRIPTION_KEY
from evit_edge.runtime.info import Runner
from evit_edge.tensors import Float32Array, UInt8Images, centred_logits

_NO_GAIN = (
    "int8-full makes the file small, but an A13 computes it no faster than int8: "
    "integer arithmetic came to the Neural Engine with A17 Pro and M4"
)


def write_coreml(
    request: ConvertRequest,
    checkpoint: Checkpoint,
    source: CalibrationCache | list[Path] | None,
    validation: LabelledPhotos | None,
    artefact: Path,
    journal: Journal,
) -> Built:
    """Export, calibrate where needed, quantize, save.

    Args:
        request: What to do.
        checkpoint: The model.
        source: Ranges or photos, where activations become integers.
        validation: Photos to measure the accuracy on, where it was promised.
        artefact: Where the package shall be.
        journal: Told of each stage.

    Raises:
        CalibrationError: The ranges or photos cannot be used.
        ConverterError: The model cannot be exported or quantized, or the target cannot honour the request.
    """
    labels = checkpoint.labels or ()
    for label, carried in zip(labels, distinct_labels(labels), strict=True):
        if label != carried:
            journal.remark(
                Stage.LOAD, f"two classes are called {label!r}; the later one is {carried!r} in the file"
            )
    quantization = coreml.Quantization(request.quantization.value)
    target = _target(request, quantization, journal)
    with journal.stage(Stage.EXPORT):
        module = neural_engine(checkpoint.model)
        interface = _interface(checkpoint, request)
        program = coreml.export(module, interface, precision=quantization.precision, target=target)
    journal.remark(Stage.EXPORT, _told(coreml.advise(program)))
    calibrated = None
    if source is not None:
        journal.remark(Stage.CALIBRATE, _NO_GAIN)
        with journal.stage(Stage.CALIBRATE):
            calibrated = _calibrated(source, request, checkpoint, program, journal)
    writer = _Writer(request, checkpoint, program, calibrated, artefact)
    found = None
    if validation is not None and request.budget is not None:
        with journal.stage(Stage.SEARCH):
            found = _searched(writer, request.budget, validation, journal)
    exempt = () if found is None else found.exempt
    with journal.stage(Stage.QUANTIZE):
        writer.write(exempt)
    return Built(
        calibrated,
        deployment_target=target.value,
        exempt=dict.fromkeys(exempt, quantization.precision.value),
        budget=None if found is None else found.entry,
    )


class _Writer:
    """Writes the package, again and again where a search wants it with other exemptions."""

    def __init__(
        self,
        request: ConvertRequest,
        checkpoint: Checkpoint,
        program: coreml.Program,
        calibrated: Calibrated | None,
        artefact: Path,
    ) -> None:
        self.request, self.checkpoint, self.program, self.artefact = request, checkpoint, program, artefact
        self.quantization = coreml.Quantization(request.quantization.value)
        self.ranges = None if calibrated is None else calibrated.spans

    def write(self, names: tuple[str, ...]) -> None:
        if self.artefact.exists():
            shutil.rmtree(self.artefact)
        coreml.save(coreml.quantize(self.program, self.quantization, self.ranges, exempt=names), self.artefact)

    def open(self, names: tuple[str, ...]) -> Runner:
        self.write(names)
        return open_runner(self.artefact, preprocessing=self.checkpoint.preprocessing)

    def losses(self, images: UInt8Images, tell: Callable[[float], None]) -> tuple[OperatorLoss, ...]:
        """What each layer costs with rounded weights, on the Core ML evaluator."""
        weights = {weight.name: weight for weight in coreml.quantizable_weights(self.program)}
        with tempfile.TemporaryDirectory() as folder:
            coreml.save(self.program, Path(folder) / "float.mlpackage")
            package = read_package(Path(folder) / "float.mlpackage")

            def scores(*rounded: str) -> npt.NDArray[np.float64]:
                replaced = {name: torch.from_numpy(weights[name].rounded) for name in rounded}
                answers = Evaluator(package, Precision.FLOAT32, weights=replaced).run(images).numpy()
                return centred_logits(answers, self.request.output_kind)

            return measure_operators(
                [(weight.name, weight.kind) for weight in weights.values()],
                scores,
                scores(),
                lambda done: tell(done / len(weights)),
            )


def _searched(writer: _Writer, budget: Budget, photos: LabelledPhotos, journal: Journal) -> BudgetReport:
    with validation_on(photos, writer.request, writer.checkpoint, journal.counting(Stage.SEARCH)) as validation:
        return keep_promise(
            budget,
            validation,
            writer.open,
            lambda images: writer.losses(images, journal.share(Stage.SEARCH)),
            journal.trial,
        )


def _target(
    request: ConvertRequest, quantization: coreml.Quantization, journal: Journal
) -> coreml.DeploymentTarget:
    if request.deployment_target is not None:
        return request.deployment_target
    target = coreml.lowest_target(quantization)
    journal.remark(
        Stage.EXPORT, f"{quantization} opens on {target} and later; --deployment-target asks for another"
    )
    return target


def _told(advice: coreml.Advice) -> str:
    """What may trouble the Neural Engine, in a line."""
    counts = ", ".join(f"{concern} {len(names)}" for concern, names in advice.concerns.items())
    return f"for the Neural Engine, of {advice.operations} operations: {counts} ({advice.remark})"


def _interface(checkpoint: Checkpoint, request: ConvertRequest) -> coreml.Interface:
    rule = checkpoint.preprocessing
    return coreml.Interface(
        image_size=checkpoint.config.image_size,
        mean=rule.mean,
        std=rule.std,
        labels=distinct_labels(checkpoint.labels or ()),
        output_kind=coreml.OutputKind(request.output_kind.value),
        name=checkpoint.name,
        description=description(checkpoint, request),
        author=request.author,
        license=request.license,
        version=__version__,
        user_defined={DESCRIPTION_KEY: carried_description(checkpoint, request)},
    )


def _calibrated(
    source: CalibrationCache | list[Path],
    request: ConvertRequest,
    checkpoint: Checkpoint,
    program: coreml.Program,
    journal: Journal,
) -> Calibrated:
    names = tuple(coreml.activation_names(program))
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "float.mlpackage"

        def opened() -> Callable[[UInt8Images], Mapping[str, Float32Array]]:
            coreml.save(program, package)
            return _activations(Evaluator(read_package(package), Precision.FLOAT32), names)

        return calibrate(source, request, checkpoint, FloatGraph(names, opened), journal.tell)


def _activations(
    evaluator: Evaluator, names: tuple[str, ...]
) -> Callable[[UInt8Images], Mapping[str, Float32Array]]:
    wanted = frozenset(names)

    def run(images: UInt8Images) -> Mapping[str, Float32Array]:
        seen: dict[str, Float32Array] = {}

        def keep(name: str, value: object) -> None:
            if name in wanted:
                seen[name] = np.asarray(value, dtype=np.float32)

        evaluator.run(images, keep)
        return {name: seen[name] for name in names}

    return run
