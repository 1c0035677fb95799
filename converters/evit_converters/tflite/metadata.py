"""TFLite Metadata: what a model tells about itself, inside the file.

Two parts. A flatbuffer (identifier M001) sits in the model's buffer ``TFLITE_METADATA`` and describes the
model, its input and its output. Files that it names, above all ``labels.txt``, are in a zip archive appended
to the model, stored without compression, which a flatbuffer reader does not see.
Source: https://ai.google.dev/edge/litert/conversion/tensorflow/metadata and its ``metadata_schema.fbs``.

Reading needs the standard library alone.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from evit_converters.errors import ModelFileError
from evit_converters.tflite.flat import Table

BUFFER_NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
LABELS_FILE = "labels.txt"

ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError)
"""What reading a damaged archive raises: a seek before the start, a wrong password, an unknown compression."""

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


def read_metadata(model_bytes: bytes) -> ModelMetadata | None:
    """Read a model's metadata.

    Args:
        model_bytes: A .tflite file's content, from any source.

    Returns:
        What the file tells, or None if it carries no metadata.

    Raises:
        ModelFileError: The metadata is damaged, or the bytes are no TFLite model.
    """
    if model_bytes[4:8] != b"TFL3":
        raise ModelFileError("not a TFLite model: the file identifier TFL3 is missing")
    try:
        content = _metadata_buffer(model_bytes)
        files = _read_files(model_bytes)
        if content is None:
            return None
        return _parse(Table.root(content), files)
    except (struct.error, IndexError, *ARCHIVE_ERRORS) as exc:
        raise ModelFileError(f"the model's metadata is damaged: {exc}") from exc


def _metadata_buffer(model_bytes: bytes) -> bytes | None:
    """The flatbuffer of the metadata inside the model's (fields: tflite schema, ``table Model``)."""
    model = Table.root(model_bytes)
    buffers = model.tables(4)
    for entry in model.tables(6):  # Metadata: name, buffer
        if entry.string(0) == BUFFER_NAME:
            return buffers[entry.u32(1)].octets(0)
    return None


def _read_files(model_bytes: bytes) -> dict[str, bytes]:
    stream = io.BytesIO(model_bytes)
    if not zipfile.is_zipfile(stream):
        return {}
    with zipfile.ZipFile(stream) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _parse(root: Table, files: dict[str, bytes]) -> ModelMetadata:
    """Fields are numbered as in ``metadata_schema.fbs``."""
    subgraphs = root.tables(3)
    inputs = subgraphs[0].tables(2) if subgraphs else []
    outputs = subgraphs[0].tables(3) if subgraphs else []
    labels_file = _labels_file(outputs)
    if labels_file and labels_file not in files:
        raise ModelFileError(f"its metadata names {labels_file}, which is not in the file: its end is missing")
    labels = files.pop(labels_file, b"").decode("utf-8").rstrip().splitlines()
    return ModelMetadata(
        name=root.string(0),
        description=root.string(1),
        version=root.string(2),
        author=root.string(4),
        license=root.string(5),
        labels=tuple(label.strip() for label in labels),
        image_size=_image_size(inputs[0]) if inputs else None,
        normalization=_normalization(inputs[0]) if inputs else None,
        files=files,
    )


def _labels_file(outputs: list[Table]) -> str:
    """The file that names the classes, the one without a locale first; empty if there is none."""
    for localized in (False, True):
        for output in outputs:
            for file in output.tables(6):  # AssociatedFile: name, description, type, locale
                if file.u8(2) == TENSOR_AXIS_LABELS and bool(file.string(3)) is localized:
                    return file.string(0)
    return ""


def _image_size(tensor: Table) -> tuple[int, int] | None:
    content = tensor.table(3)
    if content is None or content.u8(0) != IMAGE_PROPERTIES:
        return None
    properties = content.table(1)
    size = properties.table(1) if properties else None
    return (size.u32(1), size.u32(0)) if size else None  # stored as width, height


def _normalization(tensor: Table) -> Normalization | None:
    for unit in tensor.tables(4):
        options = unit.table(1)
        if unit.u8(0) == NORMALIZATION_OPTIONS and options is not None:
            return Normalization(options.floats(0), options.floats(1))
    return None
