"""What a ``.tflite`` file says about itself, read without an interpreter.

Sources: TensorFlow Lite's ``schema.fbs``, whose field numbers stand below, and TFLite Metadata; associated files
such as ``labels.txt`` are a zip archive appended to the FlatBuffer.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from evit_converters.errors import ModelFileError
from evit_converters.tflite.flat import Table
from evit_converters.tflite.metadata import ARCHIVE_ERRORS, ModelMetadata, read_metadata
from evit_edge.errors import ArtefactError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.description import parse_description
from evit_edge.tensors import OutputKind

DESCRIPTION_NAME = "evit_edge.json"
"""Archive member in which this project's artefacts carry what TFLite Metadata has no field for
(:mod:`evit_edge.runtime.description`)."""

_QUANTIZE, _DEQUANTIZE, _RESHAPE = 114, 6, 22  # BuiltinOperator
_SOFTMAX, _LOGISTIC = 25, 14
_MAX_BYPASSED = 8


@dataclass(frozen=True)
class Normalization:
    """``(pixel - mean) / std`` per channel, on pixels in 0..255.

    Attributes:
        mean: Per channel (R, G, B).
        std: Per channel (R, G, B), not 0.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse a division by 0."""
        if 0 in self.std:
            raise ArtefactError(f"normalisation by std {self.std}; no channel may be divided by 0")


@dataclass(frozen=True)
class TfliteFile:
    """A file's own description.

    Attributes:
        labels: Names of the classes, from TFLite Metadata or the only text file of the archive.
        normalization: What a float input expects, from TFLite Metadata.
        output_kind: Probabilities where the graph ends in a softmax or sigmoid, else logits.
        preprocessing: The resize and crop rule, where this project wrote it.
        aliases: Folder names that mean a label, where this project wrote them.
    """

    labels: tuple[str, ...] | None
    normalization: Normalization | None
    output_kind: OutputKind
    preprocessing: Preprocessing | None = None
    aliases: dict[str, str] = field(default_factory=dict)


def read_tflite_file(path: Path) -> TfliteFile:
    """Read labels, normalisation, output kind and rule.

    Raises:
        ArtefactError: There is no such file, or it is not a sound ``.tflite``.
    """
    if not path.is_file():
        raise ArtefactError(f"no artefact at {path}; give a .tflite file or a .safetensors or .pth checkpoint")
    try:
        return _described(path.read_bytes())
    except OSError as exc:
        raise ArtefactError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except (ArtefactError, ModelFileError) as exc:
        raise ArtefactError(f"{path} is no usable .tflite file: {exc}") from exc
    except (struct.error, IndexError, *ARCHIVE_ERRORS) as exc:
        raise ArtefactError(f"{path} is truncated or damaged: {exc}") from exc


def _described(content: bytes) -> TfliteFile:
    metadata = read_metadata(content)
    described = parse_description(_archive_member(content, DESCRIPTION_NAME), DESCRIPTION_NAME)
    return TfliteFile(
        labels=(() if metadata is None else metadata.labels) or _lone_labels(content),
        normalization=None if metadata is None else _normalization(metadata),
        output_kind=described.output_kind or _output_kind(Table.root(content)),
        preprocessing=described.preprocessing,
        aliases=described.aliases,
    )


def _archive(content: bytes) -> zipfile.ZipFile | None:
    """The zip appended to the FlatBuffer, if there is one."""
    stream = io.BytesIO(content)
    return zipfile.ZipFile(stream) if zipfile.is_zipfile(stream) else None


def _archive_member(content: bytes, name: str) -> bytes | None:
    archive = _archive(content)
    return archive.read(name) if archive is not None and name in archive.namelist() else None


def _lone_labels(content: bytes) -> tuple[str, ...] | None:
    """Labels of a file without metadata: those in the only text file of its archive."""
    archive = _archive(content)
    names = [] if archive is None else [name for name in archive.namelist() if name.endswith(".txt")]
    if archive is None or len(names) != 1:
        return None
    return parse_labels(archive.read(names[0]).decode("utf-8", "replace"))


def parse_labels(text: str) -> tuple[str, ...]:
    """One label a line, blank lines skipped; numbers in front are taken off where every line counts from 0."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    split = [line.split(maxsplit=1) for line in lines]
    if lines and all(len(parts) == 2 and parts[0].rstrip(":") == str(i) for i, parts in enumerate(split)):
        return tuple(parts[1] for parts in split)
    return tuple(lines)


def _normalization(metadata: ModelMetadata) -> Normalization | None:
    stated = metadata.normalization
    return None if stated is None else Normalization(_per_channel(stated.mean), _per_channel(stated.std))


def _per_channel(values: tuple[float, ...]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    if len(values) != 3:
        raise ArtefactError(f"its normalisation has {len(values)} values; 1 or 3 are accepted")
    return values[0], values[1], values[2]


def _output_kind(model: Table) -> OutputKind:
    """Follow the output back through what changes only its type or shape."""
    subgraphs = model.tables(2)
    if not subgraphs:
        raise ArtefactError("it holds no graph")
    # The code was a byte at first and got a field of its own later; of the two the larger counts.
    codes = [max(code.u8(0), code.u32(3)) for code in model.tables(1)]
    producers = {
        output: (codes[operator.u32(0)], operator.ints(1))
        for operator in subgraphs[0].tables(3)
        for output in operator.ints(2)
    }
    outputs = subgraphs[0].ints(2)
    tensor = outputs[0] if outputs else -1
    for _ in range(_MAX_BYPASSED):
        code, inputs = producers.get(tensor, (-1, ()))
        if code in (_SOFTMAX, _LOGISTIC):
            return OutputKind.PROBABILITIES
        if code not in (_QUANTIZE, _DEQUANTIZE, _RESHAPE) or not inputs:
            break
        tensor = inputs[0]
    return OutputKind.LOGITS
