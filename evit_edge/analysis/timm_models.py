"""timm's models, where timm is installed. It is no dependency of this package."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch
from torch import nn

from evit_edge.errors import MissingExtraError, RequestError
from evit_edge.preprocessing import Interpolation, Preprocessing

_LIBRARIES: list[Any] = []  # torch forgets a schema together with its Library object


def timm_network(name: str, image_size: int | None, *, pretrained: bool) -> tuple[str, nn.Module, Preprocessing]:
    """Make one of timm's models.

    Args:
        name: As timm knows it, such as ``deit_tiny_patch16_224``.
        image_size: Side of the input in pixels; the model's own where not given.
        pretrained: Download trained weights.

    Returns:
        Its name, the module, and how timm prepares a photo for it.

    Raises:
        MissingExtraError: timm is not installed or cannot be imported.
        RequestError: timm has no such model, or it takes no such size, or its weights cannot be had.
    """
    timm = _timm()
    if not timm.is_model(name):
        known = timm.list_models(f"*{name.partition('_')[0]}*")[:5]
        near = f"; near it: {', '.join(known)}" if known else ""
        raise RequestError(f"timm {timm.__version__} has no model {name!r}{near}")
    torch.manual_seed(0)
    try:
        module = _created(timm, name, image_size, pretrained)
    except Exception as exc:  # its own, torch's, the hub client's
        raise RequestError(f"timm cannot make {name}: {str(exc).strip().splitlines()[0]}") from exc
    return name, module, _rule(module.pretrained_cfg, image_size)


def _timm() -> Any:
    try:
        importlib.import_module("torchvision")
    except ImportError:
        pass  # timm says so itself
    except RuntimeError:  # its compiled part fits no CPU build of torch: declare what its Python part wants
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor a, Tensor b, float c) -> Tensor")
        library.define("qnms(Tensor a, Tensor b, float c) -> Tensor")
        _LIBRARIES.append(library)
    try:
        timm: ModuleType = importlib.import_module("timm")
    except ImportError as exc:
        raise MissingExtraError(
            f"timm:NAME needs timm and torchvision ({exc}): pip install timm torchvision"
        ) from exc
    return timm


def _created(timm: Any, name: str, image_size: int | None, pretrained: bool) -> nn.Module:
    own = timm.get_pretrained_cfg(name)
    if image_size is None or own is None or own.input_size[1] == image_size:
        module: nn.Module = timm.create_model(name, pretrained=pretrained)
        return module
    try:
        module = timm.create_model(name, pretrained=pretrained, img_size=image_size)
    except TypeError:  # a convolutional net: takes any size
        module = timm.create_model(name, pretrained=pretrained)
    return module


def _rule(told: Any, image_size: int | None) -> Preprocessing:
    """How timm prepares a photo; its filters other than bilinear are taken as bicubic."""
    bilinear = told.get("interpolation") == Interpolation.BILINEAR
    return Preprocessing(
        image_size=image_size or int(told["input_size"][1]),
        crop_fraction=float(told.get("crop_pct") or 0.875),
        interpolation=Interpolation.BILINEAR if bilinear else Interpolation.BICUBIC,
        mean=tuple(told["mean"]),
        std=tuple(told["std"]),
    )
