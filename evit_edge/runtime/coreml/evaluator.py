"""Evaluating ML Programs on torch, operation by operation.

The program is written for one picture. Several are evaluated at once by one more leading axis, which each
operation gets in the way that suits it (:class:`Batching`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from evit_edge.errors import ArtefactError, RequestError
from evit_edge.runtime.coreml.batches import Value, apply
from evit_edge.runtime.coreml.elements import Element
from evit_edge.runtime.coreml.interface import ColorOrder, ImageInput, OutputType, classifier
from evit_edge.runtime.coreml.ops import OPERATIONS, Argument
from evit_edge.runtime.coreml.package import Package
from evit_edge.runtime.coreml.precision import Arithmetic, Precision
from evit_edge.runtime.coreml.program import Binding, NamedType, Operation, TensorType
from evit_edge.runtime.coreml.weights import decode_constants, is_constant
from evit_edge.tensors import UInt8Images

__all__ = ["Evaluator", "Observer", "Precision"]

Observer = Callable[[str, Tensor], None]
"""Gets each operation's outputs: name of the value, and (B, *declared shape)."""


class Evaluator:
    """A program ready to run.

    Args:
        package: As read.
        precision: In what to compute.
        weights: Constants to use in place of the file's, by name; of the same shape.

    Raises:
        ArtefactError: The program has an operation or a parameter that is not supported; the message names it.
        RequestError: A weight to be replaced does not exist or has another shape.
    """

    def __init__(
        self,
        package: Package,
        precision: Precision = Precision.DECLARED,
        *,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._package = package
        self._function = package.function
        self._arithmetic = Arithmetic(precision)
        self._constants = self._load(dict(weights or {}))
        self._steps: list[Operation] = []
        for operation in self._function.operations:
            if not is_constant(operation) and not (operation.type in OPERATIONS and self._fold(operation)):
                self._check(operation)
                self._steps.append(operation)
        self._last_use = self._last_uses()

    @torch.no_grad()
    def run(self, images: UInt8Images, observe: Observer | None = None) -> Tensor:
        """Scores of pictures.

        Args:
            images: RGB uint8 (B, H, W, 3), of the size that the model takes.
            observe: Sees each operation's outputs.

        Returns:
            (B, classes), float64 for that precision and float32 else: what the model calls probabilities, in the
            order of its labels, or else its only array.

        Raises:
            RequestError: The pictures have another shape or type.
            ArtefactError: The model takes no colour picture, or an operation fails.
        """
        image = self._image()
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (image.height, image.width, 3):
            raise RequestError(
                f"images of {images.dtype} {images.shape} given; "
                f"uint8 (B, {image.height}, {image.width}, 3) is accepted"
            )
        if len(images) == 0:
            return torch.empty((0, self.num_classes), dtype=self._arithmetic.dtype)
        pixels = torch.from_numpy(images.copy()).permute(0, 3, 1, 2)  # (B, 3, H, W)
        if image.color_order is ColorOrder.BGR:
            pixels = pixels.flip(1)
        batch = pixels.to(self._arithmetic.dtype).unsqueeze(1)  # (B, 1, 3, H, W)
        single = len(images) == 1
        start = {image.name: Value(batch[0] if single else batch, batched=not single)}
        values = self._evaluate(start, {self._scores_name()}, observe, axis=True)
        scores = self._output(values[self._scores_name()], len(images), axis=not single)
        return scores.reshape(len(images), -1)

    @torch.no_grad()
    def run_tensors(
        self, inputs: Mapping[str, Tensor], observe: Observer | None = None, *, batched: bool = False
    ) -> dict[str, Tensor]:
        """Evaluate a program on tensors.

        Args:
            inputs: Every input by name, of the declared shape.
            observe: Sees each operation's outputs.
            batched: All inputs and outputs have one more leading axis.

        Returns:
            Every output by name; of a classifier, the class is its number and the probabilities are one tensor.

        Raises:
            RequestError: An input is missing, unknown or of another shape.
            ArtefactError: An operation fails.
        """
        declared = {value.name: value for value in self._function.inputs}
        if set(inputs) != set(declared):
            raise RequestError(f"inputs {sorted(inputs)} given; {sorted(declared)} are needed")
        start = {}
        for name, tensor in inputs.items():
            kind = self._tensor_type(declared[name])
            if not _fits(tuple(tensor.shape[1 if batched else 0 :]), kind.shape):
                raise RequestError(f"input {name!r} of shape {tuple(tensor.shape)} given; {kind} is accepted")
            start[name] = Value(self._arithmetic.stored(tensor, kind.element), batched=batched)
        wanted = set(self._function.block.outputs)
        values = self._evaluate(start, wanted, observe, axis=batched)
        count = len(next(iter(inputs.values()))) if batched and inputs else 1
        return {name: self._output(values[name], count, axis=batched) for name in self._function.block.outputs}

    @property
    def num_classes(self) -> int:
        """Scores per picture.

        Raises:
            ArtefactError: The program has several outputs and no labels, or no fixed number of them.
        """
        name = self._scores_name()
        operations = [value for op in self._function.operations for value in op.outputs]
        declared = next(value for value in (*self._function.inputs, *operations) if value.name == name)
        shape = self._tensor_type(declared).shape
        if None in shape:
            raise ArtefactError(f"{self._package.path}: its output {name!r} has no fixed shape {shape}")
        return int(np.prod([n or 1 for n in shape]))

    def _output(self, value: Value, count: int, *, axis: bool) -> Tensor:
        """A value with one entry per picture if an axis for them is wanted."""
        data = self._tensor(value.data)
        return data.expand(count, *data.shape) if axis and not value.batched else data

    def _scores_name(self) -> str:
        """Value that holds the scores: what ``classify`` takes, or the only output."""
        operation = classifier(self._function)
        if operation is not None:
            bound = operation.inputs["probabilities"][0]
            if isinstance(bound, str):
                return bound
        arrays = [output.name for output in self._package.outputs if output.type is OutputType.ARRAY]
        if len(arrays) != 1:
            raise ArtefactError(
                f"{self._package.path} has {len(arrays)} arrays as outputs; exactly one is accepted"
            )
        return arrays[0]

    def _image(self) -> ImageInput:
        image = self._package.image
        if image is None or image.color_order not in (ColorOrder.RGB, ColorOrder.BGR):
            taken = "no image" if image is None else f"a {image.color_order} image"
            raise ArtefactError(f"{self._package.path} takes {taken}; an RGB or BGR image is accepted")
        return image

    # Loading

    def _load(self, replaced: dict[str, Tensor]) -> dict[str, Value]:
        values = {}
        for name, constant in decode_constants(self._function).items():
            given = replaced.pop(name, None)
            if given is None:
                data = self._arithmetic.constant(constant.value, constant.element)
            elif tuple(given.shape) == constant.value.shape:
                data = self._arithmetic.stored(given, constant.element)
            else:
                raise RequestError(
                    f"weight {name!r} of shape {tuple(given.shape)} given; {constant.value.shape} is needed"
                )
            values[name] = Value(data, batched=False)
        if replaced:
            raise RequestError(
                f"weights {sorted(replaced)} given; {self._package.path.name} has no such constants"
            )
        return values

    def _check(self, operation: Operation) -> None:
        implementation = OPERATIONS.get(operation.type)
        if implementation is None:
            raise ArtefactError(
                f"{self._package.path}: the operation {operation.title} is not among the {len(OPERATIONS)} "
                "that the evaluator knows"
            )
        unknown = sorted(set(operation.inputs) - implementation.parameters)
        if unknown or operation.blocks:
            what = f"the parameter {unknown[0]!r}" if unknown else "nested blocks"
            raise ArtefactError(
                f"{self._package.path}: the operation {operation.title} has {what}, which is not supported"
            )

    def _fold(self, operation: Operation) -> bool:
        """Evaluate an operation on constants once and for all."""
        names = [b for bindings in operation.inputs.values() for b in bindings if isinstance(b, str)]
        if operation.type == "classify" or not all(name in self._constants for name in names):
            return False
        self._check(operation)
        with torch.no_grad():
            self._constants |= self._step(operation, {})
        return True

    def _last_uses(self) -> dict[int, list[str]]:
        """Values that nobody needs after a step, by its number."""
        last: dict[str, int] = {}
        for number, operation in enumerate(self._steps):
            for value in operation.outputs:
                last[value.name] = number
            for binding in (b for bindings in operation.inputs.values() for b in bindings):
                if isinstance(binding, str):
                    last[binding] = number
        dead: dict[int, list[str]] = {}
        for name, number in last.items():
            dead.setdefault(number, []).append(name)
        return dead

    # Running

    def _evaluate(
        self, start: dict[str, Value], wanted: set[str], observe: Observer | None, *, axis: bool
    ) -> dict[str, Value]:
        values = dict(start)
        for number, operation in enumerate(self._steps):
            made = self._step(operation, values)
            values |= made
            if observe is not None:
                for name, value in made.items():
                    data = self._tensor(value.data)
                    observe(name, data if value.batched or not axis else data.unsqueeze(0))
            for name in self._last_use.get(number, ()):
                if name not in wanted:
                    values.pop(name, None)
        return {name: values.get(name) or self._constants[name] for name in wanted}

    def _step(self, operation: Operation, values: Mapping[str, Value]) -> dict[str, Value]:
        arguments = {
            key: tuple(self._bound(binding, values) for binding in bindings)
            for key, bindings in operation.inputs.items()
        }
        implementation = OPERATIONS[operation.type]
        try:
            results = apply(implementation, operation, arguments)
            made = {
                output.name: self._checked(value, output, implementation.moves)
                for output, value in zip(operation.outputs, results, strict=True)
            }
        except ArtefactError as exc:
            raise ArtefactError(f"{self._package.path}: {exc}") from exc
        except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as exc:
            reason = str(exc).splitlines()[0] if str(exc) else repr(exc)
            raise ArtefactError(f"{self._package.path}: the operation {operation.title} fails: {reason}") from exc
        return made

    def _bound(self, binding: Binding, values: Mapping[str, Value]) -> Value:
        if isinstance(binding, str):
            return values[binding] if binding in values else self._constants[binding]
        return Value(self._arithmetic.literal(binding), batched=False)

    def _checked(self, value: Value, output: NamedType, moves: bool) -> Value:
        """In the type that is declared, and of the shape that is declared."""
        if not isinstance(output.type, TensorType) or output.type.element is Element.STRING:
            return value
        data = self._tensor(value.data)
        shape = tuple(data.shape[1 if value.batched else 0 :])
        if not _fits(shape, output.type.shape):
            raise ArtefactError(f"its result {output.name!r} has shape {shape}; the file declares {output.type}")
        return Value(self._arithmetic.stored(data, output.type.element, exact=moves), value.batched)

    def _tensor(self, argument: Argument) -> Tensor:
        if not isinstance(argument, Tensor):
            raise ArtefactError(f"{self._package.path}: a text was found where numbers are needed")
        return argument

    def _tensor_type(self, value: NamedType) -> TensorType:
        if not isinstance(value.type, TensorType):
            raise ArtefactError(
                f"{self._package.path}: {value.name!r} is a {value.type.kind}; a tensor is accepted"
            )
        return value.type


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(d in (None, n) for n, d in zip(shape, declared, strict=True))
