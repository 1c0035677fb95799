"""A model made of one operator, in milliseconds: the mean of each channel, as uint8."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from evit_edge.files import sha256_of
from evit_edge.golden import Golden, write_golden
from evit_edge.manifest import (
    ArtefactEntry,
    Manifest,
    Quantization,
    SourceEntry,
    golden_path,
    manifest_path,
    write_manifest,
)
from evit_edge.runtime import open_runner

COLOURS = ("red", "green", "blue")
SIDE = 32
SCALE = 1 / 25.5  # a full channel is a logit of 10


def mean_model(side: int = SIDE) -> bytes:
    """The .tflite: uint8 (1, side, side, 3) to uint8 (1, 3), both with ``SCALE``."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    tensors = [
        _tensor(schema, "image", (1, side, side, 3), schema.TensorType.UINT8, 0, SCALE),
        _tensor(schema, "axes", (2,), schema.TensorType.INT32, 1),
        _tensor(schema, "scores", (1, 3), schema.TensorType.UINT8, 0, SCALE),
    ]
    axes = schema.BufferT()
    axes.data = np.frombuffer(np.array([1, 2], np.int32).tobytes(), np.uint8)
    code, mean, options = schema.OperatorCodeT(), schema.OperatorT(), schema.ReducerOptionsT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MEAN
    code.version = 2
    mean.inputs, mean.outputs, options.keepDims = [0, 1], [2], False
    mean.builtinOptionsType, mean.builtinOptions = schema.BuiltinOptions.ReducerOptions, options
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [2], [mean]
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    model.buffers = [schema.BufferT(), axes]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(schema, name, shape, kind, buffer, scale=None):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
    if scale is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
    return tensor


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The model with labels; nothing lies beside it."""
    return _with_labels(tmp_path / "colours.tflite", mean_model())


@pytest.fixture
def slow_model(tmp_path: Path) -> Path:
    """The same on larger pictures: about a millisecond a run, as real ones need."""
    return _with_labels(tmp_path / "large.tflite", mean_model(512))


def _with_labels(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "\n".join(COLOURS))
    return path


@pytest.fixture
def with_golden(model: Path) -> Callable[..., Path]:
    """Function: lay golden vectors and a manifest beside the model; ``order`` of the channels in the answers."""

    def lay(order: tuple[int, ...] = (0, 1, 2)) -> Path:
        images = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
        images = (images * np.linspace(0.1, 1, 12).reshape(4, 1, 1, 3)).astype(np.uint8)
        logits = (images.mean(axis=(1, 2)) * SCALE).astype(np.float32)[:, list(order)]
        write_golden(golden_path(model), Golden(images, logits))
        write_manifest(manifest_path(model), _describe(model))
        return model

    return lay


def _describe(model: Path) -> Manifest:
    info = open_runner(model).info
    digest = sha256_of(model)
    return Manifest(
        tool_version="0",
        command="by hand",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=SourceEntry("colours", "mean", 3, SIDE, "none", digest),
        artefact=ArtefactEntry(
            file=model.name,
            format="tflite",
            sha256=digest,
            size_bytes=model.stat().st_size,
            input=info.input,
            output=info.output,
            output_kind=info.output_kind,
            labels=3,
            partitions=None,
        ),
        quantization=Quantization.INT8,
        calibration=None,
        preprocessing=info.preprocessing,
        versions={"numpy": np.__version__},
    )


@pytest.fixture
def green_photo(tmp_path: Path) -> Path:
    """A green picture, PNG, larger than the screen gets."""
    from PIL import Image

    path = tmp_path / "meadow.png"
    Image.new("RGB", (1600, 1200), (20, 200, 60)).save(path)
    return path
