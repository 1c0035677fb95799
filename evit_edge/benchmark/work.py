"""What one inference has to do: multiply-accumulates and bytes, counted from the graph."""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from evit_converters.tflite.flat import Table
from evit_edge.errors import ArtefactError
from evit_edge.runtime.info import Runner

# BuiltinOperator and TensorType of TensorFlow Lite's schema.fbs.
_CONV, _DEPTHWISE, _FULLY_CONNECTED, _TRANSPOSE_CONV, _BATCH_MATMUL = 3, 4, 9, 67, 126
_TYPE_NAMES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 9: "int8"}
_BITS = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 9: 8, 10: 64, 15: 32, 16: 4, 17: 4, 18: 16}
_MULTIPLIED_AS = {"uint8": "int8"}


@dataclass(frozen=True)
class Work:
    """One inference.

    Attributes:
        macs: Multiply-accumulates of convolutions, linear layers and matrix products.
        parameters: Values of the constant tensors that those operators read.
        constant_bytes: Of all constant tensors: the weights that come from memory each time.
        number_type: What most multiply-accumulates are done in: ``float32``, ``float16`` or ``int8``.
    """

    macs: int
    parameters: int
    constant_bytes: int
    number_type: str


def count_work(path: str, runner: Runner) -> Work | None:
    """Count a model's work; None for a format that is not counted.

    Raises:
        ArtefactError: The file is damaged.
    """
    if Path(path).suffix == ".tflite":
        return tflite_work(Path(path).read_bytes())
    if runner.info.runtime == "torch":
        from evit_edge.models.complexity import count
        from evit_edge.runtime.torch_checkpoint import TorchRunner

        if isinstance(runner, TorchRunner):
            counted = count(runner.config)
            return Work(counted.macs, counted.parameters, 4 * counted.parameters, "float32")
    return None


def tflite_work(content: bytes) -> Work:
    """Count the first graph of a ``.tflite``.

    Raises:
        ArtefactError: The file is damaged.
    """
    try:
        return _Graph(Table.root(content)).work()
    except (struct.error, IndexError) as exc:
        raise ArtefactError(f"no sound .tflite: {exc}") from exc


class _Graph:
    """The first subgraph: tensors as table, shape and type."""

    def __init__(self, model: Table) -> None:
        graph = model.tables(2)[0]
        buffers = model.tables(4)
        # The code was a byte at first and got a field of its own later; of the two the larger counts.
        self._codes = [max(code.u8(0), code.u32(3)) for code in model.tables(1)]
        tensors = graph.tables(0)
        self._shapes = [tensor.ints(0) for tensor in tensors]
        self._types = [tensor.u8(1) for tensor in tensors]
        self._constant = [_holds_data(buffers, tensor.u32(2)) for tensor in tensors]
        self._operators = graph.tables(3)

    def work(self) -> Work:
        by_type: Counter[str] = Counter()
        weights: set[int] = set()
        for operator in self._operators:
            macs, kernel = self._macs(operator)
            if macs:
                inputs = operator.ints(1)
                name = _TYPE_NAMES.get(self._types[inputs[0]], "other")
                by_type[_MULTIPLIED_AS.get(name, name)] += macs
                weights |= {i for i in (kernel, *inputs[2:3]) if i >= 0 and self._is_weight(i)}
        constants = [i for i, constant in enumerate(self._constant) if constant]
        return Work(
            macs=sum(by_type.values()),
            parameters=sum(math.prod(self._shapes[i]) for i in weights),
            constant_bytes=sum(math.prod(self._shapes[i]) * _BITS.get(self._types[i], 8) // 8 for i in constants),
            number_type=by_type.most_common(1)[0][0] if by_type else "float32",
        )

    def _is_weight(self, tensor: int) -> bool:
        """Constant, or made from a constant by a DEQUANTIZE, as half-precision files do."""
        if self._constant[tensor]:
            return True
        makers = (operator for operator in self._operators if tensor in operator.ints(2))
        return any(all(self._constant[i] for i in maker.ints(1)) for maker in makers)

    def _macs(self, operator: Table) -> tuple[int, int]:
        """Multiply-accumulates, and the tensor that is multiplied with."""
        code, inputs, outputs = self._codes[operator.u32(0)], operator.ints(1), operator.ints(2)
        if code not in (_CONV, _DEPTHWISE, _FULLY_CONNECTED, _TRANSPOSE_CONV, _BATCH_MATMUL):
            return 0, -1
        made = math.prod(self._shapes[outputs[0]])
        kernel = self._shapes[inputs[1]]
        if code == _CONV:  # (out, height, width, in)
            return made * math.prod(kernel[1:]), inputs[1]
        if code == _DEPTHWISE:  # (1, height, width, out)
            return made * kernel[1] * kernel[2], inputs[1]
        if code == _FULLY_CONNECTED:  # (out, in)
            return made * kernel[-1], inputs[1]
        if code == _TRANSPOSE_CONV:  # inputs: output shape, kernel, picture
            return math.prod(self._shapes[inputs[2]]) * math.prod(kernel[:3]), inputs[1]
        return made * self._inner(operator), inputs[1]

    def _inner(self, operator: Table) -> int:
        """Length of the axis that a BATCH_MATMUL sums over: its first operand's last; with adj_x, last but one."""
        options = operator.table(4)
        transposed = options is not None and options.u8(0) == 1
        shape = self._shapes[operator.ints(1)[0]]
        return shape[-2] if transposed else shape[-1]


def _holds_data(buffers: list[Table], index: int) -> bool:
    """Whether a buffer has content, inside the flatbuffer or, in files beyond 2 GB, behind it."""
    return index > 0 and (len(buffers[index].octets(0)) > 0 or buffers[index].u32(1) > 1)
