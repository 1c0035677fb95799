"""What a ``.tflite`` file says about itself, read without an interpreter.

Sources: TensorFlow Lite's ``schema.fbs`` (file identifier TFL3) and ``metadata_schema.fbs`` (M001); associated
files such as ``labels.txt`` are a zip archive appended to the FlatBuffer. Field numbers below are the schemas'.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evit_edge.errors import ArtefactError, EvitEdgeError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.flatbuffer import Table
from evit_edge.tensors import OutputKind

DESCRIPTION_NAME = "evit_edge.json"
"""Archive member in which this project's artefacts carry what TFLite Metadata has no field for:
``{"preprocessing": ..., "aliases": ..., "output_kind": ...}``, each of them optional."""

_TENSOR_AXIS_LABELS = 2  # AssociatedFileType
_NORMALIZATION_OPTIONS = 1  # ProcessUnitOptions
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
        data = path.read_bytes()
        if data[4:8] != b"TFL3":
            raise ArtefactError("it does not carry the identifier TFL3")
        model = Table.root(data, b"TFL3")
        members = _archive(data)
        metadata = _metadata(model)
        described = _description(members)
        return TfliteFile(
            labels=_labels(metadata, members),
            normalization=_normalization(metadata),
            output_kind=described.get("output_kind") or _output_kind(model),
            preprocessing=described.get("preprocessing"),
            aliases=described.get("aliases", {}),
        )
    except OSError as exc:
        raise ArtefactError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except ArtefactError as exc:
        raise ArtefactError(f"{path} is no usable .tflite file: {exc}") from exc


def _archive(data: bytes) -> dict[str, bytes]:
    """Members of the appended zip; none where there is no archive."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as exc:
        raise ArtefactError(f"the archive of labels at its end is damaged ({exc})") from exc


def _metadata(model: Table) -> Table | None:
    buffers = list(model.tables(4))
    for entry in model.tables(6):
        if entry.text(0) == "TFLITE_METADATA":
            number = entry.integer(1, "I")
            if number >= len(buffers):
                raise ArtefactError(f"its metadata names buffer {number} of {len(buffers)}")
            return Table.root(buffers[number].raw(0), b"M001")
    return None


def _tensor_metadata(metadata: Table | None, slot: int) -> Table | None:
    """The first input's (slot 2) or output's (slot 3) metadata."""
    if metadata is None:
        return None
    subgraph = next(metadata.tables(3), None)
    return None if subgraph is None else next(subgraph.tables(slot), None)


def _labels(metadata: Table | None, members: dict[str, bytes]) -> tuple[str, ...] | None:
    output = _tensor_metadata(metadata, 3)
    named = (
        [] if output is None else [f.text(0) for f in output.tables(6) if f.integer(2, "b") == _TENSOR_AXIS_LABELS]
    )
    if named and named[0] not in members:
        raise ArtefactError(f"its metadata names {named[0]}, which is not in the file: its end is missing")
    names = named[:1] or [name for name in members if name.endswith(".txt")]
    if len(names) != 1:
        return None
    return parse_labels(members[names[0]].decode("utf-8", "replace"))


def parse_labels(text: str) -> tuple[str, ...]:
    """One label a line, blank lines skipped; numbers in front are taken off where every line counts from 0."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    split = [line.split(maxsplit=1) for line in lines]
    if lines and all(len(parts) == 2 and parts[0].rstrip(":") == str(i) for i, parts in enumerate(split)):
        return tuple(parts[1] for parts in split)
    return tuple(lines)


def _normalization(metadata: Table | None) -> Normalization | None:
    tensor = _tensor_metadata(metadata, 2)
    if tensor is None:
        return None
    for unit in tensor.tables(4):
        options = unit.table(1)
        if unit.integer(0, "B") == _NORMALIZATION_OPTIONS and options is not None:
            return Normalization(_per_channel(options.numbers(0, "f")), _per_channel(options.numbers(1, "f")))
    return None


def _per_channel(values: tuple[float, ...]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    if len(values) != 3:
        raise ArtefactError(f"its normalisation has {len(values)} values; 1 or 3 are accepted")
    return values[0], values[1], values[2]


def _output_kind(model: Table) -> OutputKind:
    """Follow the output back through what changes only its type or shape."""
    subgraph = next(model.tables(2), None)
    if subgraph is None:
        raise ArtefactError("it holds no graph")
    codes = [max(code.integer(0, "b"), code.integer(3)) for code in model.tables(1)]
    producers = {
        int(output): (codes[operator.integer(0, "I")], operator.numbers(1, "i"))
        for operator in subgraph.tables(3)
        for output in operator.numbers(2, "i")
        if operator.integer(0, "I") < len(codes)
    }
    outputs = subgraph.numbers(2, "i")
    tensor = int(outputs[0]) if outputs else -1
    for _ in range(_MAX_BYPASSED):
        code, inputs = producers.get(tensor, (-1, ()))
        if code in (_SOFTMAX, _LOGISTIC):
            return OutputKind.PROBABILITIES
        if code not in (_QUANTIZE, _DEQUANTIZE, _RESHAPE) or not inputs:
            break
        tensor = int(inputs[0])
    return OutputKind.LOGITS


def _description(members: dict[str, bytes]) -> dict[str, Any]:
    if DESCRIPTION_NAME not in members:
        return {}
    try:
        fields = json.loads(members[DESCRIPTION_NAME])
        parsed: dict[str, Any] = {}
        if fields.get("preprocessing") is not None:
            parsed["preprocessing"] = Preprocessing.from_json(fields["preprocessing"])
        if fields.get("output_kind") is not None:
            parsed["output_kind"] = OutputKind(fields["output_kind"])
        parsed["aliases"] = {str(key): str(value) for key, value in fields.get("aliases", {}).items()}
    except (ValueError, TypeError, AttributeError, EvitEdgeError) as exc:
        raise ArtefactError(f"its {DESCRIPTION_NAME} cannot be read ({exc})") from exc
    return parsed
