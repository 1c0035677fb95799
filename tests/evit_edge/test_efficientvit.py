"""The network is the paper's: timm's, with the same weights, to rounding."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn

from evit_edge.errors import RequestError
from evit_edge.models.attention import relative_offset_index
from evit_edge.models.config import PAPER_FIGURES, VARIANTS, EfficientViTConfig, variant
from evit_edge.models.efficientvit import EfficientViT

PARAMETERS = {
    "efficientvit_m0": 2349436,
    "efficientvit_m1": 2980560,
    "efficientvit_m2": 4187554,
    "efficientvit_m3": 6900722,
    "efficientvit_m4": 8804228,
    "efficientvit_m5": 12473772,
}


def randomise(model: nn.Module) -> nn.Module:
    """Statistics and biases as a trained network has them: none zero, none one."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, 0, 0.1)
        if hasattr(module, "attention_biases"):
            nn.init.normal_(module.attention_biases)
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_the_papers(name: str) -> None:
    with torch.device("meta"):
        model = EfficientViT(variant(name))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == PARAMETERS[name]
    assert abs(count / 1e6 - PAPER_FIGURES[name].parameters_m) < 0.1  # the paper cuts M5's 12.47 to 12.4


@pytest.mark.parametrize("size", [224, 256])
@pytest.mark.parametrize("name", VARIANTS)
def test_logits_equal_timms(name: str, size: int, timm: ModuleType) -> None:
    theirs = randomise(timm.create_model(name, img_size=size))
    ours = EfficientViT(variant(name).adapted(image_size=size))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.manual_seed(0)
    images = torch.randn(8, 3, size, size)
    with torch.no_grad():
        for training in (False, True):
            wanted, got = theirs.train(training)(images), ours.train(training)(images)
            assert float((got - wanted).norm() / wanted.norm()) < 1e-6


def test_train_mode_equals_timms_but_for_rounding(timm: ModuleType) -> None:
    theirs = randomise(timm.create_model("efficientvit_m5", img_size=256)).double().train()
    ours = EfficientViT(variant("m5").adapted(image_size=256)).double().train()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(3, 3, 256, 256, dtype=torch.float64)
    with torch.no_grad():
        wanted, got = theirs(images), ours(images)
    assert float((got - wanted).norm() / wanted.norm()) < 1e-10


@pytest.mark.parametrize("size", [128, 200, 333, 512])
def test_any_size_in_range_works(size: int) -> None:
    model = EfficientViT(variant("m0").adapted(image_size=size, num_classes=7)).eval()
    with torch.no_grad():
        features = model.forward_features(torch.zeros(1, 3, size, size))
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 7)
    assert features.shape[2:] == (model.config.resolutions[2],) * 2


@pytest.mark.parametrize("size", [127, 513, 0])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    with pytest.raises(RequestError, match="128 to 512"):
        variant("m0").adapted(image_size=size)


def test_a_classifier_of_no_class_is_refused() -> None:
    with pytest.raises(RequestError, match="0 classes given; at least 1 is needed"):
        variant("m0").adapted(num_classes=0)


def test_unknown_variant_names_the_known() -> None:
    with pytest.raises(RequestError, match="efficientvit_m5"):
        variant("efficientvit_m6")


def test_channels_that_do_not_split_are_refused() -> None:
    with pytest.raises(RequestError, match="do not split"):
        EfficientViTConfig("x", (64, 128, 192), (1, 1, 1), (4, 4, 5), (5, 5, 5, 5, 5))


def test_position_bias_depends_on_absolute_offset_alone() -> None:
    index = relative_offset_index(3)
    assert index[0, 0] == index[4, 4] == 0
    assert index[0, 5] == index[5, 0] == 1 * 3 + 2  # (0, 0) against (1, 2)
    assert torch.equal(index, index.T)
    assert int(index.max()) == 8
