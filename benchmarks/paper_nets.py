"""The networks of the paper's comparison, and the forms in which each is timed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any, cast

import torch
from int8_vs_stock import randomised
from torch import Tensor, nn

from evit_edge.analysis.networks import Network, open_network
from evit_edge.models.deploy import deploy
from evit_edge.models.efficientvit import EfficientViT

_AGREEMENT = 1e-3


class Form(StrEnum):
    """What was done to a network before it is timed."""

    PLAIN = "as made"
    FOLDED = "folded"
    INFERENCE = "inference form"


@dataclass(frozen=True)
class Entry:
    """A network of the comparison.

    Attributes:
        name: Short, for tables.
        source: As :func:`open_network` takes it.
        top1: ImageNet top-1 in per cent, of the trained weights that its authors published.
        told_by: Where that figure stands.
    """

    name: str
    source: str
    top1: float
    told_by: str

    @property
    def key(self) -> str:
        """The network's name in timm."""
        return self.source.removeprefix("timm:")

    @property
    def ours(self) -> bool:
        """Whether it is an EfficientViT."""
        return not self.source.startswith("timm:")


_PAPER = "EfficientViT, arXiv:2305.07027"

ENTRIES = (
    Entry("M0", "efficientvit_m0", 63.3, _PAPER),
    Entry("M1", "efficientvit_m1", 68.4, _PAPER),
    Entry("M2", "efficientvit_m2", 70.8, _PAPER),
    Entry("M3", "efficientvit_m3", 73.4, _PAPER),
    Entry("M4", "efficientvit_m4", 74.3, _PAPER),
    Entry("M5", "efficientvit_m5", 77.1, _PAPER),
    Entry("MobileNetV3-L", "timm:mobilenetv3_large_100", 75.2, _PAPER),
    Entry("MobileNetV2", "timm:mobilenetv2_100", 72.0, "MobileNetV2, arXiv:1801.04381"),
    Entry("EfficientNet-B0", "timm:efficientnet_b0", 77.1, "EfficientNet, arXiv:1905.11946"),
    Entry("MobileOne-S1", "timm:mobileone_s1", 75.9, "MobileOne, arXiv:2206.04040"),
    Entry("MobileViT-XXS", "timm:mobilevit_xxs", 69.0, _PAPER),
    Entry("MobileViTv2-0.5", "timm:mobilevitv2_050", 70.2, "MobileViTv2, arXiv:2206.02680"),
    Entry("DeiT-Ti", "timm:deit_tiny_patch16_224", 72.2, "DeiT, arXiv:2012.12877"),
    Entry("LeViT-128S", "timm:levit_128s", 76.6, "LeViT, arXiv:2104.01136, distilled"),
)


def entry(name: str) -> Entry:
    """A network by its short name, its name in timm, or such as ``deit_tiny`` or ``m0``.

    Raises:
        ValueError: There is none.
    """
    wanted = name.lower().removeprefix("timm:")
    for known in ENTRIES:
        if wanted in {known.name.lower(), known.key, known.key.removesuffix("_patch16_224")}:
            return known
    raise ValueError(f"no network {name!r}; one of {', '.join(known.key for known in ENTRIES)} is needed")


def opened(chosen: Entry) -> Network:
    """A network with random weights whose BatchNorm statistics and attention biases do something."""
    network = open_network(chosen.source)
    randomised(network.module)
    return network


def formed(network: Network, form: Form) -> nn.Module:
    """A network in a form; the network itself is left as it is.

    Args:
        network: As :func:`opened` makes it.
        form: ``INFERENCE`` is EfficientViT's alone and takes uint8 (B, S, S, 3), the others float (B, 3, S, S).

    Raises:
        ValueError: Folding changed what the network answers.
    """
    if form is Form.PLAIN:
        return network.module
    if form is Form.INFERENCE:
        rule = network.preprocessing
        if not isinstance(network.module, EfficientViT):
            raise ValueError(f"the inference form of {network.name} asked for; only EfficientViT has one")
        return deploy(network.module, mean=rule.mean, std=rule.std)
    example = network.noise(2)
    module = folded(network.module, example)
    with torch.inference_mode():
        wanted, got = network.module(example), module(example)
    error = float((wanted - got).abs().max() / wanted.abs().max())
    if not error < _AGREEMENT:
        raise ValueError(f"folding BatchNorm in {network.name} changes its answer by {error:.1e} of the largest")
    return module


def folded(module: nn.Module, example: Tensor) -> nn.Module:
    """A copy for inference: branches merged as its author wrote it, BatchNorm folded into convolutions.

    timm merges what has a method for that (MobileOne, LeViT). Of the rest, each BatchNorm that is given just what
    a convolution answered is folded into it; an activation that timm keeps with the BatchNorm stays.

    Args:
        module: In eval mode.
        example: An input; one pass tells which BatchNorm follows which convolution.
    """
    module = copy.deepcopy(module)
    if not isinstance(module, EfficientViT):
        merge: Callable[[nn.Module], nn.Module] = import_module("timm.utils.model").reparameterize_model
        module = merge(module)
    fuse = import_module("torch.nn.utils.fusion").fuse_conv_bn_weights
    for name, conv in _followed(module, example).items():
        norm = module.get_submodule(name)
        conv.weight, conv.bias = fuse(
            *(conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        )
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, getattr(norm, "act", nn.Identity()))
    return module.eval().requires_grad_(requires_grad=False)


def _followed(module: nn.Module, example: Tensor) -> dict[str, nn.Conv2d]:
    """Names of the BatchNorms whose input is what a convolution answered, with that convolution."""
    answers: list[tuple[Tensor, nn.Conv2d]] = []  # kept, so that no later tensor is taken for one of them
    found: dict[str, nn.Conv2d] = {}

    def answered(conv: nn.Module, _: Any, answer: Tensor) -> None:
        answers.append((answer, cast(nn.Conv2d, conv)))

    def given(name: str, arguments: tuple[Any, ...]) -> None:
        found.update((name, conv) for answer, conv in answers if answer is arguments[0])

    hooks = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            hooks.append(part.register_forward_hook(answered))
        elif isinstance(part, nn.BatchNorm2d):
            hooks.append(part.register_forward_pre_hook(lambda _, arguments, name=name: given(name, arguments)))
    with torch.inference_mode():
        module(example)
    for hook in hooks:
        hook.remove()
    return found
