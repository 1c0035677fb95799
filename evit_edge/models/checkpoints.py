"""Weights in and out: our ``.safetensors``, timm's ``.safetensors`` or ``.pth``, the paper's ``.pth``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evit_edge.errors import ArtefactError, CheckpointError, OutputError, RequestError
from evit_edge.files import replacing, sha256_of
from evit_edge.models.config import EfficientViTConfig, variant
from evit_edge.models.design import PartWidths
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.models.sources import resolve
from evit_edge.models.statedict import adapt, infer_config, normalise_names
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.checks.archive import check_archive
from evit_edge.runtime.checks.limits import Limits, shown
from evit_edge.strict_json import from_json, to_json

FORMAT = "evit-edge/1"
_MOST_UNSEEN_CLASSES = 100_000


@dataclass(frozen=True)
class Checkpoint:
    """A network with everything that goes with its weights.

    Attributes:
        model: The network in eval mode, on the CPU, float32.
        labels: One name per class, where known.
        preprocessing: How a picture becomes an input.
        aliases: Folder names that mean a label, such as ``Faces_easy`` for ``Faces``.
        sha256: Of the file's bytes, hex.
        name: Short name of the model, for files made from it.
        notes: What was changed while loading, one sentence each; to be shown to the user.
    """

    model: EfficientViT
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing
    aliases: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    name: str = "model"
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> EfficientViTConfig:
        """The network's configuration."""
        return self.model.config


def load_checkpoint(
    source: str | Path,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    limits: Limits | None = None,
) -> Checkpoint:
    """Build the network that a checkpoint belongs to and fill it.

    Args:
        source: A path, ``hf:OWNER/NAME`` on the Hugging Face hub, or ``everyday`` (shipped).
        model: Variant that the weights must be of; read off their shapes if not given.
        num_classes: Classes wanted; where the file has another number, the classifier starts anew.
        image_size: Input side wanted, in pixels; where the attention window changes, its position
            biases are interpolated.
        limits: For the size of the file, packed and unpacked; the default limits where None.

    Raises:
        CheckpointError: The file is unreadable, of another model, has mis-shaped or missing weights, or NaN.
        RequestError: The model or the image size does not exist.
    """
    path, default_name = resolve(source)
    state, metadata = read_weights(path, limits)
    described = _described(metadata, path)
    state = normalise_names(state)
    found = described.config or infer_config(state, model, path)
    _check_classes(found, state, path)
    if model is not None and found.name not in (model, f"efficientvit_{model}"):
        raise CheckpointError(f"{path} holds {found.name}; {model} was asked for")
    config = found.adapted(num_classes=num_classes, image_size=image_size)
    network = EfficientViT(config)
    adapted, notes = adapt(state, network, path)
    network.load_state_dict(adapted)
    network.eval()
    kept = config.num_classes == found.num_classes
    preprocessing = described.preprocessing or Preprocessing(image_size=config.image_size)
    if preprocessing.image_size != config.image_size:
        preprocessing = Preprocessing(**{**preprocessing.to_json(), "image_size": config.image_size})
    return Checkpoint(
        model=network,
        labels=described.labels if kept else None,
        preprocessing=preprocessing,
        aliases=described.aliases if kept else {},
        sha256=sha256_of(path),
        name=described.name or default_name,
        notes=notes,
    )


def _check_classes(config: EfficientViTConfig, state: dict[str, Tensor], path: Path) -> None:
    """Refuse a number of classes that is not the classifier's, before a network of that size is built."""
    head = state.get("head.linear.weight")
    if head is not None and (head.dim() != 2 or head.shape[0] != config.num_classes):
        raise CheckpointError(
            f"{path} says {config.num_classes} classes and its head.linear.weight has shape {tuple(head.shape)}"
        )
    if head is None and config.num_classes > _MOST_UNSEEN_CLASSES:
        raise CheckpointError(f"{path} says {config.num_classes} classes and holds no head.linear.weight")


