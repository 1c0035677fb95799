"""``analyze heads``: how alike the heads of a network attend, as in figure 4 of the EfficientViT paper.

For each photo and each attention, the map of a head, all its queries and keys as one vector, is compared with
those of the other heads by cosine similarity; the largest counts. That is averaged over photos and windows.
Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_calibration.errors import PhotosError
from evit_calibration.photos import PhotoReader, list_photos, sample_photos
from evit_edge import __version__
from evit_edge.analysis.attention_maps import watched
from evit_edge.analysis.heads_report import BlockHeads, HeadsReport, ModelHeads
from evit_edge.analysis.networks import Network, open_network
from evit_edge.errors import DataError, RequestError
from evit_edge.images import read_rgb
from evit_edge.preprocessing import Preprocessing, UInt8Image
from evit_edge.profiling.request import Tell


@dataclass(frozen=True)
class HeadsRequest:
    """What to analyse.

    Attributes:
        models: As :func:`evit_edge.analysis.networks.open_network` takes them.
        photos: Folders of photos, searched at any depth.
        count: Photos to look at, at most.
        seed: Of their choice.
        batch: Photos at a time.
        image_size: Side of the input in pixels; each network's own where not given.
        pretrained: Of timm's models: download trained weights.
        threads: Of torch.
        command: The command line, for the record.
    """

    models: tuple[str, ...]
    photos: tuple[Path, ...]
    count: int = 64
    seed: int = 0
    batch: int = 8
    image_size: int | None = None
    pretrained: bool = False
    threads: int = 1
    command: str = ""

    def __post_init__(self) -> None:
        """There are models and photos, and counts are positive."""
        if not self.models or not self.photos:
            raise RequestError("no model or no photos given; give a model and --photos DIR")
        if min(self.count, self.batch, self.threads) < 1 or self.seed < 0:
            raise RequestError(
                f"{self.count} photos, batch {self.batch}, {self.threads} threads, seed {self.seed} given; at "
                "least 1, 1, 1 and 0 are needed"
            )


def analyze_heads(request: HeadsRequest, tell: Tell = lambda _what, _share: None) -> HeadsReport:
    """Compare the heads' attention maps on photos.

    Args:
        request: The models and the photos.
        tell: Called with what is being done and the share of it that is done.

    Raises:
        RequestError: A model does not exist, or has no attention of two heads.
        CheckpointError: Weights cannot be used.
        DataError: The photos cannot be used.
        MissingExtraError: timm is not installed.
    """
    torch.set_num_threads(request.threads)
    paths = _chosen(request)
    networks = [
        open_network(source, image_size=request.image_size, pretrained=request.pretrained)
        for source in request.models
    ]
    models, bad = [], 0
    for i, network in enumerate(networks):
        reader = _reader(paths, network.preprocessing)
        tally = _Tally()
        for batch in _batches(_read(reader), request.batch):
            tally.add(network, batch)
            tell(network.name, (i + (len(reader.used) + len(reader.bad)) / len(paths)) / len(networks))
        models.append(tally.report(network))
        bad = len(reader.bad)
    return HeadsReport(
        photos=len(paths) - bad,
        unreadable=bad,
        models=tuple(models),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        tool_version=__version__,
    )


def head_similarity(maps: Tensor) -> tuple[Tensor, Tensor]:
    """How alike each head attends to the head that is most like it.

    Args:
        maps: Attention maps, float (N, heads, queries, keys), at least two heads.

    Returns:
        The largest cosine similarity to another head, and the same without each map's mean; (N, heads) each.
    """
    vectors = maps.flatten(2).double()  # (N, heads, queries * keys)
    return _nearest(vectors), _nearest(vectors - vectors.mean(dim=2, keepdim=True))


def sees_splits(attention: nn.Module) -> bool:
    """Whether each head of an attention sees a part of the channels.

    Group attention, ours and timm's, has a projection to query, key and value for each head: ``qkvs``. It sees
    splits where that takes fewer channels than the whole gives.
    """
    qkvs, proj = getattr(attention, "qkvs", None), getattr(attention, "proj", None)
    if not isinstance(qkvs, nn.Module) or not isinstance(proj, nn.Module):
        return False
    ends = [[m for m in part.modules() if isinstance(m, nn.Conv2d)] for part in (qkvs, proj)]
    return all(ends) and ends[0][0].in_channels < ends[1][-1].out_channels


def _nearest(vectors: Tensor) -> Tensor:
    unit = F.normalize(vectors, dim=2)
    cosine = unit @ unit.transpose(1, 2)  # (N, heads, heads)
    heads = cosine.shape[1]
    return cosine.masked_fill(torch.eye(heads, dtype=torch.bool), -torch.inf).amax(dim=2)  # (N, heads)


class _Tally:
    """Sums over photos, for each attention."""

    def __init__(self) -> None:
        self._blocks: dict[str, tuple[bool, int, Tensor, Tensor, int]] = {}
        self._single: set[str] = set()

    def add(self, network: Network, squares: list[UInt8Image]) -> None:
        """Look at some photos, RGB uint8 (S, S, 3) each."""
        with watched(network.module, self._found):
            network.module(network.batch(squares))

    def _found(self, name: str, module: nn.Module, maps: Tensor) -> None:
        if maps.shape[1] < 2:
            self._single.add(name)
            return
        cosine, correlation = (values.sum(dim=0) for values in head_similarity(maps))  # (heads,) each
        before = self._blocks.get(name)
        count = len(maps)
        if before is not None:
            cosine, correlation, count = cosine + before[2], correlation + before[3], count + before[4]
        self._blocks[name] = (sees_splits(module), maps.shape[2], cosine, correlation, count)

    def report(self, network: Network) -> ModelHeads:
        """Averages.

        Raises:
            RequestError: There is nothing to compare.
        """
        if not self._blocks:
            raise RequestError(
                f"{network.name} has no attention of two heads and more; give a model with softmax attention"
            )
        blocks = tuple(
            BlockHeads(
                name=name,
                splits=splits,
                maps=count,
                tokens=tokens,
                cosine=tuple((cosine / count).tolist()),
                correlation=tuple((correlation / count).tolist()),
            )
            for name, (splits, tokens, cosine, correlation, count) in self._blocks.items()
        )
        return ModelHeads(network.name, network.trained, blocks, len(self._single))


def _chosen(request: HeadsRequest) -> list[Path]:
    try:
        found = [path for folder in request.photos for path in list_photos(folder)]
        return sample_photos(found, request.count, request.seed)
    except PhotosError as exc:
        raise DataError(str(exc)) from exc


def _reader(paths: list[Path], rule: Preprocessing) -> PhotoReader:
    return PhotoReader(paths, lambda path: rule.apply(read_rgb(path)), bad_errors=(DataError,))


def _read(reader: PhotoReader) -> Iterator[UInt8Image]:
    try:
        yield from reader
    except PhotosError as exc:
        raise DataError(str(exc)) from exc


def _batches(squares: Iterator[UInt8Image], size: int) -> Iterator[list[UInt8Image]]:
    """Some at a time; the last may be fewer."""
    while batch := list(islice(squares, size)):
        yield batch
