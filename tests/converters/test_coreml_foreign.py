"""Networks of other families as Core ML packages: the saved file computes torch's answer."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from evit_converters import coreml
from evit_converters.coreml import ComputePrecision, Interface, OutputKind
from evit_edge.runtime.coreml import Evaluator, Precision, read_package

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NETS = {
    "mobilenetv3_large_100": 224,
    "mobilevit_xxs": 256,
    "resnet18": 224,
    "deit_tiny_patch16_224": 224,
    "efficientnet_lite0": 224,
    "fastvit_t8": 256,
}


def randomised(module: nn.Module) -> nn.Module:
    """BatchNorm that does something, so that parity says something."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.3, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
            nn.init.normal_(layer.running_mean, 0, 0.2, generator=generator)
            nn.init.uniform_(layer.running_var, 0.7, 1.3, generator=generator)
    return module.eval()


def pictures(photos: dict[str, np.ndarray], side: int) -> np.ndarray:
    """Two photos, uint8 (2, side, side, 3)."""
    return np.stack([np.asarray(Image.fromarray(photos[n]).resize((side, side))) for n in ("coffee", "cat")])


def normalised(images: np.ndarray) -> Tensor:
    """uint8 (B, S, S, 3) to float64 (B, 3, S, S)."""
    offset, width = (torch.tensor(v, dtype=torch.float64) for v in (MEAN, STD))
    return ((torch.from_numpy(images).double() / 255 - offset) / width).permute(0, 3, 1, 2)


def error(actual: Tensor, expected: Tensor) -> float:
    return float(((actual.double() - expected).norm(dim=1) / expected.norm(dim=1)).max())


def answers(module: nn.Module, x: Tensor) -> dict[torch.dtype, Tensor]:
    """What torch answers in each precision; the module is left as it was."""
    with torch.no_grad():
        kinds = (torch.float64, torch.float32, torch.float16)
        return {kind: copy.deepcopy(module).to(kind)(x.to(kind)) for kind in kinds}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_saved_package_computes_the_network(
    name: str, timm: ModuleType, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module, images = randomised(timm.create_model(name)), pictures(photos, NETS[name])
    torch_says = answers(module, normalised(images))
    expected = torch_says[torch.float64]
    interface = Interface(NETS[name], MEAN, STD, output_kind=OutputKind.LOGITS)
    for precision, evaluated, kind in (
        (ComputePrecision.FLOAT32, Precision.FLOAT64, torch.float32),
        (ComputePrecision.FLOAT16, Precision.DECLARED, torch.float16),
    ):
        path = tmp_path / f"{precision}.mlpackage"
        coreml.save(coreml.export(module, interface, precision=precision), path)
        actual = Evaluator(read_package(path), evaluated).run(images)
        assert error(actual, expected) < 3 * error(torch_says[kind], expected), precision
