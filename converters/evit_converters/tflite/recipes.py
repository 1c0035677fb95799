"""What ai-edge-quantizer is told: which operators become what, for each mode."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from ai_edge_quantizer import qtyping, recipe_manager
from ai_edge_quantizer.algorithm_manager import AlgorithmName

from evit_converters.errors import QuantizationError
from evit_converters.tflite.graph import Graph
from evit_converters.tflite.modes import Quantization
from evit_converters.tflite.placement import WEIGHTED_INT8, float_operators

LARGEST_FLOAT16 = 65504.0
_EVERY = qtyping.TFLOperationName.ALL_SUPPORTED
_BOUNDARIES = (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT)


def recipe(graph: Graph, mode: Quantization) -> Any:
    """The recipe of a mode that treats all operators alike.

    Args:
        graph: A float graph.
        mode: Any but ``NONE`` and ``INT8``.

    Raises:
        QuantizationError: ``FP16`` and a weight that float16 cannot hold.
    """
    if mode is Quantization.FP16:
        return _fp16(graph)
    if mode in (Quantization.INT8_DYNAMIC, Quantization.INT8_WEIGHTS):
        return _stored(mode)
    if mode is Quantization.INT16_ACT:
        return _static(graph, (), (), activation_bits=16)
    manager = recipe_manager.RecipeManager()
    manager.add_static_config(".*", _EVERY, activation_num_bits=8, weight_num_bits=8)
    return manager.get_quantization_recipe()


def int8_recipe(graph: Graph, barred: Collection[int], wide: Collection[int] = ()) -> Any:
    """The recipe of ``INT8``: operators on the int8 side of the cheapest cut, all others in float.

    Args:
        graph: A float graph.
        barred: Places of operators that shall not be int8.
        wide: Those of them that get 16-bit activations instead of float.
    """
    stay = [place for place in float_operators(graph, barred) if place not in wide]
    return _static(graph, stay, wide, activation_bits=8)


def _static(graph: Graph, stay: Iterable[int], wide: Iterable[int], *, activation_bits: int) -> Any:
    """Integer activations but for the operators that stay in float and the model's own input and output."""
    manager = recipe_manager.RecipeManager()
    manager.add_static_config(".*", _EVERY, activation_num_bits=activation_bits, weight_num_bits=8)
    if scope := _scopes(graph, wide):
        manager.add_static_config(scope, _EVERY, activation_num_bits=16, weight_num_bits=8)
    if scope := _scopes(graph, stay):
        manager.add_quantization_config(scope, _EVERY, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for boundary in _BOUNDARIES:
        manager.add_quantization_config("^.*", boundary, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return manager.get_quantization_recipe()


def _scopes(graph: Graph, places: Iterable[int]) -> str:
    """A pattern of what ai-edge-quantizer matches operators by: their outputs' names, each with a semicolon."""
    scopes = [
        "".join(re.escape(graph.name(int(tensor))) + ";" for tensor in graph.operators[place].outputs)
        for place in places
    ]
    return f"^({'|'.join(scopes)})$" if scopes else ""


def _stored(mode: Quantization) -> Any:
    """int8 weights; activations are quantized at run time, or weights widened at loading.

    XNNPACK has no depthwise convolution that quantizes at run time; its weights are widened in both modes.
    """
    manager = recipe_manager.RecipeManager()
    for kind in sorted(WEIGHTED_INT8):
        if mode is Quantization.INT8_DYNAMIC and kind != "DEPTHWISE_CONV_2D":
            manager.add_dynamic_config(".*", qtyping.TFLOperationName(kind), num_bits=8)
        else:
            manager.add_weight_only_config(".*", qtyping.TFLOperationName(kind), num_bits=8)
    return manager.get_quantization_recipe()


def _fp16(graph: Graph) -> Any:
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
