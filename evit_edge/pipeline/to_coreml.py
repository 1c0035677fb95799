"""From a checkpoint to a .mlpackage."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from evit_calibration.cache import CalibrationCache
from evit_converters import coreml
from evit_edge import __version__
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.models.neural_engine import neural_engine
from evit_edge.pipeline.contents import Built, carried_description, description
from evit_edge.pipeline.journal import Journal
from evit_edge.pipeline.ranges import Calibrated, FloatGraph, calibrate
from evit_edge.pipeline.request import ConvertRequest, Stage
from evit_edge.runtime.coreml import Evaluator, Precision, read_package
from evit_edge.runtime.coreml.description import DESCRIPTION_KEY, distinct_labels
from evit_edge.tensors import Float32Array, UInt8Images

_NO_GAIN = (
    "int8-full makes the file small, but an A13 computes it no faster than int8: "
    "integer arithmetic came to the Neural Engine with A17 Pro and M4"
)


def write_coreml(
    request: ConvertRequest,
    checkpoint: Checkpoint,
    source: CalibrationCache | list[Path] | None,
    artefact: Path,
    journal: Journal,
) -> Built:
    """Export, calibrate where needed, quantize, save.

    Args:
        request: What to do.
        checkpoint: The model.
        source: Ranges or photos, where activations become integers.
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
            calibrated = _calibrated(source, request.seed, checkpoint, program, journal)
    with journal.stage(Stage.QUANTIZE):
        ranges = None if calibrated is None else calibrated.spans
        coreml.save(coreml.quantize(program, quantization, ranges), artefact)
    return Built(calibrated, deployment_target=target.value)


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
    seed: int,
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

        return calibrate(source, seed, checkpoint, FloatGraph(names, opened), journal.tell)


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
