"""The form for the Neural Engine is exact, and its ML Program is of rank 4 throughout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from random_networks import randomised
from torch import nn

from evit_converters import coreml
from evit_converters.coreml import Concern, Interface, Quantization
from evit_edge.models.config import variant
from evit_edge.models.neural_engine import neural_engine
from evit_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD


@pytest.mark.parametrize(
    ("name", "side"),
    [(f"m{i}", side) for i in range(6) for side in (224, 256)] + [("m0", side) for side in (128, 200, 333, 512)],
)
def test_logits_equal_the_train_form(name: str, side: int) -> None:
    model = randomised(variant(name).adapted(image_size=side, num_classes=50)).double()
    images = torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    form = neural_engine(model)
    with torch.no_grad():
        expected, actual = model(images), form(images)
    # The pictures differ by far less than the logits' size: the error is held against what tells them apart.
    assert (actual - expected).abs().max() < 1e-10 * (expected[0] - expected[1]).abs().max()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_form_is_for_inference() -> None:
    form = neural_engine(randomised(variant("m0")))
    assert not form.training
    assert not any(parameter.requires_grad for parameter in form.parameters())
    assert not [module for module in form.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert {parameter.dtype for parameter in form.parameters()} == {torch.float32}


@pytest.fixture(scope="module")
def m0() -> coreml.Program:
    """M0 with 1000 classes as a float16 program for iOS 16."""
    labels = [f"class {i}" for i in range(1000)]
    interface = Interface(224, IMAGENET_MEAN, IMAGENET_STD, labels=labels)
    target = coreml.DeploymentTarget.IOS16
    return coreml.export(neural_engine(randomised(variant("m0"))), interface, target=target)


def test_program_of_m0_is_of_rank_four_without_transposes(m0: coreml.Program) -> None:
    advice = coreml.advise(m0)
    assert set(advice.ranks) == {2, 4}
    assert advice.ranks[2] == 3  # flattened logits, their softmax, and that in float32
    assert {concern for concern, names in advice.concerns.items() if names} == {Concern.DYNAMIC_MATMUL}
    # Two products for each head: 4 heads in each of 1 + 2 + 3 blocks.
    assert len(advice.concerns[Concern.DYNAMIC_MATMUL]) == 2 * 4 * 6


def size_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("quantization", "limit_mb"),
    [
        (Quantization.FP16, 5.3),
        (Quantization.INT8, 2.9),
        (Quantization.PALETTE6, 2.3),
        (Quantization.PALETTE4, 1.8),
    ],
)
def test_m0_is_as_small_as_promised(
    quantization: Quantization, limit_mb: float, m0: coreml.Program, tmp_path: Path
) -> None:
    coreml.save(coreml.quantize(m0, quantization), tmp_path / "m0.mlpackage")
    assert size_bytes(tmp_path / "m0.mlpackage") <= limit_mb * 1e6


@pytest.mark.slow
def test_m5_is_as_small_as_promised(tmp_path: Path) -> None:
    interface = Interface(224, IMAGENET_MEAN, IMAGENET_STD, labels=[f"class {i}" for i in range(1000)])
    target = coreml.DeploymentTarget.IOS16
    program = coreml.export(neural_engine(randomised(variant("m5"))), interface, target=target)
    assert {concern for concern, names in coreml.advise(program).concerns.items() if names} == {
        Concern.DYNAMIC_MATMUL
    }
    coreml.save(coreml.quantize(program, Quantization.INT8), tmp_path / "m5.mlpackage")
    assert size_bytes(tmp_path / "m5.mlpackage") <= 13.5e6
