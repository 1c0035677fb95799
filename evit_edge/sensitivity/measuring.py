"""Rounding one operator of a .tflite after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_calibration.cache import CalibrationCache
from evit_calibration.errors import CalibrationError
from evit_calibration.photos import PhotoReader
from evit_calibration.sensitivity import OperatorLoss, measure_operators
from evit_converters import tflite
from evit_converters.errors import ConverterError
from evit_edge import __version__
from evit_edge.errors import ConversionError, DataError, RequestError
from evit_edge.images import read_rgb
from evit_edge.manifest import Quantization
from evit_edge.models.checkpoints import Checkpoint, load_checkpoint
from evit_edge.pipeline.ranges import FloatGraph, calibrate, find_source
from evit_edge.pipeline.request import ConvertRequest, Progress
from evit_edge.pipeline.to_tflite import export_float
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.engines import open_interpreter, preferred_engine
from evit_edge.sensitivity.report import SensitivityReport, SensitivityRequest
from evit_edge.tensors import OutputKind, UInt8Images, centred_logits

Scores = npt.NDArray[np.float64]


def measure(
    request: SensitivityRequest, tell: Callable[[str, float], None], remark: Callable[[str], None]
) -> SensitivityReport:
    """As :func:`evit_edge.sensitivity.sensitivity` says."""
    tell("reading the weights", 0.0)
    checkpoint = load_checkpoint(request.weights, model=request.model)
    conversion = ConvertRequest(
        Path(),
        weights=request.weights,
        quantization=Quantization.INT8,
        calibration=request.calibration,
        samples=request.samples,
        seed=request.seed,
        estimator=request.estimator,
    )
    try:
        return _measured(request, conversion, checkpoint, tell, remark)
    except CalibrationError as exc:
        raise DataError(str(exc)) from exc
    except ConverterError as exc:
        raise ConversionError(f"{checkpoint.name} cannot be analysed: {exc}") from exc


def _measured(
    request: SensitivityRequest,
    conversion: ConvertRequest,
    checkpoint: Checkpoint,
    tell: Callable[[str, float], None],
    remark: Callable[[str], None],
) -> SensitivityReport:
    source = find_source(conversion, checkpoint)
    if isinstance(source, CalibrationCache):
        raise RequestError("a calibration cache given; the photos themselves are needed: give their folder")
    tell("exporting", 0.0)
    content = export_float(checkpoint, OutputKind.PROBABILITIES)

    def told(progress: Progress) -> None:
        if progress.remark is not None:
            remark(progress.remark)
        elif progress.total:
            tell("calibrating on photos", progress.done / progress.total)

    graph = FloatGraph(tuple(tflite.activation_names(content)), lambda: tflite.activation_runner(content))
    calibrated = calibrate(source, conversion, checkpoint, graph, told)
    images = read_squares(source[: request.photos], checkpoint.preprocessing)
    losses = tflite_losses(
        content,
        calibrated.spans,
        images,
        lambda share: tell("rounding one operator after the other", share),
        threads=request.threads,
    )
    engine = preferred_engine()
    return SensitivityReport(
        name=checkpoint.name,
        weights_sha256=checkpoint.sha256,
        photos=len(images),
        calibration_photos=calibrated.cache.samples,
        estimator=request.estimator.value,
        engine=f"{engine.name} {engine.version}",
        operators=losses,
        command=request.command,
        tool_version=__version__,
    )


def read_squares(paths: list[Path], rule: Preprocessing) -> UInt8Images:
    """What a model sees of photos, one at least; those that cannot be read are left out.

    Returns:
        uint8 (N, S, S, 3).

    Raises:
        PhotosError: More than 5 % of the photos cannot be read.
    """
    return np.stack(list(PhotoReader(paths, lambda path: rule.apply(read_rgb(path)), bad_errors=(DataError,))))


def tflite_losses(
    content: bytes,
    ranges: Mapping[str, tuple[float, float]],
    images: UInt8Images,
    tell: Callable[[float], None],
    *,
    kind: OutputKind = OutputKind.PROBABILITIES,
    threads: int = 1,
) -> tuple[OperatorLoss, ...]:
    """What each operator that int8 would change costs when it alone is rounded, in execution order.

    Args:
        content: A float .tflite.
        ranges: Of its activations.
        images: uint8 (N, S, S, 3).
        tell: Called with the share that is done.
        kind: What the model's scores are.
        threads: Threads of the engine.

    Raises:
        ConverterError: The model cannot be edited.
        ArtefactError: The engine cannot run it.
    """
    operators = tflite.quantizable_operators(content)
    single = tflite.Alone(content, ranges)
    reference = scores_of(content, images, kind, threads=threads)
    return measure_operators(
        [(operator.name, operator.kind) for operator in operators],
        lambda name: scores_of(single.quantized(name), images, kind, threads=threads),
        reference,
        lambda done: tell(done / len(operators)),
    )


def scores_of(
    content: bytes, images: UInt8Images, kind: OutputKind = OutputKind.PROBABILITIES, *, threads: int = 1
) -> Scores:
    """A .tflite's scores as logits without each photo's constant, float64 (N, classes).

    Args:
        content: A model of one picture, uint8 in, scores out, dequantized where they are integers.
        images: uint8 (N, S, S, 3).
        kind: What its scores are.
        threads: Threads of the engine.
    """
    _, interpreter = open_interpreter(Path("in memory"), threads, content=content)
    entrance = interpreter.get_input_details()[0]["index"]
    exit_ = interpreter.get_output_details()[0]
    scale, zero_point = exit_["quantization"]  # 0.0 for a float output
    scores = []
    for image in images:
        interpreter.set_tensor(entrance, image[None])
        interpreter.invoke()
        answer = interpreter.get_tensor(exit_["index"])[0].astype(np.float32)  # (classes,)
        scores.append((answer - zero_point) * scale if scale else answer)
    return centred_logits(np.stack(scores), kind)
