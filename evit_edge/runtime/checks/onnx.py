"""Whether an ``.onnx`` file means something: tensors as large as they say, other files only beside it.

Source: ``onnx.proto``; of weights in other files, its field ``external_data`` (location, offset, length).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from evit_edge.errors import ArtefactError, require
from evit_edge.runtime.checks.limits import Limits, shown
from evit_edge.runtime.checks.memory import Need, peak_bytes, require_fits

_MAX_TENSORS = 200_000
_STRING, _EXTERNAL = 8, 1

# TensorProto.DataType: bits of an entry.
_BITS = {
    **dict.fromkeys((1, 6, 12), 32),  # float32, int32, uint32
    **dict.fromkeys((2, 3, 9), 8),  # uint8, int8, bool
    **dict.fromkeys((17, 18, 19, 20, 24), 8),  # float8
    **dict.fromkeys((4, 5, 10, 16), 16),  # uint16, int16, float16, bfloat16
    **dict.fromkeys((7, 11, 13, 14), 64),  # int64, float64, uint64, complex64
    15: 128,  # complex128
    **dict.fromkeys((21, 22, 23), 4),  # uint4, int4, float4
    **dict.fromkeys((25, 26), 2),  # uint2, int2
}


def check_onnx(content: bytes, folder: Path, limits: Limits) -> None:
    """Refuse what would make an engine read other files than those beside the model, or take too much memory.

    Args:
        content: The file.
        folder: Where it lies; its weights may be in other files there.
        limits: For the memory that it declares.

    Raises:
        ArtefactError: What is wrong.
        MissingExtraError: onnx is not installed.
    """
    model = _parsed(content)
    stored = 0
    graphs = list(_graphs(model))
    for number, tensor in enumerate(t for graph in graphs for t in _tensors(graph)):
        if number >= _MAX_TENSORS:
            raise ArtefactError(f"it holds more than {_MAX_TENSORS:,} tensors")
        stored += _tensor(tensor, folder)
    require_fits(stored + sum(_values(graph) for graph in graphs), limits)


def _parsed(content: bytes) -> Any:
    messages = require("onnx.onnx_ml_pb2", extra="onnx")
    errors = require("google.protobuf.message", extra="onnx")
    model = messages.ModelProto()
    try:
        model.ParseFromString(content)
    except errors.DecodeError as exc:
        raise ArtefactError(f"it is no ONNX model, or damaged ({exc})") from exc
    if not model.HasField("graph"):
        raise ArtefactError("it holds no graph")
    return model


def _graphs(model: Any) -> Iterator[Any]:
    """Everything that has nodes: the graph, those inside its nodes, functions, and what training would use."""
    todo = [model.graph, *model.functions]
    todo += [graph for entry in model.training_info for graph in (entry.initialization, entry.algorithm)]
    while todo:
        graph = todo.pop()
        yield graph
        for attribute in _attributes(graph):
            todo += attribute.graphs
            if attribute.HasField("g"):
                todo.append(attribute.g)


def _attributes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield from node.attribute
    yield from getattr(graph, "attribute_proto", ())  # a function's defaults


def _tensors(graph: Any) -> Iterator[Any]:
    yield from getattr(graph, "initializer", ())
    sparse = list(getattr(graph, "sparse_initializer", ()))
    for attribute in _attributes(graph):
        yield from attribute.tensors
        sparse += attribute.sparse_tensors
        if attribute.HasField("t"):
            yield attribute.t
        if attribute.HasField("sparse_tensor"):
            sparse.append(attribute.sparse_tensor)
    for entry in sparse:
        yield entry.values
        yield entry.indices


def _tensor(tensor: Any, folder: Path) -> int:
    """Check a tensor; its bytes."""
    where = f"the tensor {tensor.name[:60]!r}"
    if any(n < 0 for n in tensor.dims):
        raise ArtefactError(f"{where} has shape {tuple(tensor.dims)}; none of its sizes may be negative")
    if tensor.data_type == _STRING:
        if tensor.data_location == _EXTERNAL:
            raise ArtefactError(f"{where} holds texts in another file")
        return sum(map(len, tensor.string_data))
    if tensor.data_type not in _BITS:
        raise ArtefactError(f"{where} is of type {tensor.data_type}, which is unknown")
    size: int = -(-math.prod(tensor.dims) * _BITS[tensor.data_type] // 8)
    if tensor.data_location == _EXTERNAL:
        _check_external(tensor, size, folder, where)
    elif tensor.HasField("raw_data") and len(tensor.raw_data) != size:
        shape, stored = tuple(tensor.dims), len(tensor.raw_data)
        raise ArtefactError(f"{where} of shape {shape} takes {shown(size)} and its data has {stored} bytes")
    return size


def _check_external(tensor: Any, size: int, folder: Path, where: str) -> None:
    # Texts that are no UTF-8 come as bytes.
    stated = {entry.key: entry.value for entry in tensor.external_data if isinstance(entry.value, str)}
    location = stated.get("location", "")
    try:
        offset, length = int(stated.get("offset") or 0), int(stated.get("length") or size)
    except ValueError as exc:
        raise ArtefactError(f"{where} lies in another file at a place that is no number") from exc
    file = _beside(location, folder, where)
    if offset < 0 or length != size:
        raise ArtefactError(f"{where} takes {size} bytes; {location!r} is to hold {length} of it from {offset} on")
    if offset + length > file.stat().st_size:
        raise ArtefactError(
            f"{where} takes {shown(size)} of {location!r} from {offset} on, which ends at {file.stat().st_size}"
        )


def _beside(location: str, folder: Path, where: str) -> Path:
    """The file that a location names, which has to lie in the model's folder."""
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    rooted = PurePosixPath(location).is_absolute() or bool(PureWindowsPath(location).anchor)
    if not location or rooted or ".." in parts or "\0" in location:
        raise ArtefactError(
            f"{where} is said to lie in {location!r}; a file in the model's own folder is accepted"
        )
    try:
        file = (folder / location).resolve()
        found = file.is_file()
    except (OSError, RuntimeError) as exc:  # a loop of links
        raise ArtefactError(f"{where} is said to lie in {location!r}, which cannot be read") from exc
    if not file.is_relative_to(folder.resolve()):
        raise ArtefactError(f"{where} is said to lie in {location!r}, a link out of the model's folder")
    if not found:
        raise ArtefactError(f"{where} is said to lie in {location!r}, which is not there")
    return file


