"""What the proof asks of an ML Program: where constants are used, how the image is prepared, where logits are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml.elements import Element
from evit_edge.runtime.coreml.package import Package
from evit_edge.runtime.coreml.program import Literal, NamedType, Operation, TensorType

_PREPARING = ("cast", "identity", "mul", "add", "sub", "real_div")
_UNSCORED = ("cast", "identity", "squeeze", "expand_dims", "reshape")
FLOAT16_MAX = 65504.0


@dataclass(frozen=True)
class Use:
    """A place where a constant goes in."""

    operation: Operation
    parameter: str


@dataclass(frozen=True)
class Prepared:
    """The image after some operations of its preparation.

    Attributes:
        value: Name of the value.
        scale: float64 (3,), what a pixel of 0..255 was multiplied by so far.
        bias: float64 (3,), what was added after that.
    """

    value: str
    scale: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]


class ProgramView:
    """An ML Program seen from its constants and its answers.

    Args:
        package: A package with an image input.

    Raises:
        ArtefactError: It takes no colour image, or nothing in it makes scores.
    """

    def __init__(self, package: Package) -> None:
        if package.image is None or len(package.image.scale) != 3:
            raise ArtefactError(f"{package.path} takes no colour image; an image classifier is accepted")
        self.package = package
        self.image = package.image
        self.operations = package.function.operations

    @cached_property
    def producers(self) -> dict[str, Operation]:
        """Value to the operation that makes it."""
        return {value.name: operation for operation in self.operations for value in operation.outputs}

    @cached_property
    def uses(self) -> Mapping[str, tuple[Use, ...]]:
        """Value to the places where it goes in."""
        found: dict[str, list[Use]] = defaultdict(list)
        for operation in self.operations:
            for parameter, bindings in operation.inputs.items():
                for binding in bindings:
                    if isinstance(binding, str):
                        found[binding].append(Use(operation, parameter))
        return {name: tuple(uses) for name, uses in found.items()}

    @cached_property
    def literals(self) -> dict[str, Literal]:
        """Constants as they are stored, by name."""
        return {
            operation.outputs[0].name: operation.attributes["val"]
            for operation in self.operations
            if operation.type == "const" and "val" in operation.attributes
        }

    @cached_property
    def prepared(self) -> tuple[Prepared, ...]:
        """The image and what becomes of it while it is only scaled and shifted per colour."""
        steps = [Prepared(self.image.name, np.ones(3), np.zeros(3))]
        while True:
            last = steps[-1]
            users = self.uses.get(last.value, ())
            step = self._prepared_by(users[0].operation, last) if len(users) == 1 else None
            if step is None:
                return tuple(steps)
            steps.append(step)

    def _prepared_by(self, operation: Operation, last: Prepared) -> Prepared | None:
        if operation.type not in _PREPARING or len(operation.outputs) != 1:
            return None
        name, first = operation.outputs[0].name, operation.inputs.get("x") == (last.value,)
        if operation.type in ("cast", "identity"):
            return Prepared(name, last.scale, last.bias)
        found = self.colour_constant(operation)
        if found is None or not (first or operation.type in ("mul", "add")):
            return None
        if operation.type in ("mul", "real_div"):
            factor = found[1] if operation.type == "mul" else 1 / found[1]
            return Prepared(name, last.scale * factor, last.bias * factor)
        return Prepared(name, last.scale, last.bias + (found[1] if operation.type == "add" else -found[1]))

    def colour_constant(self, operation: Operation) -> tuple[str, npt.NDArray[np.float64]] | None:
        """The operand that is one number for each colour or one for all: its name (or none) and float64 (3,)."""
        bound = [binding for key in ("x", "y") for binding in operation.inputs.get(key, ())]
        known = [binding for binding in bound if isinstance(binding, Literal) or binding in self.literals]
        if len(bound) != 2 or len(known) != 1:
            return None
        literal = known[0] if isinstance(known[0], Literal) else self.literals[known[0]]
        values = literal.array
        if values is None or not isinstance(literal.type, TensorType) or not literal.type.element.is_float:
            return None
        if values.size != 1 and (values.size != 3 or values.shape[-3:] != (3, 1, 1)):
            return None
        name = known[0] if isinstance(known[0], str) else ""
        return name, np.array(np.broadcast_to(values.astype(np.float64).reshape(-1), 3))

    def as_constant(self, name: str, values: npt.NDArray[np.float64]) -> Tensor:
        """Numbers for each colour in the shape of a constant; one of no axes takes the first."""
        array = self.literals[name].array
        shape = () if array is None else array.shape
        return torch.from_numpy(np.resize(values, shape)) if shape else torch.tensor(values[0])

    @cached_property
    def scores(self) -> str:
        """The value that holds one score per class: a classifier's probabilities, or the only other output."""
        classify = next((op for op in self.operations if op.type == "classify"), None)
        if classify is not None:
            bound = classify.inputs.get("probabilities", ())
            if len(bound) == 1 and isinstance(bound[0], str):
                return bound[0]
        names = [name for name in self.package.function.block.outputs if name in self.producers]
        if len(names) != 1:
            raise ArtefactError(f"{self.package.path} has outputs {names}; one with scores is accepted")
        return names[0]

    @cached_property
    def softmax(self) -> Operation | None:
        """The softmax that makes the scores, if one does."""
        value = self.scores
        while (operation := self.producers.get(value)) is not None:
            if operation.type == "softmax":
                return operation
            bound = operation.inputs.get("x", ())
            if operation.type not in _UNSCORED or len(bound) != 1 or not isinstance(bound[0], str):
                return None
            value = bound[0]
        return None

    @property
    def logits(self) -> str:
        """The value in front of the softmax, or the scores where there is none."""
        bound = self.softmax.inputs["x"][0] if self.softmax is not None else self.scores
        return bound if isinstance(bound, str) else self.scores

    @cached_property
    def is_float16(self) -> bool:
        """Whether most of the computed values are float16."""
        kinds = [
            value.type.element.bits
            for operation in self.operations
            if operation.type != "const" and not operation.type.startswith("constexpr_")
            for value in operation.outputs
            if isinstance(value.type, TensorType) and value.type.element.is_float
        ]
        return kinds.count(16) > len(kinds) // 2


