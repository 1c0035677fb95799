"""A quantized graph in numpy, operator by operator, by the arithmetic that TFLite's specification prescribes.

Integers go in and come out; what lies between is float64, in which every sum of these sizes is exact.
Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.lib.stride_tricks import sliding_window_view

from evit_converters.tflite.graph import NUMPY_TYPES, Graph


def simulate(graph: Graph, operator: Any, values: dict[int, np.ndarray]) -> np.ndarray:
    """The result of one operator.

    Args:
        graph: A quantized graph.
        operator: One of its operators, of a kind in ``KINDS``.
        values: Of the tensors that are computed or fed, by number.
    """
    stored = {int(t): values[int(t)] if int(t) in values else graph.constant(int(t)) for t in operator.inputs}
    inputs = [dequantized(graph, int(t), stored[int(t)]) for t in operator.inputs]
    result, options = int(operator.outputs[0]), operator.builtinOptions
    exact = KINDS[graph.kind(operator)](inputs, options).reshape(graph.shape(result))
    return quantized(graph, result, _activated(exact, getattr(options, "fusedActivationFunction", 0)))


def _integers(values: np.ndarray) -> list[int]:
    return [int(value) for value in values.reshape(-1)]


KINDS: dict[str, Callable[[list[np.ndarray], Any], np.ndarray]] = {
    "CONV_2D": lambda x, options: _convolution(x[0], x[1], options) + x[2],
    "DEPTHWISE_CONV_2D": lambda x, options: _depthwise(x[0], x[1], options) + x[2],
    "FULLY_CONNECTED": lambda x, _: x[0] @ x[1].T + x[2],
    "ADD": lambda x, _: x[0] + x[1],
    "SUB": lambda x, _: x[0] - x[1],
    "MUL": lambda x, _: x[0] * x[1],
    "MEAN": lambda x, _: x[0].mean(tuple(_integers(x[1])), keepdims=True),
    "CONCATENATION": lambda x, options: np.concatenate(x, options.axis),
    "PAD": lambda x, _: np.pad(x[0], x[1].astype(int)),
    "MAX_POOL_2D": lambda x, o: _windows(x[0], o.filterHeight, o.filterWidth, o).max((-1, -2)),
    "LOGISTIC": lambda x, _: 1 / (1 + np.exp(-x[0])),
    "TANH": lambda x, _: np.tanh(x[0]),
    "TRANSPOSE": lambda x, _: x[0].transpose(_integers(x[1])),
    "RESHAPE": lambda x, _: x[0],
    "QUANTIZE": lambda x, _: x[0],
    "DEQUANTIZE": lambda x, _: x[0],
}


def dequantized(graph: Graph, tensor: int, stored: np.ndarray) -> np.ndarray:
    """Real values, float64."""
    parameters = graph.tensors[tensor].quantization
    if parameters is None or parameters.scale is None or len(parameters.scale) == 0:
        return stored.astype(np.float64)
    shape = [1] * stored.ndim
    if len(parameters.scale) > 1:
        shape[parameters.quantizedDimension] = -1
    scale = np.asarray(parameters.scale, np.float64).reshape(shape if stored.ndim else ())
    zero = np.asarray(parameters.zeroPoint, np.float64).reshape(shape if stored.ndim else ())
    return (stored.astype(np.float64) - zero) * scale


def quantized(graph: Graph, tensor: int, real: np.ndarray) -> np.ndarray:
    """Stored values of a tensor; float stays as it is."""
    dtype = np.dtype(NUMPY_TYPES[graph.dtype(tensor)])
    if not np.issubdtype(dtype, np.integer):
        return real.astype(dtype)
    parameters = graph.tensors[tensor].quantization
    limits = np.iinfo(dtype)
    steps = np.rint(real / np.float64(parameters.scale[0])) + int(parameters.zeroPoint[0])
    return np.clip(steps, limits.min, limits.max).astype(dtype)


def _activated(values: np.ndarray, function: int) -> np.ndarray:
    if function == schema.ActivationFunctionType.RELU:
        return np.maximum(values, 0)
    return np.clip(values, 0, 6) if function == schema.ActivationFunctionType.RELU6 else values


def _windows(x: np.ndarray, height: int, width: int, options: Any) -> np.ndarray:
    """(B, H, W, C) to (B, H', W', C, height, width), padded with zeros as SAME wants."""
    if options.padding == schema.Padding.SAME:
        pads = [(0, 0)]
        for size, window, stride in zip(
            x.shape[1:3], (height, width), (options.strideH, options.strideW), strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + window - size, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, [*pads, (0, 0)])
    return sliding_window_view(x, (height, width), axis=(1, 2))[:, :: options.strideH, :: options.strideW]


def _convolution(x: np.ndarray, kernel: np.ndarray, options: Any) -> np.ndarray:
    windows = _windows(x, kernel.shape[1], kernel.shape[2], options)  # (B, H', W', C, k, k)
    return np.einsum("bhwcij,oijc->bhwo", windows, kernel)


def _depthwise(x: np.ndarray, kernel: np.ndarray, options: Any) -> np.ndarray:
    windows = _windows(x, kernel.shape[1], kernel.shape[2], options)  # (B, H', W', C, k, k)
    return np.einsum("bhwcij,ijc->bhwc", windows, kernel[0])
