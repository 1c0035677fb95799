"""From protobuf messages (``MIL.proto``) to :mod:`evit_edge.runtime.coreml.program`, everything checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml.blobs import BlobFile
from evit_edge.runtime.coreml.elements import BY_NUMBER, Array, Element, decode, packed_size
from evit_edge.runtime.coreml.program import (
    OPSETS,
    Binding,
    Block,
    Function,
    Literal,
    NamedType,
    Operation,
    OtherType,
    TensorType,
    ValueType,
)

BlobOpener = Callable[[str], BlobFile]
"""From the file name that a value states to that file."""

_MAX_ELEMENTS = 2**31
_MAX_DEPTH = 8
_FIELDS = {
    "floats": Element.FLOAT32,
    "doubles": Element.FLOAT64,
    "ints": Element.INT32,
    "longInts": Element.INT64,
    "bools": Element.BOOL,
}


def parse_function(name: str, message: Any, open_blobs: BlobOpener) -> Function:
    """A function of a program.

    Args:
        name: Its name.
        message: A ``MILSpec.Function``.
        open_blobs: How weight files are found.

    Raises:
        ArtefactError: Something is missing, contradicts itself, or is of a kind that no classifier has.
    """
    if message.opset not in OPSETS:
        raise ArtefactError(
            f"function {name!r} needs operation set {message.opset!r}; {', '.join(OPSETS)} are accepted"
        )
    if message.opset not in message.block_specializations:
        raise ArtefactError(f"function {name!r} has no block for its operation set {message.opset}")
    parser = _Parser(open_blobs)
    block = parser.block(message.block_specializations[message.opset], 0)
    return Function(name, message.opset, parser.named_types(message.inputs), block)


class _Parser:
    def __init__(self, open_blobs: BlobOpener) -> None:
        self._open_blobs = open_blobs

    def block(self, message: Any, depth: int) -> Block:
        if depth > _MAX_DEPTH:
            raise ArtefactError(f"blocks are nested more than {_MAX_DEPTH} deep")
        return Block(
            self.named_types(message.inputs),
            tuple(message.outputs),
            tuple(self.operation(entry, depth) for entry in message.operations),
        )

    def operation(self, message: Any, depth: int) -> Operation:
        outputs = self.named_types(message.outputs)
        fallback = outputs[0].name if outputs else message.type
        attributes = {key: self.literal(value, fallback) for key, value in message.attributes.items()}
        name = attributes.pop("name").value if "name" in attributes else fallback
        inputs = {
            key: tuple(self.binding(entry, fallback) for entry in argument.arguments)
            for key, argument in message.inputs.items()
        }
        blocks = tuple(self.block(entry, depth + 1) for entry in message.blocks)
        return Operation(message.type, str(name), inputs, outputs, attributes, blocks)

    def binding(self, message: Any, owner: str) -> Binding:
        match message.WhichOneof("binding"):
            case "name":
                return str(message.name)
            case "value":
                return self.literal(message.value, owner)
        raise ArtefactError(f"an input of {owner!r} is bound to nothing")

    def named_types(self, messages: Any) -> tuple[NamedType, ...]:
        return tuple(NamedType(entry.name, parse_type(entry.type, entry.name)) for entry in messages)

    def literal(self, message: Any, owner: str) -> Literal:
        kind = parse_type(message.type, owner)
        match message.WhichOneof("value"):
            case "blobFileValue":
                return self._blob(message.blobFileValue, kind, owner)
            case "immediateValue":
                return self._immediate(message.immediateValue, kind, owner)
        raise ArtefactError(f"the constant {owner!r} has no value")

    def _blob(self, message: Any, kind: ValueType, owner: str) -> Literal:
        if not isinstance(kind, TensorType):
            raise ArtefactError(f"the weight {owner!r} is a {kind.kind}; a tensor is accepted")
        shape = _fixed(kind, owner)
        file = self._open_blobs(message.fileName)
        return Literal(kind, file.read(message.offset, kind.element, shape, owner))

    def _immediate(self, message: Any, kind: ValueType, owner: str) -> Literal:
        which = message.WhichOneof("value")
        if which == "tensor" and isinstance(kind, TensorType):
            return Literal(kind, _tensor(message.tensor, kind, owner))
        if which in ("list", "tuple"):
            items = tuple(self.literal(entry, owner) for entry in getattr(message, which).values)
            return Literal(kind, items=items)
        if which == "dictionary":
            return Literal(kind)
        raise ArtefactError(f"the constant {owner!r} holds a {which}, which does not fit its type")


def parse_type(message: Any, owner: str) -> ValueType:
    """A ``MILSpec.ValueType``.

    Args:
        message: The protobuf message.
        owner: Name of the value, for messages.

    Raises:
        ArtefactError: It is empty, of an unknown element, or larger than anything that fits here.
    """
    which = message.WhichOneof("type")
    if which is None:
        raise ArtefactError(f"the value {owner!r} has no type")
    if which != "tensorType":
        return OtherType(which)
    tensor = message.tensorType
    if tensor.dataType not in BY_NUMBER:
        raise ArtefactError(f"the value {owner!r} has elements of unknown type {tensor.dataType}")
    shape = tuple(d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions)
    if np.prod([n or 1 for n in shape], dtype=object) > _MAX_ELEMENTS:
        raise ArtefactError(
            f"the value {owner!r} has shape {shape}; at most {_MAX_ELEMENTS} elements are accepted"
        )
    return TensorType(BY_NUMBER[tensor.dataType], shape)


def _fixed(kind: TensorType, owner: str) -> tuple[int, ...]:
    if None in kind.shape:
        raise ArtefactError(f"the constant {owner!r} has type {kind}; a fixed shape is needed")
    return tuple(n for n in kind.shape if n is not None)


def _tensor(message: Any, kind: TensorType, owner: str) -> Array:
    shape = _fixed(kind, owner)
    count = int(np.prod(shape, dtype=object)) if shape else 1
    which = message.WhichOneof("value")
    if which is None and count == 0:
        return np.zeros(shape, kind.element.numpy)
    if which == "bytes":
        raw = message.bytes.values
        if len(raw) != packed_size(kind.element, count):
            raise ArtefactError(f"the constant {owner!r} has {len(raw)} bytes, which {kind} does not take")
        return decode(raw, kind.element, count).reshape(shape)
    values = getattr(message, which).values if which is not None else []
    if (which == "strings") != (kind.element is Element.STRING) or len(values) != count:
        raise ArtefactError(f"the constant {owner!r} holds {len(values)} {which}, which {kind} does not take")
    if which == "strings":
        array = np.empty(count, dtype=object)
        array[:] = list(values)
        return array.reshape(shape)
    return _narrowed(np.array(values, _FIELDS[str(which)].numpy), kind, owner).reshape(shape)


def _narrowed(array: Array, kind: TensorType, owner: str) -> Array:
    """Into the declared type; ``ints`` stand for every narrower integer too."""
    if kind.element.is_float != np.issubdtype(array.dtype, np.floating):
        raise ArtefactError(f"the constant {owner!r} holds {array.dtype}, which {kind} does not take")
    narrow = array.astype(kind.element.numpy)
    if not kind.element.is_float and not np.array_equal(narrow, array):
        raise ArtefactError(f"the constant {owner!r} holds values that {kind.element} cannot")
    return narrow
