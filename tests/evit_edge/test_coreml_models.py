"""Every variant and six networks of other families as Core ML packages, each proved against torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from evit_converters import coreml
from evit_converters.coreml import Quantization
from evit_edge.files import size_of
from evit_edge.models.config import variant
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.models.neural_engine import neural_engine
from evit_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from evit_edge.tensors import OutputKind
from evit_edge.verification.coreml import Claims, Network, prove

LARGEST_INT8 = {"m0": 2_900_000, "m5": 13_500_000}
FOREIGN = {
    "mobilenetv3_large_100": 224,
    "mobilevit_xxs": 256,
    "resnet18": 224,
    "deit_tiny_patch16_224": 224,
    "efficientnet_lite0": 224,
    "fastvit_t8": 256,
}

pytestmark = pytest.mark.slow


def randomised(module: nn.Module) -> nn.Module:
    """All branches count, and BatchNorm and position biases do something, so that a proof says something."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.3, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
            nn.init.normal_(layer.running_mean, 0, 0.2, generator=generator)
            nn.init.uniform_(layer.running_var, 0.7, 1.3, generator=generator)
        if hasattr(layer, "attention_biases"):
            nn.init.normal_(layer.attention_biases, generator=generator)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pictures(photos: dict[str, np.ndarray]) -> Callable[[int], np.ndarray]:
    """Function: three photos of a size, uint8 (3, S, S, 3)."""
    chosen = [Image.fromarray(photos[name]) for name in ("coffee", "cat", "astronaut")]
    return lambda side: np.stack([np.asarray(photo.resize((side, side))) for photo in chosen])


def check(
    network: Network, converted: nn.Module, images: np.ndarray, kinds: tuple[Quantization, ...], folder: Path
) -> dict[Quantization, Path]:
    """Convert in each kind (one export for each precision) and prove each package."""
    interface = coreml.Interface(
        image_size=network.image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD, output_kind=coreml.OutputKind.LOGITS
    )
    packages = {}
    exported = {}
    for kind in kinds:
        target = coreml.lowest_target(kind)
        if (kind.precision, target) not in exported:
            program = coreml.export(converted, interface, precision=kind.precision, target=target)
            exported[kind.precision, target] = program
        packages[kind] = folder / f"{kind}.mlpackage"
        coreml.save(coreml.quantize(exported[kind.precision, target], kind), packages[kind])
        claims = Claims((), output_kind=OutputKind.LOGITS, specification_version=target.specification_version)
        report = prove(packages[kind], network, images, claims=claims)
        assert report.passed, (kind, report.failed)
        assert report.figures["graph_error"] < report.figures["torch_float32_error"]
    return packages


@pytest.mark.parametrize("name", [f"m{i}" for i in range(6)])
def test_every_variant_is_proved(name: str, pictures: Callable[[int], np.ndarray], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = randomised(EfficientViT(variant(name)))
    form = neural_engine(copy.deepcopy(model).double())
    network = Network(model, image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, form=form)
    kinds = (Quantization.NONE, Quantization.FP16, Quantization.INT8)
    packages = check(network, neural_engine(model), pictures(224), kinds, tmp_path)
    assert size_of(packages[Quantization.INT8]) <= LARGEST_INT8.get(name, 13_500_000)


@pytest.mark.parametrize("name", FOREIGN)
def test_other_families_are_proved(
    name: str, timm: ModuleType, pictures: Callable[[int], np.ndarray], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    side = FOREIGN[name]
    module = randomised(timm.create_model(name, num_classes=20))
    network = Network(module, image_size=side, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    check(network, module, pictures(side), (Quantization.NONE, Quantization.FP16), tmp_path)