def save_checkpoint(
    path: Path,
    model: EfficientViT,
    *,
    name: str,
    labels: tuple[str, ...] | None,
    preprocessing: Preprocessing,
    aliases: dict[str, str] | None = None,
    training: dict[str, Any] | None = None,
) -> None:
    """Write weights as ``.safetensors``, with all that is needed to use them in its metadata.

    The tensors' names are timm's, float32.

    Raises:
        OutputError: The file cannot be written there.
        RequestError: The labels do not fit the classifier.
    """
    if labels is not None and len(labels) != model.config.num_classes:
        raise RequestError(f"{len(labels)} labels given for {model.config.num_classes} classes")
    metadata = {
        "format": FORMAT,
        "name": name,
        "model": model.config.name,
        "num_classes": str(model.config.num_classes),
        "image_size": str(model.config.image_size),
        "preprocessing": json.dumps(preprocessing.to_json()),
        "labels": json.dumps(labels, ensure_ascii=False),
        "aliases": json.dumps(aliases or {}, ensure_ascii=False),
        "training": json.dumps(training or {}, ensure_ascii=False),
    }
    if model.config.pruned:  # what no older version needs to know is not said to it
        metadata["pruned"] = json.dumps(to_json(model.config.pruned))
    tensors = {
        key: value.detach().cpu().contiguous()
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as exc:  # a full disk, as the library tells it
            raise OutputError(f"{path} cannot be written: {exc}") from exc


def read_weights(path: Path, limits: Limits | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the string metadata of a ``.safetensors`` or pickled (weights only) file.

    Nothing in the file is executed: of a pickle, only what makes up tensors is unpickled.

    Args:
        path: The file.
        limits: For its size, packed and unpacked; the default limits where None.

    Raises:
        CheckpointError: There is no such file, it is neither, or it is too large.
    """
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint at {path}; give a .safetensors or .pth file, hf:OWNER/NAME or everyday"
        )
    _check_size(path, limits or Limits())
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
                return state, file.metadata() or {}
        except (SafetensorError, OSError, ValueError) as exc:
            raise CheckpointError(f"{path} is not a readable .safetensors file: {exc}") from exc
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # on damaged files the unpickler raises nearly anything
        reason = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        raise CheckpointError(f"{path} cannot be read as weights only: {reason}") from exc
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} holds no table of tensors; a state dict, plain or under 'model', is needed")
    for key, value in loaded.items():
        _check_stored(str(key), value, path)
    return {str(key): value for key, value in loaded.items()}, {}


def _check_size(path: Path, limits: Limits) -> None:
    """Refuse a file that is larger than the memory limit, or an archive that unpacks to more."""
    try:
        size = path.stat().st_size
        if size > limits.memory_bytes:
            raise ArtefactError(f"{shown(size)}; the limit is {shown(limits.memory_bytes)} (--memory-limit)")
        if path.suffix != ".safetensors":
            with path.open("rb") as file:
                check_archive(file, limits.memory_bytes, "the archive of its tensors")
    except (ArtefactError, OSError) as exc:
        raise CheckpointError(f"{path} cannot be read: {exc}") from exc


def _check_stored(key: str, value: Tensor, path: Path) -> None:
    """Refuse a tensor of another kind than plain numbers, or with more entries than were stored for it.

    Strides of 0 make 100 GiB of one number; what copies such a tensor needs the memory.
    """
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        raise CheckpointError(f"{path} holds {key!r} as {value.layout} {value.dtype}; plain tensors are accepted")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        stored = value.untyped_storage().nbytes()
        raise CheckpointError(f"{path} holds {key!r} with shape {tuple(value.shape)} and {stored} bytes of data")


@dataclass(frozen=True)
class _Described:
    """What our own metadata says; all empty for a foreign file."""

    config: EfficientViTConfig | None = None
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    name: str | None = None


def _pruned(metadata: dict[str, str]) -> tuple[PartWidths, ...]:
    return tuple(from_json(PartWidths, entry) for entry in json.loads(metadata.get("pruned", "[]")))


def _described(metadata: dict[str, str], path: Path) -> _Described:
    if not metadata.get("format", "").startswith("evit-edge/"):
        return _Described()
    if metadata["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {metadata['format']}; this version reads {FORMAT}")
    try:
        labels = json.loads(metadata["labels"])
        config = variant(metadata["model"]).adapted(
            num_classes=int(metadata["num_classes"]), image_size=int(metadata["image_size"])
        )
        return _Described(
            config=replace(config, pruned=_pruned(metadata)),
            labels=None if labels is None else tuple(str(label) for label in labels),
            preprocessing=Preprocessing.from_json(json.loads(metadata["preprocessing"])),
            aliases={str(key): str(value) for key, value in json.loads(metadata["aliases"]).items()},
            name=metadata["name"],
        )
    except (KeyError, ValueError, TypeError, AttributeError, RequestError) as exc:
        raise CheckpointError(f"{path} carries broken metadata: {exc!r}") from exc
