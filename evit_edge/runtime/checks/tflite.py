"""Whether a ``.tflite`` file means something: every number of a tensor, buffer or operator is one that exists.

Sources: TensorFlow Lite's ``schema.fbs``, whose field numbers stand below, and what its interpreter takes for
granted: constants as large as their shapes, one scale or one for each channel, results that are no constants.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path

from evit_converters.tflite.flat import Table
from evit_edge.errors import ArtefactError
from evit_edge.runtime.checks.archive import check_appended_archive
from evit_edge.runtime.checks.flatbuffer import Schema, verify
from evit_edge.runtime.checks.limits import Limits
from evit_edge.runtime.checks.memory import Need, peak_bytes, require_fits
from evit_edge.runtime.checks.tflite_graph import check_calls, check_order

IDENTIFIER = b"TFL3"
_MAX_RANK = 8
_ARCHIVE_LIMIT = 64 * 2**20  # labels and descriptions; ImageNet's take 22 kB

# TensorType: bits of an entry; None where an entry has no fixed size.
_BITS: dict[int, int | None] = {
    **dict.fromkeys((0, 2, 15), 32),  # float32, int32, uint32
    **dict.fromkeys((1, 7, 16, 18), 16),  # float16, int16, uint16, bfloat16
    **dict.fromkeys((3, 6, 9), 8),  # uint8, bool, int8
    **dict.fromkeys((4, 8, 10, 12), 64),  # int64, complex64, float64, uint64
    11: 128,  # complex128
    17: 4,  # int4
    19: 2,  # int2
    **dict.fromkeys((5, 13, 14), None),  # string, resource, variant
}


@cache
def tflite_schema() -> Schema:
    """The format's tables."""
    text = Path(__file__).with_name("tflite_schema.txt").read_text(encoding="utf-8")
    return Schema.parse(text)


def check_tflite(content: bytes, limits: Limits) -> None:
    """Refuse what would make an interpreter leave its memory, or take too much of it.

    Args:
        content: The file.
        limits: For the memory that it declares.

    Raises:
        ArtefactError: What is wrong.
    """
    if content[4:8] != IDENTIFIER:
        raise ArtefactError("it does not start like a TFLite model (identifier TFL3)")
    verify(content, tflite_schema(), "Model")
    check_appended_archive(content, _ARCHIVE_LIMIT)
    _Model(content).check(limits)


