"""The inference form answers as the train form does, for every variant and any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_networks import randomised
from torch import nn

from evit_edge.errors import RequestError
from evit_edge.models.config import OutputKind, variant
from evit_edge.models.deploy import deploy
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.preprocessing import IMAGENET_MEAN as MEAN
from evit_edge.preprocessing import IMAGENET_STD as STD


def picture(side: int) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    return torch.from_numpy(pixels)


def normalised(image: torch.Tensor) -> torch.Tensor:
    return ((image.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize(
    ("name", "side"),
    [(f"m{i}", side) for i in range(6) for side in (224, 256, 200)] + [("m0", 128), ("m0", 333), ("m0", 512)],
)
def test_logits_equal_the_train_form(name: str, side: int) -> None:
    model, image = randomised(variant(name).adapted(image_size=side, num_classes=50)), picture(side)
    with torch.no_grad():
        expected = model(normalised(image))
        for tokenwise in (False, True):
            deployed = deploy(model, mean=MEAN, std=STD, output_kind=OutputKind.LOGITS, tokenwise=tokenwise)
            assert (deployed(image) - expected).abs().max() < 1e-5 * expected.abs().max(), tokenwise


@pytest.mark.parametrize("value", [0, 255], ids=["black", "white"])
def test_border_is_padded_after_normalisation(value: int) -> None:
    """A plain picture is where wrong padding shows most."""
    model = randomised(variant("m0").adapted(image_size=128, num_classes=10))
    image = torch.full((1, 128, 128, 3), value, dtype=torch.uint8)
    deployed = deploy(model, mean=MEAN, std=STD, output_kind=OutputKind.LOGITS)
    with torch.no_grad():
        expected, actual = model(normalised(image)), deployed(image)
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


def test_probabilities_are_the_softmax_and_the_source_is_untouched() -> None:
    model, image = randomised(variant("m0").adapted(image_size=128, num_classes=10)), picture(128)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        scores = deploy(model, mean=MEAN, std=STD, output_kind=OutputKind.PROBABILITIES)(image)
        logits = deploy(model, mean=MEAN, std=STD, output_kind=OutputKind.LOGITS)(image)
    torch.testing.assert_close(scores, logits.softmax(-1))
    assert scores.shape == (1, 10)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_no_batchnorm_is_left() -> None:
    deployed = deploy(randomised(variant("m0")), mean=MEAN, std=STD)
    assert not [m for m in deployed.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert not deployed.training
    assert not any(parameter.requires_grad for parameter in deployed.parameters())


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5, 0.5), STD), (MEAN, (0.0, 1.0, 1.0))], ids=["two means", "std of zero"]
)
def test_impossible_normalisation_is_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(RequestError, match="three values each, std positive"):
        deploy(EfficientViT(variant("m0")), mean=mean, std=std)