def _values(graph: Any) -> int:
    """Bytes that a graph's values take at the most at once, as far as their shapes are stated."""
    if not hasattr(graph, "value_info") or not hasattr(graph, "initializer"):
        return 0  # a function
    numbers: dict[str, int] = {}
    sizes: list[int] = []
    for value in (*graph.input, *graph.output, *graph.value_info):
        numbers.setdefault(value.name, len(sizes))
        sizes.append(_value_bytes(value))
    for tensor in graph.initializer:  # counted as stored
        if tensor.name in numbers:
            sizes[numbers[tensor.name]] = 0

    def known(names: Any) -> tuple[int, ...]:
        return tuple(numbers[name] for name in names if name in numbers)

    steps = [Need(known(node.input), known(node.output)) for node in graph.node]
    inputs, outputs = (known(value.name for value in values) for values in (graph.input, graph.output))
    return peak_bytes(sizes, steps, inputs, outputs)


def _value_bytes(value: Any) -> int:
    """Of a tensor with a stated shape; an open size counts as 1."""
    if not value.type.HasField("tensor_type"):
        return 0
    kind = value.type.tensor_type
    count = math.prod(max(1, dim.dim_value) for dim in kind.shape.dim)
    size: int = -(-count * _BITS.get(kind.elem_type, 8) // 8)
    return size
