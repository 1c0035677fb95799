"""Float models to narrower ones, by way of ai-edge-quantizer.

int8: weights symmetric with a scale for each output channel, activations asymmetric with a scale for each
tensor. Which operators take part is decided in :mod:`evit_converters.tflite.placement`, what the quantizer is told
in :mod:`evit_converters.tflite.recipes`; the ranges of activations come from outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_quantizer import quantizer

from evit_converters.errors import QuantizationError
from evit_converters.quiet import quiet
from evit_converters.tflite.delegation import settled
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.integers import PIXELS, bytes_at_both_ends, pixels_as_float
from evit_converters.tflite.lowering import lower
from evit_converters.tflite.modes import NEED_RANGES, Precision, QuantizableOperator, Quantization
from evit_converters.tflite.pixels import exact_pixels
from evit_converters.tflite.placement import MOVES, WEIGHTED_INT8, float_operators
from evit_converters.tflite.recipes import int8_recipe, recipe

_LEVELS, _LARGEST_WEIGHT = 255, 127
_MOST_STEPS = 128  # of a result for one of the sum that it is made from; XNNPACK's own limit is 256


def quantize(
    model_bytes: bytes,
    mode: Quantization,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    *,
    exempt: Mapping[str, Precision] | None = None,
) -> bytes:
    """Quantize a float model.

    Args:
        model_bytes: A float model as :func:`~evit_converters.tflite.export` makes it.
        mode: ``NONE`` returns the model as it is.
        ranges: For modes with integer activations: minimum and maximum of every float activation, by tensor name.
        exempt: For ``INT8``: operators that shall not be int8, by the name of their first output tensor, and what
            they are computed in instead. What is cheaper to leave in float beside them stays in float too.

    Returns:
        A .tflite with the same input and output types, but for ``INT8_FULL``, whose output is uint8 with a scale.
        Equal arguments give equal bytes.

    Raises:
        QuantizationError: Ranges are missing, of another model or impossible; an exempted operator is not there;
            weights do not fit float16; or ai-edge-quantizer cannot quantize the model.
        ModelFileError: The bytes are no float TFLite model.
    """
    if mode is not Quantization.INT8 and exempt:
        raise QuantizationError(f"exemptions are for int8; with {mode} they have no use")
    if mode is Quantization.NONE:
        return model_bytes
    graph = Graph(model_bytes)
    if mode not in NEED_RANGES:
        return _run_quantizer(graph.to_bytes(), recipe(graph, mode), None)
    if ranges is None:
        raise QuantizationError(f"{mode} needs the value ranges of the activations; none were given")
    check_ranges(graph, ranges)
    match mode:
        case Quantization.INT8:
            return _int8(graph, ranges, exempt or {})
        case Quantization.INT8_FULL:
            return _int8_full(graph, ranges)
        case _:
            return _run_quantizer(graph.to_bytes(), recipe(graph, mode), ranges)


def _int8(graph: Graph, ranges: Mapping[str, tuple[float, float]], exempt: Mapping[str, Precision]) -> bytes:
    """int8 where the delegate takes it; what it refuses is found by asking it."""
    fitting = with_room(graph, lower(graph, ranges))
    content, exempted = graph.to_bytes(), _places(graph, exempt)
    wide = frozenset(place for place, precision in exempted.items() if precision is Precision.INT16)

    def build(barred: frozenset[int]) -> bytes:
        quantized = _run_quantizer(content, int8_recipe(graph, barred, wide), fitting)
        return exact_pixels(drop_clamped_relu(quantized))

    return settled(graph, build, frozenset(exempted))


def _int8_full(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """Integers everywhere, uint8 in and out."""
    pixels = dict.fromkeys(pixels_as_float(graph), PIXELS)
    told = recipe(graph, Quantization.INT8_FULL)
    return bytes_at_both_ends(_run_quantizer(graph.to_bytes(), told, with_room(graph, {**ranges, **pixels})))


def with_room(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Ranges in which no result of a layer with weights is finer than the layer's own steps allow.

    A layer that is dead on all photos has a range of nothing. XNNPACK multiplies sums by less than 256, and ends
    the process where a result wants more.
    """
    given = dict(ranges)
    for operator in graph.operators:
        if graph.kind(operator) not in WEIGHTED_INT8 or not graph.is_constant(int(operator.inputs[1])):
            continue
        (first, last), (low, high) = (given[graph.name(int(t))] for t in (operator.inputs[0], operator.outputs[0]))
        weight = float(np.abs(graph.constant(int(operator.inputs[1]))).max())
        step = (max(last, 0.0) - min(first, 0.0)) / _LEVELS * weight / _LARGEST_WEIGHT
        least = _LEVELS * step / _MOST_STEPS
        given[graph.name(int(operator.outputs[0]))] = (low, max(high, low + least))
    return given


