"""A TFLite flatbuffer as an editable graph: operator names, producers, consumers, constants.

The flatbuffer schema's object API holds the data; this module adds the questions that a rewrite asks. Only
models with one subgraph are handled, which is what an exported module is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from evit_converters.errors import ModelFileError

FILE_IDENTIFIER = b"TFL3"

NUMPY_TYPES: dict[str, npt.DTypeLike] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
OP_NAMES: dict[int, str] = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
TYPE_NAMES: dict[int, str] = {code: name for name, code in vars(schema.TensorType).items() if name.isupper()}


class Graph:
    """One model, opened for reading and rewriting.

    Attributes:
        model: The schema's ``ModelT``.
    """

    def __init__(self, model_bytes: bytes) -> None:
        """Parse a model.

        Args:
            model_bytes: A .tflite file's content.

        Raises:
            ModelFileError: It is no TFLite model, or has more than one subgraph.
        """
        if model_bytes[4:8] != FILE_IDENTIFIER:
            raise ModelFileError("not a TFLite model: the file identifier TFL3 is missing")
        try:
            self.model: Any = flatbuffer_utils.read_model_from_bytearray(model_bytes)
        except Exception as exc:  # the parser raises whatever the damage happens to cause
            raise ModelFileError(f"a damaged TFLite model: {exc}") from exc
        self.model.signatureDefs = self.model.signatureDefs or []  # ai-edge-quantizer wants a list
        if len(self.model.subgraphs) != 1:
            raise ModelFileError(f"{len(self.model.subgraphs)} subgraphs found; models with one are handled")

    @property
    def operators(self) -> list[Any]:
        """``OperatorT`` objects in execution order; the list may be edited."""
        operators: list[Any] = self.model.subgraphs[0].operators
        return operators

    @property
    def tensors(self) -> list[Any]:
        """``TensorT`` objects; the list may be appended to."""
        tensors: list[Any] = self.model.subgraphs[0].tensors
        return tensors

    @property
    def inputs(self) -> list[int]:
        """Tensor indices of the graph's inputs."""
        return [int(i) for i in self.model.subgraphs[0].inputs]

    @property
    def outputs(self) -> list[int]:
        """Tensor indices of the graph's outputs."""
        return [int(i) for i in self.model.subgraphs[0].outputs]

    def kind(self, operator: Any) -> str:
        """The operator's name in the schema, such as ``CONV_2D``."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def name(self, tensor: int) -> str:
        """A tensor's name."""
        raw = self.tensors[tensor].name
        return raw.decode() if isinstance(raw, bytes) else str(raw)

    def dtype(self, tensor: int) -> str:
        """A tensor's element type in the schema's spelling, such as ``FLOAT32``."""
        return TYPE_NAMES[self.tensors[tensor].type]

    def shape(self, tensor: int) -> tuple[int, ...]:
        """A tensor's shape; () for a scalar."""
        shape = self.tensors[tensor].shape
        return () if shape is None else tuple(int(n) for n in shape)

    def is_constant(self, tensor: int) -> bool:
        """Whether the tensor's values are stored in the file."""
        data = self.model.buffers[self.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def constant(self, tensor: int) -> npt.NDArray[Any]:
        """A stored tensor's values, as a read-only array of its shape."""
        data = self.model.buffers[self.tensors[tensor].buffer].data
        return np.frombuffer(bytes(data), NUMPY_TYPES[self.dtype(tensor)]).reshape(self.shape(tensor))

    def data_inputs(self, operator: Any) -> list[int]:
        """Inputs of an operator that are computed, that is, neither constant nor absent."""
        return [int(i) for i in operator.inputs if i >= 0 and not self.is_constant(int(i))]

    def producers(self) -> dict[int, Any]:
        """The operator that computes each computed tensor."""
        return {int(t): operator for operator in self.operators for t in operator.outputs}

    def consumers(self) -> dict[int, list[Any]]:
        """The operators that read each tensor, in execution order."""
        readers: dict[int, list[Any]] = {}
        for operator in self.operators:
            for tensor in dict.fromkeys(int(t) for t in operator.inputs if t >= 0):
                readers.setdefault(tensor, []).append(operator)
        return readers

    def activations(self) -> Iterator[int]:
        """Every tensor that is computed or fed, once, in execution order."""
        yield from self.inputs
        for operator in self.operators:
            yield from (int(t) for t in operator.outputs)

    def opcode(self, kind: str, version: int = 1) -> int:
        """Index of an operator's code in the model's table, appended if it is not there.

        Args:
            kind: In the schema's spelling.
            version: The first that knows the operand types wanted; an entry of an older one is raised to it.
        """
        builtin = getattr(schema.BuiltinOperator, kind)
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
                code.version = max(code.version, version)
                return index
        code = schema.OperatorCodeT()
        # Old readers look at the one-byte field alone; 127 there means "see the other field".
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def store(self, values: npt.NDArray[Any]) -> int:
        """Add a stored float32 or int32 tensor; gives its index."""
        tensor = schema.TensorT()
        tensor.type = schema.TensorType.INT32 if values.dtype == np.int32 else schema.TensorType.FLOAT32
        tensor.shape, tensor.name = np.array(values.shape, np.int32), f"constant_{len(self.tensors)}".encode()
        tensor.buffer = self.store_buffer(values)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def store_buffer(self, values: npt.NDArray[Any]) -> int:
        """Add a buffer with these values; gives its index."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def set_metadata(self, name: str, content: bytes) -> None:
        """Store a named piece of metadata, in place of one of that name."""
        entries = [entry for entry in self.model.metadata or [] if entry.name.decode() != name]
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(content, np.uint8)
        self.model.buffers.append(buffer)
        entry.name, entry.buffer = name.encode(), len(self.model.buffers) - 1
        self.model.metadata = [*entries, entry]

    def to_bytes(self) -> bytes:
        """Serialize; equal graphs give equal bytes."""
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))
