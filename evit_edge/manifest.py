"""NAME.tflite.json beside NAME.tflite: what it is, from what, made with what, and how good."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from evit_edge.errors import ArtefactError
from evit_edge.files import replacing
from evit_edge.preprocessing import Preprocessing
from evit_edge.strict_json import MismatchError, from_json, to_json
from evit_edge.tensors import OutputKind, TensorSpec

SCHEMA = 1
_SHA256_DIGITS = 64


class Quantization(StrEnum):
    """How an artefact's weights and activations are stored."""

    NONE = "none"
    FP16 = "fp16"
    INT8 = "int8"
    INT8_FULL = "int8-full"
    INT8_DYNAMIC = "int8-dynamic"
    INT8_WEIGHTS = "int8-weights"
    INT16_ACT = "int16-act"
    PALETTE4 = "palette4"
    PALETTE6 = "palette6"


@dataclass(frozen=True)
class SourceEntry:
    """Where the weights came from.

    Attributes:
        name: Short name of the model, such as ``everyday``.
        architecture: Variant, such as ``efficientvit_m0``.
        num_classes: Outputs of the classifier.
        image_size: Side of the input, in pixels.
        weights: What was given after ``--weights``, file name only.
        sha256: Of the checkpoint's bytes, hex.
    """

    name: str
    architecture: str
    num_classes: int
    image_size: int
    weights: str
    sha256: str

    def __post_init__(self) -> None:
        """A hash has 64 digits."""
        _check_sha256(self.sha256)


@dataclass(frozen=True)
class ArtefactEntry:
    """The file that the manifest lies beside.

    Attributes:
        file: Its name.
        format: ``tflite`` or ``coreml``.
        sha256: Of its bytes, hex; of a folder as :func:`evit_edge.files.sha256_of` says.
        size_bytes: Its length, or that of all files in it.
        input: Its input.
        output: Its output.
        output_kind: What its scores are.
        labels: How many labels it carries.
        partitions: Pieces that XNNPACK runs; None where they were not counted.
        deployment_target: Core ML: the oldest system that opens it, such as ``iOS16``.
    """

    file: str
    format: str
    sha256: str
    size_bytes: int
    input: TensorSpec
    output: TensorSpec
    output_kind: OutputKind
    labels: int
    partitions: int | None
    deployment_target: str | None = None

    def __post_init__(self) -> None:
        """A hash has 64 digits, a size is positive."""
        _check_sha256(self.sha256)
        if self.size_bytes < 1 or self.labels < 0:
            raise ArtefactError(f"size {self.size_bytes} bytes and {self.labels} labels stated")


@dataclass(frozen=True)
class CalibrationEntry:
    """The photos' value ranges that an int8 artefact was made with.

    Attributes:
        sha256: Of the ranges or the cache that held them, hex.
        samples: Photos.
        seed: Of their choice.
        estimator: How a range was taken from the values seen.
    """

    sha256: str
    samples: int
    seed: int
    estimator: str


@dataclass(frozen=True)
class BudgetEntry:
    """The accuracy that was promised of an artefact, and how it was found to keep it.

    Attributes:
        max_drop: Points of top-1 that it may lose against the checkpoint.
        strict: Whether the promise is about the interval's upper end.
        drop: Points lost on the validation photos.
        interval: 95 % interval of that loss, from pairs of answers to the same photo.
        float_top1: The checkpoint's part of right answers, 0..1.
        top1: The artefact's.
        photos: Validation photos.
        photos_sha256: Of their contents, hex.
        drop_without: Points lost without the exemptions.
        trials: Artefacts that were made and measured.
    """

    max_drop: float
    strict: bool
    drop: float
    interval: tuple[float, float]
    float_top1: float
    top1: float
    photos: int
    photos_sha256: str
    drop_without: float
    trials: int

    def __post_init__(self) -> None:
        """A hash has 64 digits, an interval its ends in order."""
        _check_sha256(self.photos_sha256)
        if not self.interval[0] <= self.drop <= self.interval[1]:
            raise ArtefactError(f"a drop of {self.drop} with the interval {self.interval} stated")

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        return (self.interval[1] if self.strict else self.drop) <= self.max_drop


@dataclass(frozen=True)
class Manifest:
    """Everything about one artefact.

    Attributes:
        tool_version: Of evit-edge.
        command: The command line that made it.
        created: UTC, ISO 8601.
        source: The weights.
        artefact: The file.
        quantization: How it is stored.
        calibration: With which ranges; None where none were needed.
        preprocessing: How a photo becomes its input.
        versions: Distribution to version, of everything that took part.
        aliases: Folder names that mean a label.
        tuned: Kinds of operator that stay in float because that was faster on the machine that converted.
        parity: Measured figures, such as ``sqnr_db``, by name.
        exempt: Operators that were left out of the quantization on purpose, and what they are computed in.
        budget: The accuracy that was promised; None where nothing was.
    """

    tool_version: str
    command: str
    created: str
    source: SourceEntry
    artefact: ArtefactEntry
    quantization: Quantization
    calibration: CalibrationEntry | None
    preprocessing: Preprocessing
    versions: dict[str, str]
    aliases: dict[str, str] = field(default_factory=dict)
    tuned: tuple[str, ...] = ()
    parity: dict[str, float] = field(default_factory=dict)
    exempt: dict[str, str] = field(default_factory=dict)
    budget: BudgetEntry | None = None


def manifest_path(artefact: Path) -> Path:
    """NAME.tflite.json of NAME.tflite."""
    return artefact.with_name(f"{artefact.name}.json")


def golden_path(artefact: Path) -> Path:
    """NAME.tflite.golden.npz of NAME.tflite."""
    return artefact.with_name(f"{artefact.name}.golden.npz")


def calibration_path(artefact: Path) -> Path:
    """NAME.tflite.calibration.json of NAME.tflite."""
    return artefact.with_name(f"{artefact.name}.calibration.json")


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the JSON, whole or not at all.

    Raises:
        OutputError: The file cannot be written there.
    """
    text = json.dumps({"schema": SCHEMA, **to_json(manifest)}, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_manifest(path: Path) -> Manifest:
    """Read and check what :func:`write_manifest` wrote.

    Raises:
        ArtefactError: There is no such file, or a field of it is missing, unknown or wrong.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise MismatchError("it holds no JSON object")
        schema = fields.pop("schema", None)
        if schema != SCHEMA:
            raise MismatchError(f"its schema is {schema!r}; this version reads {SCHEMA}")
        return from_json(Manifest, fields)
    except FileNotFoundError as exc:
        raise ArtefactError(
            f"no manifest at {path}; it is written beside the artefact by evit-edge convert"
        ) from exc
    except OSError as exc:
        raise ArtefactError(f"manifest {path} cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:  # JSON's and Unicode's errors and MismatchError are ValueErrors
        raise ArtefactError(f"{path} is no manifest of this version: {exc}") from exc


def _check_sha256(digest: str) -> None:
    if len(digest) != _SHA256_DIGITS or set(digest) - set("0123456789abcdef"):
        raise ArtefactError(f"sha256 {digest!r} stated; 64 lower-case hexadecimal digits are needed")
