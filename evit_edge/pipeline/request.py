"""What a conversion is told, what it tells meanwhile, and what it gives back. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from evit_calibration.ranges import Estimator
from evit_converters import coreml, onnx
from evit_converters.coreml import DeploymentTarget, check_target
from evit_converters.errors import TargetError
from evit_converters.tflite import modes as tflite_modes
from evit_edge.errors import RequestError
from evit_edge.manifest import Manifest, Quantization
from evit_edge.tensors import OutputKind
from evit_edge.verification import VerificationReport
from evit_edge.zoo import EVERYDAY


class Target(StrEnum):
    """File formats that a model can be converted to."""

    TFLITE = "tflite"
    COREML = "coreml"
    ONNX = "onnx"


class Tuning(StrEnum):
    """For which machine int8 is placed.

    ``PORTABLE``: by what holds on any. ``HOST``: what this machine computes faster in float stays in float.
    """

    PORTABLE = "portable"
    HOST = "host"


SUFFIXES = {Target.TFLITE: ".tflite", Target.COREML: ".mlpackage", Target.ONNX: ".onnx"}
"""Of the files."""

_QUANTIZATIONS = {
    Target.TFLITE: tuple(Quantization(mode.value) for mode in tflite_modes.Quantization),
    Target.COREML: tuple(Quantization(mode.value) for mode in coreml.Quantization),
    Target.ONNX: tuple(Quantization(mode.value) for mode in onnx.Quantization),
}
_NEED_RANGES = {(Target.TFLITE, Quantization(mode.value)) for mode in tflite_modes.NEED_RANGES}
_NEED_RANGES |= {(Target.COREML, Quantization.INT8_FULL), (Target.ONNX, Quantization.INT8)}


def needs_ranges(target: Target, quantization: Quantization) -> bool:
    """Whether activations become integers, so that photos have to show which values occur."""
    return (target, quantization) in _NEED_RANGES


class Stage(StrEnum):
    """Steps of a conversion, in order."""

    LOAD = "load"
    EXPORT = "export"
    CALIBRATE = "calibrate"
    SEARCH = "search"
    QUANTIZE = "quantize"
    VERIFY = "verify"
    WRITE = "write"


_BUDGETED = {
    (Target.TFLITE, Quantization.INT8),
    (Target.COREML, Quantization.INT8),
    (Target.COREML, Quantization.INT8_FULL),
}


@dataclass(frozen=True)
class Budget:
    """How much accuracy a quantized model may lose.

    Attributes:
        max_drop: Points of top-1 that it may lose against the checkpoint, both on the same photos.
        validation: Folders with one folder of photos per class; none of them may be calibrated with.
        strict: The promise is about the upper end of the loss's 95 % interval, instead of the loss.
    """

    max_drop: float
    validation: tuple[Path, ...]
    strict: bool = False

    def __post_init__(self) -> None:
        """A loss in points, and photos to measure it on."""
        if not 0 <= self.max_drop <= 100:
            raise RequestError(f"--max-drop {self.max_drop} given; 0 to 100 points are accepted")
        if not self.validation:
            raise RequestError("--max-drop needs labelled photos to measure the loss on: give --validation DIR")


@dataclass(frozen=True)
class ConvertRequest:
    """What to convert, how, and where to.

    Attributes:
        output: Folder of the results.
        weights: A checkpoint, ``hf:OWNER/NAME`` or ``everyday``.
        model: Variant that the weights must be of.
        labels: Text file with one label a line, instead of the checkpoint's.
        image_size: Input side in pixels, instead of the checkpoint's.
        target: File format.
        quantization: What weights and activations are stored as.
        deployment_target: Core ML: the oldest system that shall open the file, such as ``iOS16``; by default the
            oldest that the quantization allows.
        tuning: For which machine int8 operators are chosen.
        calibration: Where activations become integers: folders of photos, or one calibration cache; a shipped
            model has its own for TFLite.
        samples: Photos to calibrate with at most.
        seed: Of their choice.
        estimator: How a range follows from the values seen on photos.
        budget: How much accuracy may be lost; None leaves it to the verification.
        output_kind: Softmax inside, or logits.
        author: Who trained the model, as the file shall say.
        license: Under which terms, as the file shall say.
        overwrite: Replace files that are there.
        command: The command line, for the record.
    """

    output: Path
    weights: str = EVERYDAY
    model: str | None = None
    labels: Path | None = None
    image_size: int | None = None
    target: Target = Target.TFLITE
    quantization: Quantization = Quantization.NONE
    deployment_target: DeploymentTarget | None = None
    tuning: Tuning = Tuning.PORTABLE
    calibration: tuple[Path, ...] = ()
    samples: int = 256
    seed: int = 0
    estimator: Estimator = Estimator.MSE
    budget: Budget | None = None
    output_kind: OutputKind = OutputKind.PROBABILITIES
    author: str = ""
    license: str = ""
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse what this version cannot do and what makes no sense."""
        accepted = _QUANTIZATIONS[self.target]
        if self.quantization not in accepted:
            raise RequestError(
                f"--quantize {self.quantization} given; {', '.join(accepted)} are accepted with --to {self.target}"
            )
        if self.deployment_target is not None and self.target is not Target.COREML:
            raise RequestError(f"--deployment-target serves coreml; with --to {self.target} it has no use")
        if self.deployment_target is not None:
            _check_target(self.quantization, self.deployment_target)
        if self.tuning is Tuning.HOST and (self.target, self.quantization) != (Target.TFLITE, Quantization.INT8):
            raise RequestError("--tune host serves --to tflite --quantize int8; with others it has no use")
        if self.samples < 1 or self.seed < 0:
            raise RequestError(f"{self.samples} samples with seed {self.seed} given; at least 1 and 0 are needed")
        if self.calibration and not needs_ranges(self.target, self.quantization):
            raise RequestError(
                "--calibration serves integer activations (tflite: int8, int8-full, int16-act; onnx: int8; "
                "coreml: int8-full); "
                f"with --to {self.target} --quantize {self.quantization} it has no use"
            )

        if self.budget is not None and (self.target, self.quantization) not in _BUDGETED:
            raise RequestError(
                "--max-drop serves tflite with int8 and coreml with int8 or int8-full; "
                f"with --to {self.target} --quantize {self.quantization} it has no use"
            )

    def file_name(self, model: str) -> str:
        """Name of the artefact, such as ``everyday-int8.tflite``."""
        kind = "fp32" if self.quantization is Quantization.NONE else self.quantization.value
        return f"{model}-{kind}{SUFFIXES[self.target]}"


def _check_target(quantization: Quantization, target: DeploymentTarget) -> None:
    try:
        check_target(coreml.Quantization(quantization.value), target)
    except TargetError as exc:
        raise RequestError(str(exc)) from exc


@dataclass(frozen=True)
class Progress:
    """Told to the caller while a conversion runs.

    Attributes:
        stage: What is being done.
        done: Photos done in this stage, where it counts any.
        total: Photos to do, where it counts any.
        seconds: Duration of the stage, once it has ended.
        remark: Something that the user should read.
    """

    stage: Stage
    done: int = 0
    total: int = 0
    seconds: float | None = None
    remark: str | None = None


@dataclass(frozen=True)
class ConvertResult:
    """What a conversion wrote.

    Attributes:
        artefact: The converted file; its manifest and golden vectors lie beside it.
        manifest: The manifest's content.
        report: How every gate did.
        stage_s: Seconds of each stage.
    """

    artefact: Path
    manifest: Manifest
    report: VerificationReport
    stage_s: dict[Stage, float] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Of the artefact."""
        return self.manifest.artefact.size_bytes
