"""Networks of other families: float parity, one partition in every mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from evit_converters import tflite
from evit_converters.errors import ModuleError
from evit_converters.tflite import ImageClassifier, Quantization

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def randomised(module: nn.Module) -> nn.Module:
    """BatchNorm that does something, so that parity says something."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.3, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
            nn.init.uniform_(layer.running_var, 0.7, 1.3, generator=generator)
    return module.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [("mobilenetv3_large_100", 224), ("mobilevit_xxs", 256), ("mobilevitv2_050", 256), ("resnet18", 224)],
)
def test_timm_networks_convert(
    name: str,
    side: int,
    timm: ModuleType,
    photos: dict[str, np.ndarray],
    answer: Callable[[bytes, np.ndarray], np.ndarray],
    collect: Callable[[bytes, Sequence[np.ndarray]], dict[str, tuple[float, float]]],
) -> None:
    torch.manual_seed(0)
    module = randomised(timm.create_model(name))
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(x).numpy()
    model = tflite.export(module, x)
    assert np.abs(answer(model, x.numpy()) - expected).max() < 1e-4 * np.abs(expected).max()
    image = np.asarray(Image.fromarray(photos["coffee"]).resize((side, side)), np.float32)
    image = ((image / 255 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)  # (1, 3, side, side)
    int8 = tflite.quantize(model, Quantization.INT8, collect(model, [image]))
    assert [tflite.partitions(m).partitions for m in (model, int8)] == [1, 1]
    assert len(int8) < 0.35 * len(model)
    reference = answer(model, image)
    noise = np.linalg.norm(reference - answer(int8, image)) / np.linalg.norm(reference)
    # Untrained weights: what int8 costs them says nothing, but a wrong scale gives noise of 1 and more.
    assert noise < 0.3


def test_wrapped_classifier_keeps_the_contract(
    photos: dict[str, np.ndarray], answer: Callable[[bytes, np.ndarray], np.ndarray]
) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    classifier = ImageClassifier(module, image_size=(24, 32), mean=MEAN, std=STD)
    model = tflite.export(classifier, classifier.example)
    image = np.asarray(Image.fromarray(photos["coffee"]).resize((32, 24)))[None]
    normalised = (image / 255 - np.float32(MEAN)) / np.float32(STD)
    x = torch.from_numpy(normalised).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = module(x).softmax(-1).numpy()
    np.testing.assert_allclose(answer(model, image), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [{"mean": (0.5,)}, {"std": (0.0, 1.0, 1.0)}, {"image_size": (0, 32)}],
    ids=["mean", "std", "size"],
)
def test_impossible_wrapping_is_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    arguments = {"image_size": (32, 32), "mean": MEAN, "std": STD} | wrong
    with pytest.raises(ModuleError, match="given;"):
        ImageClassifier(nn.Identity(), **arguments)