class _Model:
    def __init__(self, content: bytes) -> None:
        self._size = len(content)
        root = Table.root(content)
        self._codes = root.tables(1)
        self._graphs = root.tables(2)
        self._buffers = [self._buffer(number, table) for number, table in enumerate(root.tables(4))]
        self._root = root

    def check(self, limits: Limits) -> None:
        if not self._graphs:
            raise ArtefactError("it holds no graph")
        if self._root.length(8) or self._root.length(9):
            raise ArtefactError("its weights are in other files; a file that holds everything is accepted")
        for entry in self._root.tables(6):  # Metadata: name, buffer
            _in_range(entry.u32(1), self._buffers, "its metadata", "buffer")
        for number in self._root.ints(5):
            _in_range(number, self._buffers, "its metadata", "buffer")
        for entry in self._root.tables(7):
            self._signature(entry)
        needs = [self._graph(number, graph) for number, graph in enumerate(self._graphs)]
        check_calls(self._graphs)
        require_fits(self._size + sum(needs), limits)

    def _buffer(self, number: int, table: Table) -> int:
        """Bytes of a buffer, whether it lies inside or behind the FlatBuffer."""
        start, size = table.u64(1), table.u64(2)
        if start <= 1:  # 0 and 1 mean that it does not lie outside
            return table.length(0)
        if start + size > self._size:
            raise ArtefactError(
                f"buffer {number} has {size} bytes from {start} on; the file ends at {self._size}: it is cut off"
            )
        return size

    def _signature(self, entry: Table) -> None:
        """SignatureDef: inputs, outputs, key, -, subgraph; TensorMap: name, tensor."""
        graph = _in_range(entry.u32(4), self._graphs, "a signature", "graph")
        count = self._graphs[graph].length(0)
        for pair in chain(entry.tables(0), entry.tables(1)):
            _in_range(pair.u32(1), range(count), "a signature", "tensor")

    def _graph(self, number: int, graph: Table) -> int:
        """Check a graph; the bytes that its values take at the most at once."""
        where = f"graph {number}: " if len(self._graphs) > 1 else ""
        tensors = graph.tables(0)
        sizes = [self._tensor(f"{where}tensor {i}", tensor, len(tensors)) for i, tensor in enumerate(tensors)]
        constant = [self._is_constant(tensor) for tensor in tensors]
        operators = graph.tables(3)
        for i, operator in enumerate(operators):
            self._operator(f"{where}operator {i}", operator, len(tensors))
        check_order(graph, constant, where)
        values = [0 if fixed else size for size, fixed in zip(sizes, constant, strict=True)]
        steps = [Need(operator.ints(1), operator.ints(2)) for operator in operators]
        return peak_bytes(values, steps, graph.ints(1), graph.ints(2))

    def _is_constant(self, tensor: Table) -> bool:
        return self._buffers[tensor.u32(2)] > 0

    def _tensor(self, where: str, tensor: Table, count: int) -> int:
        """Check a tensor; its bytes."""
        shape, kind = tensor.ints(0), tensor.u8(1)
        where = f"{where} ({tensor.string(3)[:60]!r})"
        stored = self._buffers[_in_range(tensor.u32(2), self._buffers, where, "buffer")]
        if len(shape) > _MAX_RANK or any(n < 0 for n in shape):
            raise ArtefactError(
                f"{where} has shape {shape[: _MAX_RANK + 1]}; up to {_MAX_RANK} sizes, none negative"
            )
        if kind not in _BITS:
            raise ArtefactError(f"{where} is of type {kind}, which is unknown")
        self._quantization(where, tensor, shape, count)
        bits = _BITS[kind]
        if bits is None:
            return stored
        size = 1
        for n in shape:
            size *= n
        size = -(-size * bits // 8)
        if stored and stored != size and tensor.table(6) is None:  # sparse ones store less
            raise ArtefactError(f"{where} of shape {shape} takes {size} bytes and its data has {stored}")
        return size

    def _quantization(self, where: str, tensor: Table, shape: tuple[int, ...], count: int) -> None:
        """QuantizationParameters: min, max, scale, zero_point, kind of details, details, dimension."""
        parameters = tensor.table(4)
        if parameters is None:
            return
        scales, points, axis = parameters.length(2), parameters.length(3), parameters.u32(6)
        if points not in (0, scales):
            raise ArtefactError(f"{where} has {scales} scales and {points} zero points")
        if scales > 1 and (axis >= len(shape) or shape[axis] != scales):
            raise ArtefactError(f"{where} of shape {shape} has {scales} scales along axis {axis}")
        details = parameters.table(5)
        if details is not None and parameters.u8(4) in (2, 3):  # by blocks: scales and zero points are tensors
            for field in (0, 1):
                _in_range(details.u32(field), range(count), where, "tensor", optional=field == 1)

    def _operator(self, where: str, operator: Table, count: int) -> None:
        """Operator: code, inputs, outputs, ..., intermediates (8), offset and size of what lies behind (9, 10)."""
        _in_range(operator.u32(0), self._codes, where, "operator code")
        for number in chain(operator.ints(1), operator.ints(8)):
            _in_range(number, range(count), where, "tensor", optional=True)
        for number in operator.ints(2):
            _in_range(number, range(count), where, "tensor")
        if operator.u64(9) > 1 and operator.u64(9) + operator.u64(10) > self._size:
            raise ArtefactError(f"{where} has options behind the file's end")


def _in_range(
    number: int, among: range | list[Table] | list[int], where: str, what: str, *, optional: bool = False
) -> int:
    """The number, if there is such a thing; -1 means none where that is allowed."""
    if (optional and number in (-1, 2**32 - 1)) or 0 <= number < len(among):
        return number
    raise ArtefactError(f"{where} names {what} {number}; there are {len(among)}")
