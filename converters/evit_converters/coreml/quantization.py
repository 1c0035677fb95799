"""Float16 programs to fewer bits."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_converters.coreml.encoding import int8_per_channel
from evit_converters.coreml.library import coremltools, working
from evit_converters.coreml.metadata import describe
from evit_converters.coreml.modes import DeploymentTarget, Quantization, check_target
from evit_converters.coreml.program import Program
from evit_converters.errors import QuantizationError

FLOAT = frozenset({Quantization.NONE, Quantization.FP16})
LARGEST_FLOAT16 = 65504.0
PALETTE_BITS = {Quantization.PALETTE4: 4, Quantization.PALETTE6: 6}


@dataclass(frozen=True)
class QuantizableWeight:
    """A weight that int8 would change.

    Attributes:
        name: Of the constant, by which its layer can be exempted; the saved float package has the same.
        kind: Of the operation that reads it, ``conv`` or ``linear``.
        rounded: Its values after int8, float32, in its own shape.
    """

    name: str
    kind: str
    rounded: npt.NDArray[np.float32]


def quantizable_weights(program: Program) -> list[QuantizableWeight]:
    """The weights that int8 encodes, in the program's order.

    Raises:
        QuantizationError: coremltools cannot read the program.
    """
    with working(QuantizationError, "coremltools cannot read the program"):
        passes, _ = _passes()
        block = passes.loaded(program.model, program.target.specification_version).functions["main"]
        found = []
        for constant in passes.weights(block, passes.WEIGHT_THRESHOLD):
            value = constant.outputs[0]
            codes, scale = int8_per_channel(value.val.astype(np.float16))
            steps = scale.astype(np.float32).reshape(-1, *[1] * (codes.ndim - 1))
            found.append(QuantizableWeight(value.name, value.child_ops[0].op_type, codes * steps))
        return found


def quantize(
    program: Program,
    quantization: Quantization,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    *,
    exempt: Collection[str] = (),
) -> Program:
    """Quantize a program that :func:`~evit_converters.coreml.export` made.

    Weights of convolutions and linear layers are encoded, unless they are small; biases, attention biases and
    other constants never are. An encoded weight has the name of the float weight with ``_quantized`` or
    ``_palettized`` behind it.

    Args:
        program: With the precision that the quantization has; left as it is.
        quantization: ``NONE`` and ``FP16`` return the program as it is.
        ranges: For ``INT8_FULL``: minimum and maximum of each of :func:`activation_names`.
        exempt: Weights that stay float16, by name, as :func:`quantizable_weights` calls them; with ``INT8_FULL``
            the activations of the layers that read them stay float16, too.

    Returns:
        The quantized program. Equal arguments give equal packages.

    Raises:
        TargetError: The program's target cannot run it.
        QuantizationError: The program has another precision or is quantized already; ranges are missing, of
            another program or impossible; an exempted weight is not there; or coremltools refused it.
    """
    _check_source(program, quantization)
    _check_exempt(program, exempt)
    check_target(quantization, program.target)
    if quantization in FLOAT:
        return program
    if quantization is Quantization.INT8_FULL:
        _check_ranges(activation_names(program), ranges)
    with working(QuantizationError, "coremltools cannot quantize the program"):
        model = _quantized(program, quantization, ranges, frozenset(exempt))
    describe(model, program.interface)
    return dataclasses.replace(program, quantization=quantization, model=model)


def activation_names(program: Program) -> tuple[str, ...]:
    """Names of the values whose ranges ``INT8_FULL`` wants, sorted; the saved float16 package has the same.

    Raises:
        QuantizationError: coremltools cannot place the pairs.
    """
    with working(QuantizationError, "coremltools cannot place the activations' codes"):
        passes, activations = _passes()
        noted = activations.QuantizeActivations(None)
        noted(passes.loaded(program.model, DeploymentTarget.IOS17.specification_version))
    return tuple(sorted(noted.table))


def _passes() -> tuple[Any, Any]:
    """Our modules that import coremltools' parts."""
    coremltools()
    names = ("passes", "activations")
    return tuple(importlib.import_module(f"evit_converters.coreml.{name}") for name in names)  # type: ignore[return-value]


def _quantized(
    program: Program,
    quantization: Quantization,
    ranges: Mapping[str, tuple[float, float]] | None,
    exempt: frozenset[str],
) -> Any:
    passes, activations = _passes()
    if quantization in PALETTE_BITS:
        steps = [passes.EncodeWeights(passes.palette_encoder(PALETTE_BITS[quantization]), exempt=exempt)]
    elif quantization is Quantization.INT8:
        steps = [passes.EncodeWeights(passes.int8_encoder, exempt=exempt)]
    else:  # a convolution of int8 activations wants int8 weights, however small
        steps = [
            activations.QuantizeActivations(ranges, exempt),
            passes.EncodeWeights(passes.int8_encoder, threshold=0, exempt=exempt),
        ]
    return passes.transformed(program.model, *steps)


def _check_source(program: Program, quantization: Quantization) -> None:
    if program.quantization not in FLOAT:
        raise QuantizationError(
            f"the program is {program.quantization.value} already; quantize a {quantization.precision.value} one"
        )
    if program.precision is not quantization.precision:
        raise QuantizationError(
            f"{quantization.value} given for a {program.precision.value} program; "
            f"it needs a {quantization.precision.value} one: export it so"
        )


def _check_exempt(program: Program, exempt: Collection[str]) -> None:
    known = {weight.name for weight in quantizable_weights(program)} if exempt else set()
    if unknown := sorted(set(exempt) - known):
        raise QuantizationError(
            f"{unknown[0]!r} is to be exempted, but int8 changes no weight of that name; names are those of "
            "quantizable_weights()"
        )


def _check_ranges(expected: tuple[str, ...], ranges: Mapping[str, tuple[float, float]] | None) -> None:
    if ranges is None:
        raise QuantizationError("int8-full needs the value ranges of the activations; none were given")
    if missing := [name for name in expected if name not in ranges]:
        raise QuantizationError(
            f"ranges are missing for {len(missing)} of {len(expected)} values, the first is {missing[0]!r}; "
            "they were collected from another program: calibrate again"
        )
    if unknown := sorted(set(ranges) - set(expected)):
        raise QuantizationError(
            f"ranges are given for {len(unknown)} values that need none, the first is {unknown[0]!r}; "
            "they were collected from another program: calibrate again"
        )
    for name, (low, high) in ranges.items():
        if not -LARGEST_FLOAT16 <= low <= high <= LARGEST_FLOAT16:
            raise QuantizationError(
                f"the range of {name!r} is {low} to {high}; ascending bounds within float16 (65504) are needed"
            )
