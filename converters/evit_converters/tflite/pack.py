"""Writing TFLite Metadata into a model."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers

from evit_converters.errors import ModelFileError
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.metadata import (
    BUFFER_NAME,
    IDENTIFIER,
    IMAGE_PROPERTIES,
    LABELS_FILE,
    NORMALIZATION_OPTIONS,
    TENSOR_AXIS_LABELS,
    ModelMetadata,
    Normalization,
)

RGB = 1  # ColorSpaceType
MIN_PARSER_VERSION = "1.0.0"
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time keeps equal models equal files


def pack_metadata(model_bytes: bytes, metadata: ModelMetadata) -> bytes:
    """Put metadata and labels into an image classifier, in place of what it had.

    Args:
        model_bytes: A .tflite with one image input and one output (1, classes).
        metadata: What the model is to tell.

    Returns:
        The .tflite with metadata, computing what it computed. Equal arguments give equal bytes.

    Raises:
        ModelFileError: The bytes are no such model, or the number of labels is not the number of classes.
    """
    graph = Graph(model_bytes)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ModelFileError(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs; one each is needed")
    classes = graph.shape(graph.outputs[0])[-1]
    if metadata.labels and len(metadata.labels) != classes:
        raise ModelFileError(f"{len(metadata.labels)} labels given for a model of {classes} classes")
    if "" in (label.strip() for label in metadata.labels):
        raise ModelFileError("an empty label given; each class needs a name")
    graph.set_metadata(BUFFER_NAME, _metadata_flatbuffer(metadata))
    files = dict(metadata.files)
    if metadata.labels:
        files[LABELS_FILE] = "".join(f"{label}\n" for label in metadata.labels).encode()
    return _with_files(graph.to_bytes(), files)


def _with_files(model_bytes: bytes, files: dict[str, bytes]) -> bytes:
    if not files:
        return model_bytes
    stream = io.BytesIO(model_bytes)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), files[name])
    return stream.getvalue()


class _Writer:
    """Tables of a schema given by field numbers, on the flatbuffers package's builder."""

    def __init__(self) -> None:
        self.builder: Any = flatbuffers.Builder(1024)

    def table(self, fields: dict[int, int | tuple[str, int]]) -> int:
        """A table; a field is an offset, or ("u8" | "u32", value) for an inline number."""
        self.builder.StartObject(max(fields, default=-1) + 1)
        for number, value in fields.items():
            if isinstance(value, int):
                self.builder.PrependUOffsetTRelativeSlot(number, value, 0)
            elif value[0] == "u8":
                self.builder.PrependUint8Slot(number, value[1], 0)
            else:
                self.builder.PrependUint32Slot(number, value[1], 0)
        return int(self.builder.EndObject())

    def string(self, text: str) -> int:
        """A string."""
        return int(self.builder.CreateString(text))

    def tables(self, offsets: Sequence[int]) -> int:
        """A vector of tables."""
        return self._vector(offsets, self.builder.PrependUOffsetTRelative)

    def floats(self, values: Sequence[float]) -> int:
        """A vector of float32."""
        return self._vector(values, self.builder.PrependFloat32)

    def _vector(self, values: Sequence[Any], prepend: Callable[[Any], None]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            prepend(value)
        return int(self.builder.EndVector())

    def finish(self, root: int) -> bytes:
        """The finished buffer."""
        self.builder.Finish(root, file_identifier=IDENTIFIER)
        return bytes(self.builder.Output())


def _metadata_flatbuffer(metadata: ModelMetadata) -> bytes:
    """Fields are numbered as in ``metadata_schema.fbs``."""
    writer = _Writer()
    subgraph = writer.table(
        {2: writer.tables([_image_tensor(writer, metadata)]), 3: writer.tables([_class_tensor(writer, metadata)])}
    )
    root: dict[int, int | tuple[str, int]] = {3: writer.tables([subgraph])}
    texts = {0: metadata.name, 1: metadata.description, 2: metadata.version, 4: metadata.author}
    for number, text in {**texts, 5: metadata.license, 7: MIN_PARSER_VERSION}.items():
        if text:
            root[number] = writer.string(text)
    return writer.finish(writer.table(root))


def _image_tensor(writer: _Writer, metadata: ModelMetadata) -> int:
    properties: dict[int, int | tuple[str, int]] = {0: ("u8", RGB)}
    if metadata.image_size:
        height, width = metadata.image_size
        properties[1] = writer.table({0: ("u32", width), 1: ("u32", height)})
    content = writer.table({1: writer.table(properties), 0: ("u8", IMAGE_PROPERTIES)})
    fields: dict[int, int | tuple[str, int]] = {
        0: writer.string("image"),
        1: writer.string("One RGB image."),
        3: content,
    }
    if metadata.normalization:
        fields[4] = writer.tables([_normalization_unit(writer, metadata.normalization)])
    return writer.table(fields)


def _normalization_unit(writer: _Writer, normalization: Normalization) -> int:
    options = writer.table({0: writer.floats(normalization.mean), 1: writer.floats(normalization.std)})
    return writer.table({1: options, 0: ("u8", NORMALIZATION_OPTIONS)})


def _class_tensor(writer: _Writer, metadata: ModelMetadata) -> int:
    fields: dict[int, int | tuple[str, int]] = {
        0: writer.string("scores"),
        1: writer.string("One score for each class."),
    }
    if metadata.labels:
        file = writer.table(
            {
                0: writer.string(LABELS_FILE),
                1: writer.string("Names of the classes in the order of the output."),
                2: ("u8", TENSOR_AXIS_LABELS),
            }
        )
        fields[6] = writer.tables([file])
    return writer.table(fields)
