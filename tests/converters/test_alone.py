"""One operator on the int8 grid: only it changes, and an outlier channel that was planted is found by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evit_calibration.sensitivity import measure_operators, worst_first
from evit_converters import tflite
from evit_converters.errors import QuantizationError
from evit_converters.tflite.graph import Graph

Answer = Callable[[bytes, np.ndarray], np.ndarray]
Ranges = Mapping[str, tuple[float, float]]
Collect = Callable[[bytes, Sequence[np.ndarray]], Ranges]


def test_the_result_lies_on_its_grid_and_the_rest_is_float(
    float_model: bytes, ranges: Ranges, thumbnails: list[np.ndarray]
) -> None:
    operator = next(op for op in tflite.quantizable_operators(float_model) if op.kind == "CONV_2D")
    model = tflite.Alone(float_model, ranges).quantized(operator.name)
    graph = Graph(model)
    assert [graph.kind(op) for op in graph.operators].count("QUANTIZE") == 1
    values = tflite.activation_runner(model)(thumbnails[0])[f"{operator.name}_rounded"]
    low, high = ranges[operator.name]
    steps = values / ((high - low) / 255)
    assert np.abs(steps - np.round(steps)).max() < 1e-3
    assert len(np.unique(np.round(steps))) > 10


def test_models_do_not_depend_on_those_made_before(float_model: bytes, ranges: Ranges) -> None:
    names = [operator.name for operator in tflite.quantizable_operators(float_model)]
    together = tflite.Alone(float_model, ranges)
    again = [together.quantized(name) for name in names]
    assert again == [tflite.Alone(float_model, ranges).quantized(name) for name in names]
    assert len(set(again)) == len(names)


@pytest.mark.parametrize("name", ["conv_2d_999", "input_0"])
def test_unknown_names_are_refused(name: str, float_model: bytes, ranges: Ranges) -> None:
    with pytest.raises(QuantizationError, match=name):
        tflite.Alone(float_model, ranges).quantized(name)


class Planted(nn.Module):
    """Three convolutions; one channel after one of them is blown up, and the next divides it out again."""

    def __init__(self, layer: int, factor: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList([nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)])
        self.last = nn.Conv2d(16, 7, 1)
        following = (*self.layers[1:], self.last)[layer]
        with torch.no_grad():
            self.layers[layer].weight[5] *= factor
            self.layers[layer].bias[5] *= factor
            following.weight[:, 5] /= factor

    def forward(self, image: Tensor) -> Tensor:
        x = (image.float() - 120).permute(0, 3, 1, 2) / 60  # (1, 3, 32, 32)
        for layer in self.layers:
            x = torch.relu(layer(x))  # (1, 16, 15, 15)
        return self.last(x).mean((2, 3))  # (1, 7)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_planted_outlier_channel_is_found(
    layer: int, example: Tensor, thumbnails: list[np.ndarray], collect: Collect, answer: Answer
) -> None:
    model = tflite.export(Planted(layer, 300.0).eval(), example)
    ranges = collect(model, thumbnails)
    convolutions = [op for op in tflite.quantizable_operators(model) if op.kind == "CONV_2D"]
    single = tflite.Alone(model, ranges)

    def scores(content: bytes) -> np.ndarray:
        return np.concatenate([answer(content, image) for image in thumbnails]).astype(np.float64)

    losses = measure_operators(
        [(op.name, op.kind) for op in convolutions], lambda name: scores(single.quantized(name)), scores(model)
    )
    ranking = worst_first(losses)
    assert ranking[0].name == convolutions[layer].name


def test_the_residual_stream_is_found(example: Tensor) -> None:
    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.branch, self.inner = (nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8))
            self.stream, self.hidden = (nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in range(2))
            self.head = nn.Linear(8, 7)

        def forward(self, image: Tensor) -> Tensor:
            x = self.stem((image.float() - 120).permute(0, 3, 1, 2) / 60)  # (1, 8, 32, 32)
            x = self.stream(x)
            x = x + self.branch(torch.relu(self.hidden(torch.relu(self.inner(x)))))
            return self.head(x.mean((2, 3)))  # (1, 7)

    model = tflite.export(Stream().eval(), example)
    graph = Graph(model)
    kinds = {graph.name(int(op.outputs[0])): graph.kind(op) for op in graph.operators}
    found = [kinds[name] for name in tflite.delicate_operators(model)]
    assert found == ["DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED"]  # not the branch's depthwise
    assert [kinds[name] for name in tflite.score_operators(model)] == ["MEAN", "FULLY_CONNECTED"]


def test_the_classifier_is_found_behind_the_softmax(float_model: bytes) -> None:
    graph = Graph(float_model)
    (name,) = tflite.score_operators(float_model)  # what is pooled here are scores, not features
    weighted = [op for op in graph.operators if graph.kind(op) in {"CONV_2D", "FULLY_CONNECTED"}]
    assert name == graph.name(int(weighted[-1].outputs[0]))
