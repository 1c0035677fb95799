"""What a Core ML file says of its inputs, outputs and labels (``Model.proto``, ``FeatureTypes.proto``)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml.program import Function, Literal, Operation, TensorType


class ColorOrder(StrEnum):
    """Order of an image's channels as the model receives them."""

    RGB = "RGB"
    BGR = "BGR"
    GRAYSCALE = "GRAYSCALE"
    GRAYSCALE_FLOAT16 = "GRAYSCALE_FLOAT16"


class OutputType(StrEnum):
    """What an output is to Core ML."""

    CLASS_LABEL = "class label"
    PROBABILITIES = "probabilities"
    ARRAY = "array"
    IMAGE = "image"
    OTHER = "other"


@dataclass(frozen=True)
class ImageInput:
    """The picture that the model takes.

    Attributes:
        name: Of the input.
        width: In pixels.
        height: In pixels.
        color_order: As the model receives it.
        scale: Per channel, in that order: what a pixel of 0..255 is multiplied by.
        bias: Per channel: what is added after that.
    """

    name: str
    width: int
    height: int
    color_order: ColorOrder
    scale: tuple[float, ...]
    bias: tuple[float, ...]


@dataclass(frozen=True)
class Output:
    """An output of the model.

    Attributes:
        name: Of the output.
        type: What it is to Core ML.
        shape: Of an array, as described; empty else.
    """

    name: str
    type: OutputType
    shape: tuple[int, ...] = ()


def image_input(description: Any, function: Function) -> ImageInput | None:
    """The only input that is an image, or None where there is none.

    Raises:
        ArtefactError: There are several, or the colour order is unknown.
    """
    images = [feature for feature in description.input if feature.type.WhichOneof("Type") == "imageType"]
    if not images:
        return None
    if len(images) > 1:
        raise ArtefactError(f"it takes {len(images)} images; one is accepted")
    feature = images[0]
    kind = feature.type.imageType
    names = {number: name for name, number in kind.ColorSpace.items()}
    try:
        order = ColorOrder(names.get(kind.colorSpace, ""))
    except ValueError as exc:
        raise ArtefactError(
            f"the image {feature.name!r} has colour space {kind.colorSpace}, which is unknown"
        ) from exc
    channels = 3 if order in (ColorOrder.RGB, ColorOrder.BGR) else 1
    scale, bias = _normalization(feature.name, function, channels)
    return ImageInput(feature.name, kind.width, kind.height, order, scale, bias)


def outputs(description: Any) -> tuple[Output, ...]:
    """All outputs, in the file's order."""
    return tuple(_output(feature, description) for feature in description.output)


def _output(feature: Any, description: Any) -> Output:
    name = str(feature.name)
    if name == description.predictedFeatureName:
        return Output(name, OutputType.CLASS_LABEL)
    match feature.type.WhichOneof("Type"):
        case "dictionaryType":
            return Output(name, OutputType.PROBABILITIES)
        case "multiArrayType":
            return Output(name, OutputType.ARRAY, tuple(feature.type.multiArrayType.shape))
        case "imageType":
            return Output(name, OutputType.IMAGE)
    return Output(name, OutputType.OTHER)


def classifier(function: Function) -> Operation | None:
    """The operation ``classify``, where the program has one."""
    return next((operation for operation in function.operations if operation.type == "classify"), None)


def class_labels(function: Function) -> tuple[str, ...] | None:
    """Names of the classes as ``classify`` has them, in the order of its scores; numbers are written out."""
    operation = classifier(function)
    if operation is None:
        return None
    bindings = operation.inputs.get("classes", ())
    for binding in bindings:
        literal = binding if isinstance(binding, Literal) else _constants(function).get(binding)
        if literal is None:
            continue
        values = literal.value
        return tuple(str(value) for value in (values.tolist() if isinstance(values, np.ndarray) else values))
    raise ArtefactError(f"{operation.title} names no classes")


def _normalization(name: str, function: Function, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and bias that the program applies to the image first, as coremltools writes ``ImageType``."""
    scale, bias = np.ones(channels), np.zeros(channels)
    constants = _constants(function)
    value = name
    while True:
        users = [op for op in function.operations if any((value,) == bound for bound in op.inputs.values())]
        if len(users) != 1 or len(users[0].outputs) != 1:
            break
        step = _step(users[0], value, constants, channels)
        if step is None:
            break
        scale, bias = scale * step[0], bias * step[0] + step[1]
        value = users[0].outputs[0].name
    return tuple(scale.tolist()), tuple(bias.tolist())


def _step(operation: Operation, value: str, constants: dict[str, Literal], channels: int) -> Any:
    """Factor and summand of an operation on the image, or None where it is neither."""
    if operation.type in ("cast", "identity"):
        return np.ones(channels), np.zeros(channels)
    others = [bound for key, bound in operation.inputs.items() if bound != (value,) and key in ("x", "y")]
    if operation.type not in ("mul", "add", "sub") or len(others) != 1 or len(others[0]) != 1:
        return None
    bound = others[0][0]
    literal = bound if isinstance(bound, Literal) else constants.get(bound)
    if literal is None or literal.array is None or not _per_channel(literal, channels):
        return None
    other = literal.array.astype(np.float64).reshape(-1)
    if operation.type == "mul":
        return np.broadcast_to(other, channels), np.zeros(channels)
    if operation.type == "sub" and operation.inputs.get("x") != (value,):
        return None
    return np.ones(channels), np.broadcast_to(other if operation.type == "add" else -other, channels)


def _per_channel(literal: Literal, channels: int) -> bool:
    if not isinstance(literal.type, TensorType) or not literal.type.element.is_float:
        return False
    shape = tuple(literal.type.shape)
    return shape == () or set(shape) == {1} or shape in ((1, channels, 1, 1), (channels, 1, 1))


def _constants(function: Function) -> dict[str, Literal]:
    return {
        operation.outputs[0].name: operation.attributes["val"]
        for operation in function.operations
        if operation.type == "const" and "val" in operation.attributes and operation.outputs
    }
