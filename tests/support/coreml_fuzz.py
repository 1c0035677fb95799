"""A fuzz of single Core ML operations: hundreds of cases in one program, converted, saved, read, evaluated.

A case draws inputs and attributes, says how coremltools' builder writes the operation, and what the result must
be by numpy, Python loops or torch's own layer: never by the evaluator's code.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evit_converters.quiet import quiet
from evit_edge.runtime.coreml import Evaluator, Package, Precision, read_package

OPSETS = ("iOS15", "iOS16", "iOS17", "iOS18")
_TOLERANCES = {Precision.FLOAT64: (1e-9, 1e-9), Precision.FLOAT32: (2e-5, 2e-5), Precision.DECLARED: (6e-4, 3e-5)}


@dataclass(frozen=True)
class Case:
    """One operation with concrete numbers.

    Attributes:
        inputs: float64 (on a grid that float16 holds exactly), int32 or bool; other integers are cast in
            ``build``.
        build: Given coremltools' builder and one variable per input, writes the operation; its variables.
        expected: One array per variable.
        repeats: The second picture of a batch has the same numbers, since shapes depend on them.
    """

    inputs: tuple[np.ndarray, ...]
    build: Callable[..., Any]
    expected: tuple[Any, ...]
    repeats: bool = False


@dataclass(frozen=True)
class Draw:
    """Random numbers for one case.

    Attributes:
        rng: Seeded by the case's own name.
        opset: ``iOS15`` to ``iOS18``.
        dtype: numpy's float16 or float32: what constants have to be.
    """

    rng: np.random.Generator
    opset: str
    dtype: type

    @property
    def version(self) -> int:
        return int(self.opset.removeprefix("iOS"))

    def shape(self, rank: int | None = None, low: int = 1, high: int = 5) -> tuple[int, ...]:
        rank = self.int(1, 5) if rank is None else rank
        return tuple(self.rng.integers(low, high + 1, rank).tolist())

    def int(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(self.rng.integers(low, high + 1))

    def bool(self) -> bool:
        return bool(self.rng.integers(2))

    def of(self, *choices: Any) -> Any:
        return choices[self.int(0, len(choices) - 1)]

    def axis(self, rank: int) -> int:
        return self.int(-rank, rank - 1)

    def floats(self, shape: Sequence[int], low: float = -4, high: float = 4) -> np.ndarray:
        """Multiples of 1/64, so that float16, float32 and float64 hold the same."""
        return self.rng.integers(round(low * 64), round(high * 64) + 1, tuple(shape)) / 64

    def number(self, low: float = -4, high: float = 4) -> float:
        return float(self.floats((), low, high))

    def ints(self, shape: Sequence[int], low: int, high: int) -> np.ndarray:
        """int32, both ends included."""
        return self.rng.integers(low, high + 1, tuple(shape)).astype(np.int32)

    def const(self, value: Any) -> Any:
        """A real constant in the case's own type."""
        return np.asarray(value).astype(self.dtype)[()]


Maker = Callable[[Draw], Case | None]
"""Draws a case, or None where the operation set lacks the operation."""

MAKERS: dict[str, list[Maker]] = {}


def case(*ops: str) -> Callable[[Maker], Maker]:
    """Register a maker of cases for operations; it is drawn from for each of them."""

    def register(maker: Maker) -> Maker:
        for op in ops:
            MAKERS.setdefault(op, []).append(maker)
        return maker

    return register


@dataclass(frozen=True)
class Drawn:
    """A case and where it comes from."""

    title: str
    op: str
    case: Case


@dataclass(frozen=True)
class Report:
    """What a run of cases found."""

    cases: int
    operations: frozenset[str]
    failures: list[str] = field(default_factory=list)


def draw_cases(opset: str, dtype: type, variants: int, seed: int) -> list[Drawn]:
    """All makers, ``variants`` times; the same for the same arguments."""
    drawn = []
    for op, makers in MAKERS.items():
        for m, maker in enumerate(makers):
            for variant in range(variants):
                title = f"{op}/{m}/{variant} {opset} {np.dtype(dtype).name}"
                rng = np.random.default_rng([seed, zlib.crc32(title.encode())])
                made = maker(Draw(rng, opset, dtype))
                if made is not None:
                    drawn.append(Drawn(title, op, made))
    return drawn


def write_program(drawn: list[Drawn], opset: str, dtype: type, path: Path) -> Package:
    """All cases as one program, saved and read again; case 7 has inputs ``i_7_0``... and outputs ``o_7_0``..."""
    with quiet():
        return _write(drawn, opset, dtype, path)


