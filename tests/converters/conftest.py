"""A small network with the parts that are hard to convert, and its models, made once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from evit_converters import coreml, tflite

SIDE, CLASSES = 32, 7


class SmallNet(nn.Module):
    """uint8 (1, 32, 32, 3) to probabilities (1, 7): padding, a gate, batch-1 attention, a lone ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16)
        self.q, self.k, self.v = (nn.Conv2d(16, 16, 1) for _ in range(3))
        self.gate = nn.Conv2d(16, 16, 1)
        self.register_buffer("bias", torch.randn(64, 64))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = (image.float() - 120).permute(0, 3, 1, 2) / 60  # (1, 3, 32, 32)
        x = self.depthwise(F.relu(self.stem(x)))  # (1, 16, 8, 8)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))  # (1, 16, 8, 8)
        tokens = [part(x).permute(0, 2, 3, 1).reshape(1, 64, 16) for part in (self.q, self.k, self.v)]
        q, k, v = tokens  # (1, 64, 16) each
        y = (q @ k.transpose(1, 2) / 4 + self.bias).softmax(-1) @ v  # (1, 64, 16)
        y = F.relu(torch.cat([y, y + tokens[2]], dim=-1))  # (1, 64, 32)
        return self.head(y).mean(1).softmax(-1)  # (1, 7)


@pytest.fixture(scope="session")
def small_net() -> nn.Module:
    """The network with seeded weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallNet().eval()


@pytest.fixture(scope="session")
def example() -> Tensor:
    """An input for the exporter."""
    return torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)


@pytest.fixture(scope="session")
def float_model(small_net: nn.Module, example: Tensor) -> bytes:
    """The network as a float .tflite."""
    return tflite.export(small_net, example)


@pytest.fixture(scope="session")
def thumbnails(photos: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The photos as uint8 (1, 32, 32, 3)."""
    return [np.asarray(Image.fromarray(photo).resize((SIDE, SIDE)))[None] for photo in photos.values()]


def min_max(model: bytes, images: Sequence[np.ndarray]) -> dict[str, tuple[float, float]]:
    """True minimum and maximum of each activation."""
    run = tflite.activation_runner(model)
    values = [run(image) for image in images]
    return {
        name: (min(float(v[name].min()) for v in values), max(float(v[name].max()) for v in values))
        for name in values[0]
    }


@pytest.fixture(scope="session")
def collect() -> Callable[[bytes, Sequence[np.ndarray]], dict[str, tuple[float, float]]]:
    """The function that collects ranges."""
    return min_max


@pytest.fixture(scope="session")
def ranges(float_model: bytes, thumbnails: list[np.ndarray]) -> dict[str, tuple[float, float]]:
    """Ranges of the small network's activations on the photos."""
    return min_max(float_model, thumbnails)


@pytest.fixture(scope="session")
def int8_model(float_model: bytes, ranges: dict[str, tuple[float, float]]) -> bytes:
    """The network in int8."""
    return tflite.quantize(float_model, tflite.Quantization.INT8, ranges)


@pytest.fixture(scope="session")
def fp16_model(float_model: bytes) -> bytes:
    """The network with float16 weights."""
    return tflite.quantize(float_model, tflite.Quantization.FP16)


def answer_of(model: bytes, image: np.ndarray) -> np.ndarray:
    """The model's output for one input, with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.fixture(scope="session")
def answer() -> Callable[[bytes, np.ndarray], np.ndarray]:
    """The function that runs a model."""
    return answer_of


class PlaneNet(nn.Module):
    """Normalised float (1, 3, 32, 32) to logits (1, 7): padding, BatchNorm, attention with a table of biases."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16)
        self.qkv = nn.Conv2d(16, 48, 1)
        self.expand = nn.Conv2d(16, 160, 1)
        self.register_buffer("bias", torch.randn(64, 64))
        self.middle = nn.Linear(160, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(F.relu(self.norm(self.stem(x))))  # (1, 16, 8, 8)
        q, k, v = self.qkv(x).flatten(2).split(16, dim=1)  # (1, 16, 64) each
        attention = (q.transpose(1, 2) @ k / 4 + self.bias).softmax(-1)  # (1, 64, 64)
        x = x + (v @ attention.transpose(1, 2)).reshape(x.shape)  # (1, 16, 8, 8)
        x = F.relu(self.expand(x)).mean((2, 3))  # (1, 160)
        return self.head(F.relu(self.middle(x)))  # (1, 7)


@pytest.fixture(scope="session")
def plane_net() -> nn.Module:
    """The network with seeded weights and BatchNorm that does something, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = PlaneNet()
        nn.init.uniform_(module.norm.weight, 0.7, 1.3)
        nn.init.normal_(module.norm.bias, 0, 0.1)
        nn.init.normal_(module.norm.running_mean, 0, 0.2)
        nn.init.uniform_(module.norm.running_var, 0.7, 1.3)
        return module.eval()


@pytest.fixture(scope="session")
def interface() -> coreml.Interface:
    """RGB images of 32 pixels with ImageNet's normalisation, seven labels."""
    return coreml.Interface(
        SIDE,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        labels=[f"class {i}" for i in range(CLASSES)],
        name="plane net",
        description="Sorts nothing.",
        author="Nobody",
        license="MIT",
        version="1.2.3",
        user_defined={"evit_edge": "{}"},
    )


@pytest.fixture(scope="session")
def float16_program(plane_net: nn.Module, interface: coreml.Interface) -> coreml.Program:
    """The network as a float16 program for iOS 17."""
    return coreml.export(plane_net, interface, target=coreml.DeploymentTarget.IOS17)


@pytest.fixture(scope="session")
def float32_program(plane_net: nn.Module, interface: coreml.Interface) -> coreml.Program:
    """The network as a float32 program for iOS 15."""
    return coreml.export(plane_net, interface, precision=coreml.ComputePrecision.FLOAT32)
