"""TFLite Metadata: what a model tells about itself, inside the file. Light to import.

Two parts. A flatbuffer (identifier M001) sits in the model's buffer ``TFLITE_METADATA`` and describes the
model, its input and its output. Files that it names, above all ``labels.txt``, are in a zip archive appended
to the model, stored without compression, which a flatbuffer reader does not see.
Source: https://ai.google.dev/edge/litert/conversion/tensorflow/metadata and its ``metadata_schema.fbs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evit_converters.errors import ModelFileError

BUFFER_NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
LABELS_FILE = "labels.txt"

TENSOR_AXIS_LABELS = 2  # AssociatedFileType
IMAGE_PROPERTIES = 2  # ContentProperties
NORMALIZATION_OPTIONS = 1  # ProcessUnitOptions


@dataclass(frozen=True)
class Normalization:
    """What a caller has to do to a float input: ``(value - mean) / std`` on values 0..255.

    Attributes:
        mean: One number, or one for each channel.
        std: As many, none of them 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be applied."""
        if not self.mean or len(self.mean) != len(self.std) or 0 in self.std:
            raise ModelFileError(f"normalization by mean {self.mean} and std {self.std} is impossible")


@dataclass(frozen=True)
class ModelMetadata:
    """What an image classifier tells about itself.

    Attributes:
        name: The model's name.
        description: What it does and for whom.
        version: Its version.
        author: Who made it.
        license: The licence's name or text.
        labels: Names of the classes in the order of the output; empty if there are none.
        image_size: Height and width of the input in pixels, if stated.
        normalization: What a float input needs; None for uint8 input.
        files: Further files by name, such as a JSON with the rule of resizing.
    """

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    labels: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    normalization: Normalization | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse labels and file names that would not survive being stored."""
        for label in self.labels:
            if len(label.splitlines()) > 1:
                raise ModelFileError(f"label {label!r} given; a label is one line")
        if LABELS_FILE in self.files:
            raise ModelFileError(f"a file {LABELS_FILE} given; the labels are stored under that name")