def _places(graph: Graph, exempt: Mapping[str, Precision]) -> dict[int, Precision]:
    """Exemptions by place instead of name."""
    places = {graph.name(int(operator.outputs[0])): place for place, operator in enumerate(graph.operators)}
    if unknown := [name for name in exempt if name not in places]:
        raise QuantizationError(
            f"{unknown[0]!r} is to be exempted, but no operator writes a tensor of that name; names are those of "
            "quantizable_operators()"
        )
    return {places[name]: precision for name, precision in exempt.items()}


def quantizable_operators(model_bytes: bytes) -> list[QuantizableOperator]:
    """The operators that int8 computes in integers, in execution order; what only moves values is left out.

    Args:
        model_bytes: A float model.

    Raises:
        ModelFileError: The bytes are no TFLite model with one subgraph.
    """
    graph = Graph(model_bytes)
    lower(graph, dict.fromkeys(_float_activations(graph), (0.0, 0.0)))
    stay = set(float_operators(graph))
    return [
        QuantizableOperator(graph.name(int(operator.outputs[0])), graph.kind(operator), place)
        for place, operator in enumerate(graph.operators)
        if place not in stay and graph.kind(operator) not in MOVES
    ]


def activation_names(model_bytes: bytes) -> list[str]:
    """Names of the tensors for which int8 wants a range, in execution order."""
    return _float_activations(Graph(model_bytes))


def check_ranges(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Compare ranges with the graph.

    Raises:
        QuantizationError: Names are missing or unknown, or a range is not finite or upside down.
    """
    expected = _float_activations(graph)
    if missing := [name for name in expected if name not in ranges]:
        raise QuantizationError(
            f"ranges are missing for {len(missing)} of {len(expected)} tensors, the first is {missing[0]!r}; "
            "they were collected from another model: calibrate again"
        )
    if unknown := sorted(set(ranges) - set(expected)):
        raise QuantizationError(
            f"ranges are given for {len(unknown)} tensors that the model does not have, the first is "
            f"{unknown[0]!r}; they were collected from another model: calibrate again"
        )
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise QuantizationError(
                f"the range of {name!r} is {low} to {high}; finite, ascending bounds are needed"
            )


def drop_clamped_relu(model_bytes: bytes) -> bytes:
    """Remove each float RELU whose result is only quantized with zero at the lowest code.

    Such a QUANTIZE saturates what is negative at zero: it is the RELU.
    """
    graph = Graph(model_bytes)
    consumers = graph.consumers()
    kept = []
    for operator in graph.operators:
        output = int(operator.outputs[0])
        readers = consumers.get(output, [])
        if graph.kind(operator) != "RELU" or output in graph.outputs or not readers:
            kept.append(operator)
        elif all(_clamps_at_zero(graph, reader) for reader in readers):
            for reader in readers:
                reader.inputs = [int(operator.inputs[0])]
        else:
            kept.append(operator)
    graph.model.subgraphs[0].operators = kept
    return graph.to_bytes()


def _clamps_at_zero(graph: Graph, operator: Any) -> bool:
    output = int(operator.outputs[0])
    if graph.kind(operator) != "QUANTIZE" or graph.dtype(output) != "INT8":
        return False
    return bool(graph.tensors[output].quantization.zeroPoint[0] == np.iinfo(np.int8).min)


def _float_activations(graph: Graph) -> list[str]:
    return [graph.name(tensor) for tensor in graph.activations() if graph.dtype(tensor) == "FLOAT32"]


def _run_quantizer(model_bytes: bytes, recipe: Any, ranges: Mapping[str, tuple[float, float]] | None) -> bytes:
    statistics = {
        name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
        for name, (low, high) in (ranges or {}).items()
    }
    try:
        with quiet():
            # It edits what it is given.
            engine = quantizer.Quantizer(bytearray(model_bytes), recipe)
            result = engine.quantize(statistics or None, enable_progress_bar=False, enable_progress_report=False)
    except Exception as exc:  # it raises ValueError, RuntimeError, KeyError and IndexError alike
        raise QuantizationError(f"ai-edge-quantizer cannot quantize the model: {exc}") from exc
    return bytes(result.quantized_model)
