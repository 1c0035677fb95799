"""Float models to fp16 weights or to static int8 as QDQ, by way of ONNX Runtime's quantizer.

int8: weights int8, symmetric, with a scale for each output channel; activations uint8, asymmetric, with a scale
for each value. QuantizeLinear and DequantizeLinear stand around each operator that takes part (QDQ), so the file
says what it computes, and the runtime joins them to integer kernels. The ranges of activations come from outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from evit_converters.checks import first_line
from evit_converters.errors import QuantizationError
from evit_converters.onnx.graph import inferred, parse, serialized
from evit_converters.onnx.library import library
from evit_converters.onnx.modes import Quantization
from evit_converters.quiet import quiet

LARGEST_FLOAT16 = 65504.0
WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
# Measured with ONNX Runtime 1.31 on EfficientViT: with the operators between the convolutions in int8 too, M0 runs
# as fast and M5 8 % faster than with the convolutions alone.
ARITHMETIC = frozenset({"Add", "Mul"})
MOVES = frozenset({"Concat", "MaxPool", "Pad", "Relu", "Reshape", "Slice", "Split", "Transpose"})
_FLOAT = 1  # TensorProto.FLOAT


def quantize(
    model_bytes: bytes, mode: Quantization, ranges: Mapping[str, tuple[float, float]] | None = None
) -> bytes:
    """Quantize a float model.

    Args:
        model_bytes: A float model as :func:`~evit_converters.onnx.export` makes it.
        mode: ``NONE`` returns the model as it is.
        ranges: For ``INT8``: minimum and maximum of every float activation, by name.

    Returns:
        A model with the same input and output. Equal arguments give equal bytes.

    Raises:
        QuantizationError: Ranges are missing, of another model or impossible; weights do not fit float16; or
            ONNX Runtime cannot quantize the model.
        ModelFileError: The bytes are no ONNX model.
    """
    if mode is Quantization.NONE:
        return model_bytes
    if mode is Quantization.FP16:
        return _half_weights(model_bytes)
    if ranges is None:
        raise QuantizationError("int8 needs the value ranges of the activations; none were given")
    model = inferred(model_bytes)
    _check_ranges(list(float_values(model)), ranges)
    return _quantized(parse(model_bytes), float_nodes(model), ranges)


def activation_names(model_bytes: bytes) -> list[str]:
    """Names of the values for which int8 wants a range, in execution order."""
    return list(float_values(inferred(model_bytes)))


def float_values(model: Any) -> Iterable[str]:
    """Names of the float32 values that a model with known types computes, in execution order."""
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        for name in node.output:
            if name in known and known[name].type.tensor_type.elem_type == _FLOAT:
                yield name


def float_nodes(model: Any) -> list[str]:
    """Names of the nodes that stay in float.

    Products of two computed values (attention), softmax and other functions, where an int8 result loses most and
    gains nothing; and arithmetic with a stored operand, such as a mean to subtract, which would lose digits.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if not _becomes_int8(node, stored)]


def _becomes_int8(node: Any, stored: set[str]) -> bool:
    if node.op_type in WEIGHTED:
        return node.input[1] in stored
    if node.op_type in ARITHMETIC:
        return not any(name in stored for name in node.input)
    return node.op_type in MOVES


def _check_ranges(expected: list[str], ranges: Mapping[str, tuple[float, float]]) -> None:
    missing, unknown = [name for name in expected if name not in ranges], sorted(set(ranges) - set(expected))
    for names, what in ((missing, "missing for"), (unknown, "given for unknown")):
        if names:
            raise QuantizationError(
                f"ranges are {what} {len(names)} values, the first is {names[0]!r}; they were collected from "
                "another model: calibrate again"
            )
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise QuantizationError(
                f"the range of {name!r} is {low} to {high}; finite, ascending bounds are needed"
            )


def _quantized(model: Any, excluded: list[str], ranges: Mapping[str, tuple[float, float]]) -> bytes:
    kinds = library("onnxruntime.quantization")
    calibrate = library("onnxruntime.quantization.calibrate")
    engine = library("onnxruntime.quantization.qdq_quantizer")
    spans = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    try:
        with quiet():
            quantizer = engine.QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=False,
                weight_qType=kinds.QuantType.QInt8,
                activation_qType=kinds.QuantType.QUInt8,
                tensors_range=calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, spans),
                nodes_to_quantize=[],
                nodes_to_exclude=excluded,
                op_types_to_quantize=sorted(WEIGHTED | ARITHMETIC | MOVES),
                extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},  # the logits: softmax takes floats
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
    except Exception as exc:  # it raises ValueError, KeyError and RuntimeError alike
        raise QuantizationError(f"ONNX Runtime cannot quantize the model: {first_line(exc)}") from exc
    return serialized(quantizer.model.model)


def _half_weights(model_bytes: bytes) -> bytes:
    """Weights of convolutions and linear layers stored as float16; a Cast before each brings them back.

    ONNX Runtime computes the casts once, while it loads: the file is half as large, the arithmetic float32.
    """
    onnx, model = library("onnx"), parse(model_bytes)
    weights = {node.input[1] for node in model.graph.node if node.op_type in WEIGHTED}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name not in weights or tensor.data_type != _FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.size and float(np.abs(values).max()) > LARGEST_FLOAT16:
            raise QuantizationError(
                f"a weight of {tensor.name!r} is {np.abs(values).max():g}; float16 ends at {LARGEST_FLOAT16:g}: "
                "use int8 or no quantization"
            )
        name, half = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], name=f"{name}_cast", to=_FLOAT))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *rest])
    return serialized(model)
