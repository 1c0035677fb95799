"""Networks to analyse, by name: our variants and checkpoints, timm's, and any function that makes one."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evit_edge.analysis.timm_models import timm_network
from evit_edge.errors import RequestError
from evit_edge.models.checkpoints import Checkpoint, load_checkpoint
from evit_edge.models.config import VARIANTS, variant
from evit_edge.models.deploy import deploy
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.preprocessing import Preprocessing, UInt8Image

_FUNCTION = re.compile(r"[A-Za-z_][\w.]+:[A-Za-z_]\w*")
_TIMM = "timm:"
_SIDE = 224


class Form(StrEnum):
    """Which of an EfficientViT's two forms to look at."""

    TRAIN = "train"
    INFERENCE = "inference"


@dataclass(frozen=True)
class Network:
    """A network in eval mode, on the CPU.

    Attributes:
        name: For people.
        module: The network; normalised float32 (B, 3, S, S) to logits, or, in the inference form, uint8
            (B, S, S, 3) to probabilities.
        preprocessing: How a photo becomes an input; its ``image_size`` is the network's.
        form: Train or inference.
        trained: Whether the weights come from a file.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    form: Form = Form.TRAIN
    trained: bool = False

    @property
    def image_size(self) -> int:
        """Side of the input in pixels."""
        return self.preprocessing.image_size

    def noise(self, batch: int, seed: int = 0) -> Tensor:
        """A batch of noise that the network takes; its time does not depend on the picture."""
        generator, side = torch.Generator().manual_seed(seed), self.image_size
        if self.form is Form.INFERENCE:
            return torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, generator=generator)
        return torch.randn(batch, 3, side, side, generator=generator)  # (B, 3, S, S)

    def batch(self, squares: list[UInt8Image]) -> Tensor:
        """Photos as the train form takes them.

        Args:
            squares: RGB uint8 (S, S, 3) each, cut by ``preprocessing``.

        Returns:
            float32 (B, 3, S, S), normalised.
        """
        mean = torch.tensor(self.preprocessing.mean).view(1, 3, 1, 1)
        std = torch.tensor(self.preprocessing.std).view(1, 3, 1, 1)
        planes = torch.stack([torch.from_numpy(square) for square in squares]).permute(0, 3, 1, 2)  # (B, 3, S, S)
        return (planes.float() / 255 - mean) / std


def open_network(
    source: str, *, form: Form = Form.TRAIN, image_size: int | None = None, pretrained: bool = False
) -> Network:
    """Make or load a network.

    Args:
        source: A variant (``efficientvit_m0`` or ``m0``; random weights), a checkpoint, ``everyday``,
            ``hf:OWNER/NAME``, ``timm:NAME``, or ``MODULE:FUNCTION``, a function without arguments that returns a
            module.
        form: The inference form exists for EfficientViT alone.
        image_size: Side of the input in pixels; the network's own where not given.
        pretrained: Of timm's: download trained weights instead of drawing random ones.

    Raises:
        RequestError: There is no such network, or it does not take this size or form.
        CheckpointError: The weights cannot be used.
        MissingExtraError: timm is not installed.
    """
    if source.startswith(_TIMM):
        name, module, rule = timm_network(source.removeprefix(_TIMM), image_size, pretrained=pretrained)
        network = Network(name, module, rule, trained=pretrained)
    elif _FUNCTION.fullmatch(source) and not source.startswith("hf:") and not Path(source).exists():
        network = Network(source.partition(":")[2], _called(source), Preprocessing(image_size=image_size or _SIDE))
    elif _is_variant(source):
        config = variant(source).adapted(image_size=image_size)
        torch.manual_seed(0)
        rule = Preprocessing(image_size=config.image_size)
        network = Network(config.name, EfficientViT(config), rule)
    else:
        network = _of_checkpoint(load_checkpoint(source, image_size=image_size))
    network.module.eval().requires_grad_(requires_grad=False)
    return network if form is Form.TRAIN else _deployed(network, source)


def _is_variant(source: str) -> bool:
    """Whether it is named as :func:`variant` takes it: ``m0``, ``efficientvit_m0``, either with ``+OPTION``."""
    name = source.partition("+")[0]
    return name in VARIANTS or f"efficientvit_{name}" in VARIANTS


def _of_checkpoint(checkpoint: Checkpoint) -> Network:
    return Network(checkpoint.name, checkpoint.model, checkpoint.preprocessing, trained=True)


def _deployed(network: Network, source: str) -> Network:
    if not isinstance(network.module, EfficientViT):
        raise RequestError(
            f"--form inference given for {source}; only EfficientViT has that form: leave the option out"
        )
    rule = network.preprocessing
    module = deploy(network.module, mean=rule.mean, std=rule.std)
    return replace(network, module=module, form=Form.INFERENCE)


def _called(source: str) -> nn.Module:
    """What ``MODULE:FUNCTION`` returns; modules are looked for in the working folder too."""
    module_name, _, function_name = source.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function: Callable[[], Any] = getattr(importlib.import_module(module_name), function_name)
        made = function()
    except Exception as exc:  # the function is somebody else's
        reason = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        raise RequestError(
            f"{source} could not be called ({reason}); MODULE:FUNCTION is needed, a function without arguments "
            "that returns a torch module"
        ) from exc
    finally:
        sys.path.remove(here)
    if not isinstance(made, nn.Module):
        raise RequestError(f"{source} returned {type(made).__name__}; a torch module is needed")
    return made
