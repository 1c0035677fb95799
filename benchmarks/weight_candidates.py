"""Ways to round weights to int8 that were tried: clipping by least squares, bias correction, GPTQ.

Each makes a float model whose weights already lie on the int8 grid, so that the quantizer, which takes each
channel's largest weight for the end of its grid, stores exactly them. None of them is part of the converter:
`calibration_choices.py` shows why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_converters import tflite
from evit_converters.tflite.graph import Graph

Floats = npt.NDArray[np.float64]

WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
DAMPING = 0.01


class Weights(StrEnum):
    """A way to round weights."""

    NEAREST = "nearest"
    CLIPPED = "least squares clipping"
    CORRECTED = "nearest, biases corrected"
    GPTQ = "GPTQ, biases corrected"


@dataclass
class Moments:
    """Of what a layer reads, for each patch that one output is computed from.

    Attributes:
        count: Patches.
        total: Sum over patches, (groups, n); n is the patch's length, groups are a depthwise layer's channels.
        products: Sum of outer products, (groups, n, n).
    """

    count: int = 0
    total: Any = field(default=0.0)
    products: Any = field(default=0.0)

    def add(self, patches: npt.NDArray[np.float32]) -> None:
        """Add patches (groups, N, n)."""
        self.count += patches.shape[1]
        self.total = self.total + patches.sum(axis=1, dtype=np.float64)
        self.products = self.products + patches.transpose(0, 2, 1) @ patches

    @property
    def mean(self) -> Floats:
        """Mean patch, (groups, n)."""
        return np.asarray(self.total / self.count)

    @property
    def covariance(self) -> Floats:
        """(groups, n, n); what is left of an error once biases are corrected."""
        mean = self.mean
        return np.asarray(self.products / self.count - mean[:, :, None] * mean[:, None, :])


def collect_moments(model: bytes, images: Iterable[npt.NDArray[np.uint8]]) -> dict[int, Moments]:
    """Moments of what each layer with weights reads, by its place; images are uint8 (S, S, 3)."""
    graph, run = Graph(model), tflite.activation_runner(model)
    places = [place for place, operator in enumerate(graph.operators) if is_weighted(graph, operator)]
    moments = {place: Moments() for place in places}
    for image in images:
        values = run(image[None])
        for place in places:
            operator = graph.operators[place]
            moments[place].add(patches_of(graph, operator, values[graph.name(int(operator.inputs[0]))]))
    return moments


def is_weighted(graph: Graph, operator: Any) -> bool:
    """Whether it has stored weights."""
    return graph.kind(operator) in WEIGHTED and graph.is_constant(int(operator.inputs[1]))


def patches_of(graph: Graph, operator: Any, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What each output is computed from, in the weight's order: (groups, N, n)."""
    shape, options = graph.shape(int(operator.inputs[1])), operator.builtinOptions
    if graph.kind(operator) == "FULLY_CONNECTED":
        return values.reshape(1, -1, shape[-1])
    (height, width), strides = shape[1:3], (options.strideH, options.strideW)
    if options.padding == 0:  # SAME
        margins = [
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(values.shape[1:3], strides, (height, width), strict=True)
        ]
        around = [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins), (0, 0)]
        values = np.pad(values, around)
    windows = np.lib.stride_tricks.sliding_window_view(values, (height, width), axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1]]  # (1, H, W, C, kh, kw)
    if graph.kind(operator) == "DEPTHWISE_CONV_2D":
        return np.ascontiguousarray(windows.transpose(3, 0, 1, 2, 4, 5)).reshape(
            windows.shape[3], -1, height * width
        )
    return np.ascontiguousarray(windows.transpose(0, 1, 2, 4, 5, 3)).reshape(1, -1, height * width * shape[3])


def rounded(model: bytes, moments: dict[int, Moments], how: Weights, spared: frozenset[str]) -> bytes:
    """The float model with all weights on the int8 grid but those of the operators in ``spared``."""
    graph = Graph(model)
    for place, seen in moments.items():
        operator = graph.operators[place]
        if graph.name(int(operator.outputs[0])) in spared:
            continue
        weight = graph.constant(int(operator.inputs[1]))
        axis = 3 if graph.kind(operator) == "DEPTHWISE_CONV_2D" else 0
        flat = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)  # (C, n)
        groups = flat[:, None] if axis == 3 and len(seen.mean) == len(flat) else flat[None]  # (groups, C', n)
        if len(groups) != len(seen.mean):
            continue  # a depthwise layer that multiplies its channels
        codes = np.concatenate([round_group(g, how, c) for g, c in zip(groups, seen.covariance, strict=True)])
        back = np.moveaxis(codes.reshape(np.moveaxis(weight, axis, 0).shape), 0, axis)
        store(graph, int(operator.inputs[1]), back)
        if how in (Weights.CORRECTED, Weights.GPTQ) and len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            error = (groups - codes.reshape(groups.shape)) @ seen.mean[:, :, None]
            bias = int(operator.inputs[2])
            store(graph, bias, graph.constant(bias) + error.reshape(-1))
    return graph.to_bytes()


def round_group(weight: Floats, how: Weights, covariance: Floats) -> Floats:
    """Rows (C, n) on grids of their own."""
    scale = np.abs(weight).max(axis=1) / 127
    scale = np.where(scale == 0, 1.0, scale)
    if how is Weights.GPTQ:
        return gptq(weight, scale, covariance)
    factors = np.linspace(0.6, 1.0, 21) if how is Weights.CLIPPED else [1.0]
    candidates = [np.clip(np.round(weight / (s := scale * f)[:, None]), -127, 127) * s[:, None] for f in factors]
    errors = np.stack([((weight - candidate) ** 2).sum(axis=1) for candidate in candidates])
    return np.stack(candidates)[errors.argmin(axis=0), np.arange(len(weight))]


def gptq(weight: Floats, scale: Floats, covariance: Floats) -> Floats:
    """Round column after column, and let the columns to come make up for each one's error.

    Source: E. Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers",
    ICLR 2023, section 3; columns in the order of falling energy.
    """
    energy = np.diag(covariance)
    damped = covariance + np.diag(np.where(energy <= 0, 1.0, 0.0) + DAMPING * max(energy.mean(), 1e-12))
    order = np.argsort(-np.diag(damped))
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left, codes = weight[:, order].copy(), np.empty_like(weight)
    for i in range(left.shape[1]):
        codes[:, i] = np.clip(np.round(left[:, i] / scale), -127, 127) * scale
        left[:, i + 1 :] -= np.outer((left[:, i] - codes[:, i]) / factor[i, i], factor[i, i + 1 :])
    return codes[:, np.argsort(order)]


def store(graph: Graph, tensor: int, values: npt.NDArray[Any]) -> None:
    """Replace a constant."""
    stored = np.ascontiguousarray(values, np.float32).tobytes()
    graph.model.buffers[graph.tensors[tensor].buffer].data = np.frombuffer(stored, np.uint8)
