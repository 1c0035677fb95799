"""Fitting foreign state dicts to our network: names, position biases, the classifier."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from evit_edge.errors import CheckpointError
from evit_edge.models.attention import Placement
from evit_edge.models.config import VARIANTS, EfficientViTConfig, variant
from evit_edge.models.efficientvit import EfficientViT

_DERIVED = ("attention_bias_idxs", "num_batches_tracked", ".ab")
_SUBSAMPLE = ("downsample.res1", "downsample.patchmerge", "downsample.res2")
_CLASSIFIER = ("head.linear.weight", "head.linear.bias")


def normalise_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the released checkpoints' tensors to ours (which are timm's); drop what is derived.

    The released models number their parts: ``patch_embed.0/2/4/6``, ``blocks1..3``, where in blocks2 and
    blocks3 entries 0 to 2 are the subsample block; a convolution is ``c``, a linear layer ``l``.
    """
    renamed: dict[str, Tensor] = {}
    for original, value in state.items():
        key = original.removeprefix("module.")
        if key.endswith(_DERIVED):
            continue
        key = re.sub(r"\.c\.(weight|bias)$", r".conv.\1", key)
        key = re.sub(r"^head\.l\.", "head.linear.", key)
        key = re.sub(r"^patch_embed\.(\d)\.", lambda m: f"patch_embed.conv{int(m[1]) // 2 + 1}.", key)
        renamed[re.sub(r"^blocks(\d)\.(\d+)\.", _stage_name, key)] = value
    return renamed


def _stage_name(match: re.Match[str]) -> str:
    stage, position = int(match[1]) - 1, int(match[2])
    if stage and position < 3:
        return f"stages.{stage}.{_SUBSAMPLE[position]}."
    return f"stages.{stage}.blocks.{position - 3 if stage else position}."


def infer_config(state: dict[str, Tensor], model: str | None, path: Path) -> EfficientViTConfig:
    """Tell the variant and the number of classes from the shapes.

    Raises:
        CheckpointError: The shapes are of no known variant.
    """
    head = state.get("head.linear.weight")
    classes = 1000 if head is None or head.dim() != 2 else head.shape[0]
    if model is not None:
        return variant(model).adapted(num_classes=classes)
    for config in VARIANTS.values():
        widths = [(f"stages.{i}.blocks.0.dw0.m.conv.weight", dim) for i, dim in enumerate(config.embed_dims)]
        if all(key in state and state[key].shape[:1] == (dim,) for key, dim in widths):
            return config.adapted(num_classes=classes)
    raise CheckpointError(
        f"{path} holds the weights of no EfficientViT ({len(state)} tensors, first {next(iter(state), 'none')}); "
        f"known are {', '.join(VARIANTS)}"
    )


def adapt(state: dict[str, Tensor], model: EfficientViT, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Make a state dict loadable into ``model``, or say exactly why it is not.

    Returns:
        The complete state dict, and a sentence for each change.

    Raises:
        CheckpointError: Names the missing, unexpected and mis-shaped tensors, or those with NaN or infinity.
    """
    target = {key: value for key, value in model.state_dict().items() if not key.endswith(_DERIVED)}
    fitted = dict(state)
    notes = [*_resize_biases(fitted, target), *_replace_classifier(fitted, target)]
    missing = sorted(target.keys() - fitted.keys())
    unexpected = sorted(fitted.keys() - target.keys())
    shapes = [
        f"{key} {tuple(fitted[key].shape)} instead of {tuple(target[key].shape)}"
        for key in sorted(target.keys() & fitted.keys())
        if fitted[key].shape != target[key].shape
    ]
    if missing or unexpected or shapes:
        found = {"missing": missing, "unexpected": unexpected, "wrong shape": shapes}
        listed = "; ".join(f"{kind}: {_some(names)}" for kind, names in found.items() if names)
        raise CheckpointError(f"{path} does not fit {model.config.name}: {listed}")
    broken = [key for key, value in fitted.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(f"{path} has NaN or infinity in {_some(sorted(broken))}")
    _check_placements(fitted, model, path)
    complete = {**model.state_dict(), **{key: value.float() for key, value in fitted.items()}}
    return complete, tuple(notes)


def _check_placements(state: dict[str, Tensor], model: EfficientViT, path: Path) -> None:
    """What pruning left of a head's output has each its own place."""
    for name, module in model.named_modules():
        if isinstance(module, Placement):
            index = state[f"{name}.index"].long()
            if int(index.min()) < 0 or int(index.max()) >= module.split or bool((index.diff() < 1).any()):
                raise CheckpointError(
                    f"{path} has places in {name}.index that are none of 0 to {module.split - 1}"
                )


def _some(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _resize_biases(state: dict[str, Tensor], target: dict[str, Tensor]) -> list[str]:
    """Interpolate the table of position biases, (heads, w*w), to another window (bicubic, as timm does)."""
    resized: set[tuple[int, int]] = set()
    for key, wanted in target.items():
        given = state.get(key)
        if not key.endswith("attention_biases") or given is None or given.shape == wanted.shape:
            continue
        if given.dim() != 2 or given.shape[0] != wanted.shape[0]:
            continue
        old, new = round(given.shape[1] ** 0.5), round(wanted.shape[1] ** 0.5)
        if old * old != given.shape[1]:
            continue
        table = given.float().reshape(1, -1, old, old)  # (1, heads, old, old)
        table = F.interpolate(table, size=(new, new), mode="bicubic", antialias=True)  # (1, heads, new, new)
        state[key] = table.reshape(-1, new * new)  # (heads, new*new)
        resized.add((old, new))
    return [f"position biases resized from {old}x{old} to {new}x{new} tokens" for old, new in sorted(resized)]


def _replace_classifier(state: dict[str, Tensor], target: dict[str, Tensor]) -> list[str]:
    weight = state.get(_CLASSIFIER[0])
    wanted = target[_CLASSIFIER[0]]
    if (
        weight is None
        or weight.dim() != 2
        or weight.shape[0] == wanted.shape[0]
        or weight.shape[1] != wanted.shape[1]
    ):
        return []
    for key in _CLASSIFIER:
        state[key] = target[key]
    return [f"classifier for {weight.shape[0]} classes replaced by an untrained one for {wanted.shape[0]}"]