def _write(drawn: list[Drawn], opset: str, dtype: type, path: Path) -> Package:
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813  coremltools' own idiom
    from coremltools.converters.mil.mil import Function, Program, types

    kinds = {"f": types.fp32, "i": types.int32, "b": types.fp32}
    places = {
        f"i_{i}_{j}": mb.placeholder(value.shape, dtype=kinds[value.dtype.kind], allow_rank0_input=True)
        for i, one in enumerate(drawn)
        for j, value in enumerate(one.case.inputs)
    }
    with Function(places, opset_version=ct.target[opset]) as function:
        outputs = []
        for i, one in enumerate(drawn):
            variables = []
            for j, value in enumerate(one.case.inputs):
                variable = function.inputs[f"i_{i}_{j}"]
                if value.dtype.kind == "b":
                    variable = mb.cast(x=variable, dtype="bool")
                elif value.dtype.kind == "f" and dtype is np.float16:
                    variable = mb.cast(x=variable, dtype="fp16")
                variables.append(variable)
            made = one.case.build(mb, *variables)
            for j, variable in enumerate(made if isinstance(made, tuple | list) else (made,)):
                outputs.append(_plain_output(mb, types, variable, f"o_{i}_{j}"))
        function.set_outputs(outputs)
    program = Program()
    program.add_function("main", function)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        pass_pipeline=ct.PassPipeline.EMPTY,
        minimum_deployment_target=ct.target[opset],
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(path))
    return read_package(path)


def _plain_output(mb: Any, types: Any, variable: Any, name: str) -> Any:
    """Outputs of a program are float32 or int32."""
    if variable.dtype in (types.fp16, types.bool):
        return mb.cast(x=variable, dtype="fp32", name=name)
    if variable.dtype not in (types.fp32, types.int32):
        return mb.cast(x=variable, dtype="int32", name=name)
    return mb.identity(x=variable, name=name)


def check_program(drawn: list[Drawn], package: Package, precision: Precision) -> Report:
    """Evaluate all cases, one picture and a batch of two, and compare."""
    evaluator = Evaluator(package, precision)
    inputs = {
        f"i_{i}_{j}": torch.from_numpy(np.array(value, dtype=np.float64 if value.dtype == bool else value.dtype))
        for i, one in enumerate(drawn)
        for j, value in enumerate(one.case.inputs)
    }
    second = _second_picture(drawn, inputs)
    both = {name: torch.stack([inputs[name], second[name]]) for name in inputs}
    single, other = evaluator.run_tensors(inputs), evaluator.run_tensors(second)
    batch = evaluator.run_tensors(both, batched=True)
    failures = []
    for i, one in enumerate(drawn):
        for j, expected in enumerate(one.case.expected):
            name = f"o_{i}_{j}"
            problem = differs(single[name], expected, precision)
            if problem is None:
                pair = np.stack([single[name].numpy(), other[name].numpy()])
                problem = _prefixed("batched: ", differs(batch[name], pair, precision))
            if problem is not None:
                failures.append(f"{one.title} output {j}: {problem}")
    operations = frozenset(operation.type for operation in package.function.operations)
    return Report(len(drawn), operations, failures)


def _second_picture(drawn: list[Drawn], inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same numbers in another order."""
    second = dict(inputs)
    for i, one in enumerate(drawn):
        for j in range(0 if one.case.repeats else len(one.case.inputs)):
            value = inputs[f"i_{i}_{j}"]
            second[f"i_{i}_{j}"] = value.flatten().flip(0).reshape(value.shape)
    return second


def _prefixed(prefix: str, problem: str | None) -> str | None:
    return None if problem is None else prefix + problem


def differs(got: torch.Tensor, expected: Any, precision: Precision) -> str | None:
    """What is wrong, or None. Integers and truth values must be equal; reals as the precision allows."""
    values, wanted = got.numpy().astype(np.float64), np.asarray(expected)
    if values.shape != wanted.shape:
        return f"shape {values.shape} instead of {wanted.shape}"
    exact = wanted.dtype.kind in "biu"
    relative, absolute = (0.0, 0.0) if exact else _TOLERANCES[precision]
    wanted = wanted.astype(np.float64)
    close = np.isclose(values, wanted, rtol=relative, atol=absolute, equal_nan=True)
    if close.all():
        return None
    where = tuple(int(n) for n in np.argwhere(~close)[0])
    return (
        f"{values[where]!r} instead of {wanted[where]!r} at {where}, {np.count_nonzero(~close)} of {values.size}"
    )
