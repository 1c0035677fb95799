"""Reading, checking and describing a model's protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evit_converters.checks import first_line
from evit_converters.errors import ModelFileError
from evit_converters.onnx.library import library

PRODUCER = "evit-edge"


def parse(model_bytes: bytes) -> Any:
    """The ModelProto.

    Raises:
        ModelFileError: The bytes are none.
    """
    try:
        return library("onnx").load_from_string(model_bytes)
    except Exception as exc:  # protobuf's errors have no public common base
        raise ModelFileError(f"the bytes are no ONNX model: {first_line(exc)}") from exc


def serialized(model: Any) -> bytes:
    """A ModelProto as bytes, the same for equal models."""
    return bytes(model.SerializeToString(deterministic=True))


def inferred(model_bytes: bytes) -> Any:
    """The ModelProto with types and shapes of all values."""
    return library("onnx.shape_inference").infer_shapes(parse(model_bytes))


def check(model_bytes: bytes) -> None:
    """Let onnx's own checker look at the model, its shapes included.

    Raises:
        ModelFileError: It is no valid ONNX model.
    """
    try:
        library("onnx.checker").check_model(parse(model_bytes), full_check=True)
    except ModelFileError:
        raise
    except Exception as exc:  # ValidationError and the shape inference's errors
        raise ModelFileError(f"onnx.checker refuses the model: {first_line(exc)}") from exc


def anonymous(model: Any) -> bytes:
    """Without the stack traces and paths that the exporter leaves on every node and value."""
    graph = model.graph
    for part in (model, graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.name = PRODUCER
    return serialized(model)


def describe(model_bytes: bytes, *, version: str, description: str, metadata: Mapping[str, str]) -> bytes:
    """Say in the model what made it and what it is.

    Args:
        model_bytes: A model.
        version: Of the producer.
        description: One sentence for whoever opens the file.
        metadata: Keys and values of ``metadata_props``, which ONNX Runtime shows as custom metadata.

    Raises:
        ModelFileError: The bytes are no model.
    """
    model = parse(model_bytes)
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, version, description
    model.ClearField("metadata_props")
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=metadata[key])
    return serialized(model)
