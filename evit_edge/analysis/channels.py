"""``analyze channels``: which channels a network needs (figure 5 of the EfficientViT paper). Imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from evit_calibration.errors import PhotosError
from evit_calibration.photos import PhotoReader, sample_photos
from evit_edge import __version__
from evit_edge.analysis.channel_gates import Batch, importances, quality
from evit_edge.analysis.channels_report import (
    ChannelGroup,
    ChannelKind,
    ChannelsReport,
    kept_channels,
)
from evit_edge.analysis.networks import Network
from evit_edge.errors import DataError, RequestError
from evit_edge.evaluation.dataset import class_ids, label_photos
from evit_edge.images import read_rgb
from evit_edge.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from evit_edge.models.complexity import count
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.models.pruning import KeptChannels, prune
from evit_edge.profiling.request import Tell
from evit_edge.publishing import publishing
from evit_edge.runtime.torch_checkpoint import TorchRunner
from evit_edge.strict_json import to_json
from evit_edge.tensors import UInt8Images

_BATCH = 16


@dataclass(frozen=True)
class ChannelsRequest:
    """What to analyse.

    Attributes:
        weights: A checkpoint, ``hf:OWNER/NAME`` or ``everyday``.
        photos: Folders with one folder for each class.
        keep: Part of the channels that shall stay, in (0, 1].
        steps: Rounds in which it is reached: what is left is measured anew in each.
        count: Photos to look at, at most.
        seed: Of their choice.
        aliases: Folder name to label, for folders that are named otherwise.
        threads: Of torch.
        command: The command line, for the record.
    """

    weights: str
    photos: tuple[Path, ...]
    keep: float = 0.5
    steps: int = 4
    count: int = 512
    seed: int = 0
    aliases: tuple[tuple[str, str], ...] = ()
    threads: int = 1
    command: str = ""

    def __post_init__(self) -> None:
        """There are photos, and figures are in range."""
        if not self.photos:
            raise RequestError("no photos given; give --photos DIR with one folder for each class")
        if not 0 < self.keep <= 1:
            raise RequestError(f"keep {self.keep} given; a part of the channels in (0, 1] is needed")
        if min(self.count, self.steps, self.threads) < 1 or self.seed < 0:
            raise RequestError(
                f"{self.count} photos, {self.steps} steps, {self.threads} threads, seed {self.seed} given; "
                "at least 1, 1, 1 and 0 are needed"
            )


@dataclass(frozen=True)
class LabelledSquares:
    """Photos as a model sees them.

    Attributes:
        squares: RGB uint8 (N, S, S, 3).
        truth: int64 (N,), the right class id among the model's.
        unreadable: Photos that are left out.
    """

    squares: UInt8Images
    truth: npt.NDArray[np.int64]
    unreadable: int = 0

    def batches(self, network: Network, told: Callable[[float], None] = lambda _share: None) -> Iterator[Batch]:
        """Cut into batches, normalised as the network wants it."""
        for start in range(0, len(self.truth), _BATCH):
            part = slice(start, start + _BATCH)
            yield network.batch(list(self.squares[part])), torch.from_numpy(self.truth[part])
            told(min(1.0, (start + _BATCH) / len(self.truth)))


def analyze_channels(
    request: ChannelsRequest, tell: Tell = lambda _what, _share: None
) -> tuple[ChannelsReport, Checkpoint]:
    """Measure what each channel counts, and prune to a budget.

    Args:
        request: The model, the photos, the budget.
        tell: Called with what is being done and the share of it that is done.

    Returns:
        The figures, and the pruned network with all that belongs to the original.

    Raises:
        CheckpointError: The weights cannot be used.
        DataError: The photos cannot be used, or a class of theirs is none of the model's.
    """
    torch.set_num_threads(request.threads)
    tell("reading the weights", 0.0)
    checkpoint = load_checkpoint(request.weights)
    photos = read_labelled(request, checkpoint, lambda share: tell("reading the photos", share))
    network = Network(checkpoint.name, checkpoint.model, checkpoint.preprocessing, trained=True)
    batches = partial(photos.batches, network, lambda share: tell("following the gradients", share))
    groups, pruned = prune_in_steps(checkpoint.model, batches, request.keep, request.steps)
    tell("comparing the answers", 0.0)
    report = ChannelsReport(
        name=checkpoint.name,
        architecture=checkpoint.config.title,
        weights_sha256=checkpoint.sha256,
        photos=len(photos.truth),
        unreadable=photos.unreadable,
        keep=request.keep,
        steps=request.steps,
        groups=tuple(groups),
        before=count(checkpoint.config),
        after=count(pruned.config),
        quality_before=quality(checkpoint.model, photos.batches(network)),
        quality_after=quality(pruned, photos.batches(network)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        tool_version=__version__,
    )
    return report, replace(checkpoint, model=pruned, name=f"{checkpoint.name}-pruned")


def read_labelled(
    request: ChannelsRequest, checkpoint: Checkpoint, told: Callable[[float], None] = lambda _share: None
) -> LabelledSquares:
    """Read a sample of the photos, as the checkpoint's rule cuts them.

    Raises:
        DataError: There are none, more than 5 % cannot be read, or a class is none of the model's.
    """
    info = TorchRunner(checkpoint, Path(request.weights), threads=request.threads).info
    labelled = label_photos(request.photos, [info], dict(request.aliases))
    ids = class_ids(labelled.classes, info)[labelled.truth]
    truth = dict(zip(labelled.paths, ids, strict=True))
    sample = sample_photos(labelled.paths, request.count, request.seed)
    reader = PhotoReader(sample, lambda path: info.preprocessing.apply(read_rgb(path)), bad_errors=(DataError,))
    squares = []
    try:
        for square in reader:
            squares.append(square)
            told(len(squares) / len(sample))
    except PhotosError as exc:
        raise DataError(str(exc)) from exc
    return LabelledSquares(np.stack(squares), np.array([truth[path] for path in reader.used]), len(reader.bad))


def prune_in_steps(
    model: EfficientViT, batches: Callable[[], Iterable[Batch]], keep: float, steps: int
) -> tuple[list[ChannelGroup], EfficientViT]:
    """Take the least important channels away, a share in each step, and measure what is left anew.

    An estimate of first order holds for small changes; all at once, whole feed-forward networks would go.

    Args:
        model: In eval mode; left as it is.
        batches: Called once for each step.
        keep: Part of the channels that stays in the end, in (0, 1].
        steps: At least 1.

    Returns:
        The groups of ``model`` with what is kept of each, and the pruned network.
    """
    groups = left = importances(model, batches())
    kept = [np.arange(len(group.importance)) for group in groups]
    total, network = sum(len(channels) for channels in kept), model
    for step in range(1, steps + 1):
        if step > 1:
            left = importances(network, batches())
        budget = round(keep ** (step / steps) * total)
        chosen = kept_channels([np.array(group.importance) for group in left], budget)
        stay = [replace(group, kept=channels) for group, channels in zip(left, chosen, strict=True)]
        network = prune(network, kept_parts(stay))
        kept = [channels[list(some)] for channels, some in zip(kept, chosen, strict=True)]
        if keep == 1:
            break
    named = [tuple(int(i) for i in channels) for channels in kept]
    return [replace(group, kept=channels) for group, channels in zip(groups, named, strict=True)], network


def kept_parts(groups: Iterable[ChannelGroup]) -> list[KeptChannels]:
    """What the budget leaves of each part, its heads together."""
    together: dict[str, list[ChannelGroup]] = {}
    for group in groups:
        together.setdefault(group.part, []).append(group)
    return [
        KeptChannels(
            part,
            keys=tuple(group.kept for group in found if group.kind is ChannelKind.QK),
            values=tuple(group.kept for group in found if group.kind is ChannelKind.V),
            hidden=next((group.kept for group in found if group.kind is ChannelKind.FFN), ()),
        )
        for part, found in together.items()
    ]


def write_pruned(folder: Path, report: ChannelsReport, pruned: Checkpoint, *, overwrite: bool = False) -> Path:
    """Write the pruned network's weights, and its configuration for people to read.

    Args:
        folder: Gets ``NAME.safetensors``, which carries all that is needed, and ``NAME.json``.
        report: What the pruning went by.
        pruned: The network.
        overwrite: Whether files of the same names may be replaced.

    Returns:
        The weights' path.

    Raises:
        OutputError: The folder cannot be written, or the files exist.
    """
    weights = folder / f"{pruned.name}.safetensors"
    origin = {
        "pruned_from": report.weights_sha256,
        "keep": report.keep,
        "steps": report.steps,
        "photos": report.photos,
    }
    with publishing(folder, last=weights.name, overwrite=overwrite) as temporary:
        config = json.dumps(to_json(pruned.config), indent=2) + "\n"
        (temporary / weights.with_suffix(".json").name).write_text(config, encoding="utf-8")
        save_checkpoint(
            temporary / weights.name,
            pruned.model,
            name=pruned.name,
            labels=pruned.labels,
            preprocessing=pruned.preprocessing,
            aliases=pruned.aliases,
            training=origin,
        )
    return weights
