"""Float models to fp16 weights or to static int8, by way of ai-edge-quantizer.

int8: weights symmetric with a scale for each output channel, activations asymmetric with a scale for each
tensor. Which operators take part is decided in :mod:`evit_converters.tflite.placement`; the ranges of
activations come from outside.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_quantizer import qtyping, quantizer, recipe_manager
from ai_edge_quantizer.algorithm_manager import AlgorithmName

from evit_converters.errors import QuantizationError
from evit_converters.quiet import quiet
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.modes import Quantization
from evit_converters.tflite.placement import WEIGHTED_INT8, float_operators

LARGEST_FLOAT16 = 65504.0


def quantize(
    model_bytes: bytes, mode: Quantization, ranges: Mapping[str, tuple[float, float]] | None = None
) -> bytes:
    """Quantize a float model.

    Args:
        model_bytes: A float model as :func:`~evit_converters.tflite.export` makes it.
        mode: ``NONE`` returns the model as it is.
        ranges: For ``INT8``: minimum and maximum of every float activation, by tensor name.

    Returns:
        A .tflite with the same input and output types. Equal arguments give equal bytes.

    Raises:
        QuantizationError: Ranges are missing, of another model or impossible; weights do not fit float16; or
            ai-edge-quantizer cannot quantize the model.
        ModelFileError: The bytes are no float TFLite model.
    """
    if mode is Quantization.NONE:
        return model_bytes
    graph = Graph(model_bytes)
    if mode is Quantization.FP16:
        return _run_quantizer(model_bytes, _fp16_recipe(graph), None)
    if ranges is None:
        raise QuantizationError("int8 needs the value ranges of the activations; none were given")
    check_ranges(graph, ranges)
    return drop_clamped_relu(_run_quantizer(model_bytes, _int8_recipe(graph), ranges))


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


def _int8_recipe(graph: Graph) -> Any:
    """Everything static int8 but the operators that stay in float and the model's own input and output."""
    manager = recipe_manager.RecipeManager()
    every = qtyping.TFLOperationName.ALL_SUPPORTED
    manager.add_static_config(".*", every, activation_num_bits=8, weight_num_bits=8)
    scopes = [_scope(graph, graph.operators[place]) for place in float_operators(graph)]
    manager.add_quantization_config(f"^({'|'.join(scopes)})$", every, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for boundary in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        manager.add_quantization_config("^.*", boundary, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return manager.get_quantization_recipe()


def _scope(graph: Graph, operator: Any) -> str:
    """What ai-edge-quantizer matches an operator by: its outputs' names, each with a semicolon."""
    return "".join(re.escape(graph.name(int(tensor))) + ";" for tensor in operator.outputs)


def _fp16_recipe(graph: Graph) -> Any:
    """Weights of convolutions and linear layers as float16; arithmetic stays float32."""
    for operator in graph.operators:
        if graph.kind(operator) in WEIGHTED_INT8 and graph.is_constant(int(operator.inputs[1])):
            largest = float(np.abs(graph.constant(int(operator.inputs[1]))).max())
            if largest > LARGEST_FLOAT16:
                raise QuantizationError(
                    f"a weight of {graph.name(int(operator.outputs[0]))!r} is {largest:g}; float16 ends at "
                    f"{LARGEST_FLOAT16:g}: use int8 or no quantization"
                )
    manager = recipe_manager.RecipeManager()
    half = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    for kind in sorted(WEIGHTED_INT8):
        manager.add_quantization_config(
            ".*", qtyping.TFLOperationName(kind), half, algorithm_key=AlgorithmName.FLOAT_CASTING
        )
    return manager.get_quantization_recipe()


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
