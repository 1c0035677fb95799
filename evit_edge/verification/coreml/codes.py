"""Quantized activations of a program: which real value a code stands for, followed from operation to operation.

coremltools may scale what an addition takes by one common factor and take it out again in the ``quantize`` after
it, so a ``dequantize`` need not have the scale of the ``quantize`` before it. What has to agree is the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evit_edge.runtime.coreml.encodings import Constant
from evit_edge.runtime.coreml.program import Operation, TensorType
from evit_edge.runtime.coreml.weights import decode_constants
from evit_edge.verification.coreml.program import ProgramView, title

_ROOM = 0.005
"""Relative; each scale is a float16, and three may follow each other."""
_HOMOGENEOUS = frozenset(
    {
        *(
            "add",
            "sub",
            "relu",
            "identity",
            "cast",
            "max_pool",
            "avg_pool",
            "reduce_mean",
            "reduce_sum",
            "reduce_max",
        ),
        *("reshape", "transpose", "split", "slice_by_index", "slice_by_size", "concat", "pad", "squeeze"),
        "expand_dims",
    }
)
"""Operations that give k times the result for k times what they take."""


@dataclass(frozen=True)
class Codes:
    """What a ``quantize`` of a computed value does, in units of that value in the float program.

    Attributes:
        operation: It.
        value: What it takes.
        scale: Of one code; the largest where each channel has its own.
        low: The smallest value that has a code.
        high: The largest.
    """

    operation: Operation
    value: str
    scale: float
    low: float
    high: float


@dataclass
class CodeBook:
    """All codes of a program, and where they contradict each other.

    Attributes:
        codes: Of each ``quantize``, in order.
        read: How many ``dequantize`` there are.
        faults: Operations that read codes as something else than was written, in words.
        gains: How many times its real value a computed value is, where it is not the value itself.
    """

    codes: list[Codes] = field(default_factory=list)
    read: int = 0
    faults: list[str] = field(default_factory=list)
    gains: dict[str, float] = field(default_factory=dict)


def code_book(view: ProgramView) -> CodeBook:
    """Follow the codes through a program."""
    reader = _Reader(view)
    for operation in view.operations:
        if operation.type != "const" and not operation.type.startswith("constexpr_"):
            reader.read(operation)
    return reader.book


class _Reader:
    """Follows the operations in order.

    Each computed value has a gain: how many times its real value it is. A code has a step: the real value of one.
    """

    def __init__(self, view: ProgramView) -> None:
        self.book = CodeBook()
        self._constants: dict[str, Constant] = decode_constants(view.package.function)
        self._steps: dict[str, tuple[float, float]] = {}

    def read(self, operation: Operation) -> None:
        bound = [name for names in operation.inputs.values() for name in names if isinstance(name, str)]
        computed = [name for name in bound if name not in self._constants]
        if operation.type == "quantize" and computed:
            self._quantize(operation, computed[0])
        elif operation.type == "dequantize" and computed:
            self._dequantize(operation, computed[0])
        elif any(name in self._steps for name in computed):
            self._move(operation, computed)
        else:
            self._compute(operation, computed)

    def _number(self, operation: Operation, key: str, default: float) -> float:
        for name in operation.inputs.get(key, ()):
            values = self._constants[name].value if isinstance(name, str) else name.array
            if values is not None:
                return float(np.abs(values.astype(np.float64)).max())
        return default

    def _quantize(self, operation: Operation, value: str) -> None:
        kind = operation.outputs[0].type
        unsigned = isinstance(kind, TensorType) and not kind.element.is_signed
        scale = self._number(operation, "scale", 1.0) / self.book.gains.get(value, 1.0)
        zero = self._number(operation, "zero_point", 0.0)
        least = (0 if unsigned else -128) - zero
        self._steps[operation.outputs[0].name] = scale, zero
        self.book.codes.append(Codes(operation, value, scale, least * scale, (least + 255) * scale))

    def _dequantize(self, operation: Operation, value: str) -> None:
        self.book.read += 1
        step, zero = self._steps.get(value, (1.0, 0.0))
        if value not in self._steps or self._number(operation, "zero_point", 0.0) != zero:
            self.book.faults.append(
                f"{title(operation)} reads {value} with another zero point than it was written with"
            )
        self.book.gains[operation.outputs[0].name] = self._number(operation, "scale", 1.0) / step

    def _move(self, operation: Operation, computed: Sequence[str]) -> None:
        """An operation on codes."""
        steps = [self._steps.get(name, (0.0, 0.0)) for name in computed]
        if any(abs(step - steps[0][0]) > _ROOM * steps[0][0] or zero != steps[0][1] for step, zero in steps):
            self.book.faults.append(f"{title(operation)} joins codes of scales {_shown([s for s, _ in steps])}")
        self._steps |= {value.name: steps[0] for value in operation.outputs}

    def _compute(self, operation: Operation, computed: Sequence[str]) -> None:
        """An operation on real values: all that it takes have one gain, which is 1 unless it passes gains on."""
        gains = [self.book.gains.get(name, 1.0) for name in computed]
        if not gains:
            return
        passes = operation.type in _HOMOGENEOUS and not (operation.type in ("add", "sub") and len(computed) < 2)
        wanted = gains[0] if passes else 1.0
        if any(abs(gain - wanted) > _ROOM * abs(wanted) for gain in gains):
            told = "of different scales" if passes else "that are not what was written"
            self.book.faults.append(f"{title(operation)} takes values {told}: {_shown(gains)} times the real ones")
            wanted = 1.0
        self.book.gains |= {value.name: wanted for value in operation.outputs}


def _shown(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers)