def without_activation_quantization(package: Package) -> Package:
    """The same program with each ``quantize`` and ``dequantize`` of computed values turned into an identity."""
    block = package.function.block
    types = {value.name: value.type for value in (*package.function.inputs, *block.inputs)}  # of computed values
    widened: set[str] = set()  # values that were codes
    operations: list[Operation] = []
    for operation in block.operations:
        kept, bound = operation, operation.inputs.get("input", ())
        source = bound[0] if len(bound) == 1 and isinstance(bound[0], str) else ""
        taken = {name for names in operation.inputs.values() for name in names if isinstance(name, str)}
        if operation.type in ("quantize", "dequantize") and source in types:
            made = (replace(operation.outputs[0], type=types[source]),)
            kept = replace(operation, type="identity", inputs={"x": (source,)}, outputs=made)
        elif taken & widened:  # codes are also moved about: cut, joined, reshaped
            kept = replace(operation, outputs=tuple(map(_widened, operation.outputs)))
        if operation.type == "quantize" or (taken & widened and operation.type != "dequantize"):
            widened |= {value.name for value in kept.outputs}
        if operation.type != "const" and not operation.type.startswith("constexpr_"):
            types |= {value.name: value.type for value in kept.outputs}
        operations.append(kept)
    function = replace(package.function, block=replace(block, operations=tuple(operations)))
    return replace(package, function=function)


def _widened(value: NamedType) -> NamedType:
    """A value that held codes of 8 bits, as float16."""
    if not isinstance(value.type, TensorType) or value.type.element not in (Element.INT8, Element.UINT8):
        return value
    return replace(value, type=replace(value.type, element=Element.FLOAT16))


def title(operation: Operation) -> str:
    """For people: the type and the value that it makes, which is what coremltools' viewers show."""
    return f"{operation.type} {operation.outputs[0].name if operation.outputs else operation.name!r}"
