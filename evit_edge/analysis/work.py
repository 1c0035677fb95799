"""How much arithmetic and how many bytes an operator of PyTorch stands for, by the shapes of its inputs.

Convolutions and products count two operations a multiply-accumulate; everything else one operation for each
number of its largest input, which is right for an addition and little for an exponential. Bytes are those of
all inputs and of the output, float32, each read or written once: the least traffic without a cache that
remembers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evit_edge.analysis.kinds import Kind

_ITEM_BYTES = 4
_ATTENTION = "_scaled_dot_product"
_BIASED = frozenset({"aten::addmm", "aten::_addmm_activation", "aten::baddbmm", "aten::addbmm", "aten::addmv"})

Shape = Sequence[int]


@dataclass(frozen=True)
class Work:
    """What one call does.

    Attributes:
        flops: Additions and multiplications, each counted.
        bytes_moved: Inputs and output.
    """

    flops: float = 0
    bytes_moved: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes_moved + other.bytes_moved)

    @property
    def intensity(self) -> float:
        """Operations a byte; 0 where nothing moves."""
        return self.flops / self.bytes_moved if self.bytes_moved else 0.0


def work_of(name: str, kind: Kind, shapes: Sequence[Any], concrete: Sequence[Any], *, moves: bool = True) -> Work:
    """Count one call.

    Args:
        name: Of the operator, such as ``aten::conv2d``.
        kind: Of the operator.
        shapes: Of its inputs; ``[]`` for what is no tensor.
        concrete: Its inputs that are no tensors, None for those that are.
        moves: Whether a reshape copies; a view of the same memory moves nothing.
    """
    tensors = [tuple(shape) for shape in shapes if shape and all(isinstance(side, int) for side in shape)]
    if not tensors or (kind is Kind.RESHAPE and not moves):
        return Work()
    read = sum(math.prod(shape) for shape in tensors)
    largest = max(math.prod(shape) for shape in tensors)
    flops, written = largest, largest
    if kind is Kind.MULTIPLICATION:
        flops, written = _multiplied(name, tensors, concrete)
    elif kind in (Kind.RESHAPE, Kind.COPY):
        flops = 0
        read = largest
    return Work(flops, _ITEM_BYTES * (read + written))


def _multiplied(name: str, tensors: Sequence[Shape], concrete: Sequence[Any]) -> tuple[int, int]:
    """Operations, and numbers written."""
    if "conv" in name and len(tensors) > 1:
        return _convolved(name, tensors, concrete)
    if _ATTENTION in name and len(tensors) > 2:
        *batch, queries, width = tensors[0]
        keys, values = tensors[1][-2], tensors[2][-1]
        pairs = math.prod(batch) * queries * keys
        return 2 * pairs * (width + values), math.prod(batch) * queries * values
    first, second = tensors[-2:] if name in _BIASED else (tensors[0], tensors[min(1, len(tensors) - 1)])
    if name == "aten::linear":
        written = math.prod(first[:-1]) * second[0]
    else:
        written = math.prod(first[:-1]) * (second[-1] if len(second) > 1 else 1)
    return 2 * written * first[-1], written


def _convolved(name: str, tensors: Sequence[Shape], concrete: Sequence[Any]) -> tuple[int, int]:
    image, weight = tensors[0], tensors[1]
    sides, kernel = image[2:], weight[2:]
    if "transpose" in name:
        positions = image[0] * math.prod(sides)
        return 2 * positions * math.prod(weight), positions * weight[1] * math.prod(kernel)
    strides = _per_side(concrete, 3, len(sides), 1)
    dilations = _per_side(concrete, 5, len(sides), 1)
    paddings = _per_side(concrete, 4, len(sides), None)
    out = [
        -(-side // stride) if pad is None else (side + 2 * pad - dilation * (size - 1) - 1) // stride + 1
        for side, size, stride, pad, dilation in zip(sides, kernel, strides, paddings, dilations, strict=True)
    ]
    written = image[0] * weight[0] * math.prod(out)
    return 2 * written * math.prod(weight[1:]), written


def _per_side(concrete: Sequence[Any], index: int, sides: int, missing: int | None) -> Sequence[Any]:
    """A convolution's setting for each side; ``padding="same"`` is not told and stays ``missing``."""
    value = concrete[index] if len(concrete) > index else None
    return value if isinstance(value, list | tuple) and len(value) == sides else [missing] * sides
