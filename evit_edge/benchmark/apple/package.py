"""A ``.mlpackage`` or ``.mlmodel`` as coremltools reads it on any system: its entry in the report, its input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evit_edge.benchmark.artefacts import size_and_hash
from evit_edge.benchmark.report import ModelEntry
from evit_edge.errors import ArtefactError, DeviceError, require

SUFFIXES = (".mlpackage", ".mlmodel")


@dataclass(frozen=True)
class PictureInput:
    """The only input of a classifier.

    Attributes:
        name: As the model names it.
        width: Pixels.
        height: Pixels.
        image: Whether the model takes an image; else an array (1, 3, height, width).
    """

    name: str
    width: int
    height: int
    image: bool

    def picture(self) -> Any:
        """Noise, the same each time: a PIL image, or float32 (1, 3, height, width) in 0..1."""
        pixels = np.random.default_rng(0).integers(0, 256, (self.height, self.width, 3)).astype(np.uint8)
        if self.image:
            return Image.fromarray(pixels)
        return (pixels.transpose(2, 0, 1)[None] / 255).astype(np.float32)  # (1, 3, height, width)


def read_input(spec: Any, path: Path) -> PictureInput:
    """The input of a model's specification.

    Raises:
        ArtefactError: It is not one picture.
    """
    inputs = list(spec.description.input)
    if len(inputs) == 1:
        kind = inputs[0].type.WhichOneof("Type")
        if kind == "imageType":
            image = inputs[0].type.imageType
            return PictureInput(inputs[0].name, int(image.width), int(image.height), True)
        shape = tuple(int(n) for n in inputs[0].type.multiArrayType.shape)
        if kind == "multiArrayType" and len(shape) == 4 and shape[:2] == (1, 3):
            return PictureInput(inputs[0].name, shape[3], shape[2], False)
    raise ArtefactError(f"{path.name} takes {len(inputs)} inputs of other kinds; one RGB picture is accepted")


def with_array_input(spec: Any) -> Any:
    """A copy of an ML Program's specification that takes an array where it took an image.

    coremltools hands arrays alone to an attached phone. In an ML Program only the description says that the input
    is an image: the program itself begins with an array (1, 3, height, width), scaling included.

    Raises:
        DeviceError: It is no ML Program.
    """
    changed = type(spec)()
    changed.CopyFrom(spec)
    if changed.WhichOneof("Type") != "mlProgram":
        raise DeviceError("only ML Programs (.mlpackage) run on an attached phone; this model is of an older kind")
    for entry in changed.description.input:
        if entry.type.WhichOneof("Type") == "imageType":
            height, width = entry.type.imageType.height, entry.type.imageType.width
            array = entry.type.multiArrayType  # setting it takes the image type's place
            array.dataType = array.ArrayDataType.Value("FLOAT32")
            array.shape.extend([1, 3, height, width])
    return changed


def describe_package(path: Path, name: str) -> ModelEntry:
    """The entry of the report.

    Raises:
        ArtefactError: It cannot be read, or takes something else than one picture.
        MissingExtraError: coremltools is not installed.
    """
    if path.suffix not in SUFFIXES or not path.exists():
        raise ArtefactError(f"{path} given; an existing {' or '.join(SUFFIXES)} is needed on Apple's devices")
    loaded = require("coremltools", extra="convert")
    try:
        spec = loaded.utils.load_spec(str(path))
    except Exception as exc:  # protobuf's and coremltools' own errors share no base
        raise ArtefactError(f"{path} is no usable Core ML model: {exc}") from exc
    found = read_input(spec, path)
    size, digest = size_and_hash(path)
    return ModelEntry(
        name=name,
        file=path.name,
        format=path.suffix.lstrip("."),
        sha256=digest,
        size_bytes=size,
        input_shape=(1, found.height, found.width, 3) if found.image else (1, 3, found.height, found.width),
        input_dtype="uint8" if found.image else "float32",
        number_type="float16",  # what Core ML computes ML Programs in unless told otherwise
    )
