"""What a conversion is told, what it tells meanwhile, and what it gives back. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

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


class Stage(StrEnum):
    """Steps of a conversion, in order."""

    LOAD = "load"
    EXPORT = "export"
    CALIBRATE = "calibrate"
    QUANTIZE = "quantize"
    VERIFY = "verify"
    WRITE = "write"


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
        calibration: For int8: folders of photos, or one calibration cache; a shipped model has its own.
        samples: Photos to calibrate with at most.
        seed: Of their choice.
        output_kind: Softmax inside, or logits.
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
    calibration: tuple[Path, ...] = ()
    samples: int = 256
    seed: int = 0
    output_kind: OutputKind = OutputKind.PROBABILITIES
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse what this version cannot do and what makes no sense."""
        if self.target is not Target.TFLITE:
            raise RequestError(f"--to {self.target} is not available in this version; tflite is")
        if self.samples < 1 or self.seed < 0:
            raise RequestError(f"{self.samples} samples with seed {self.seed} given; at least 1 and 0 are needed")
        if self.calibration and self.quantization is not Quantization.INT8:
            raise RequestError(f"--calibration serves int8; with --quantize {self.quantization} it has no use")


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
