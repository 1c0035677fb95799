"""Class folders to batches of RGB uint8, prepared by worker processes in an order fixed by the seed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from evit_edge.errors import DataError, RequestError
from evit_edge.evaluation.dataset import photos_of_class
from evit_edge.images import read_rgb
from evit_edge.preprocessing import Preprocessing, UInt8Image
from evit_edge.training.config import TrainConfig

_CACHE_MARGIN = 1.5  # decoded photos are kept at most this much larger than the input
_LONGEST_FOLDER = 103 - len("/pymp-12345678/listener-12345678")
"""Bytes of a temporary folder that leave room for the sockets of workers: macOS allows 103 in all, Linux 107."""


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos with the index of their class.

    Attributes:
        paths: Files, in a fixed order.
        class_ids: int64 (len(paths),).
    """

    paths: tuple[Path, ...]
    class_ids: np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Split:
    """What is learnt from, what is measured on, and the names of the classes."""

    train: LabelledPhotos
    val: LabelledPhotos
    labels: tuple[str, ...]


def find_photos(config: TrainConfig) -> Split:
    """Read the class folders.

    Every data folder either has ``train`` and ``val`` inside, or class folders that are split by the seed,
    class by class. Folders of the same (aliased) name are one class.

    Raises:
        DataError: A folder is missing or empty, fewer than two classes are found, or a class of ``val`` has no
            training photos.
    """
    train: dict[str, list[Path]] = {}
    val: dict[str, list[Path]] = {}
    for root in config.data:
        if not root.is_dir():
            raise DataError(f"no folder at {root}; give a folder of class folders, or one with train/ and val/")
        if (root / "train").is_dir():
            _gather(root / "train", config.aliases, train)
            if (root / "val").is_dir():
                _gather(root / "val", config.aliases, val)
            continue
        found: dict[str, list[Path]] = {}
        _gather(root, config.aliases, found)
        for name, paths in found.items():
            held, kept = _hold_out(paths, config)
            val.setdefault(name, []).extend(held)
            train.setdefault(name, []).extend(kept)
    labels = tuple(sorted(train))
    if len(labels) < 2:
        raise DataError(f"{len(labels)} classes with photos in {_names(config.data)}; at least 2 are needed")
    unknown = sorted(set(val) - set(train))
    if unknown:
        raise DataError(f"classes {', '.join(unknown[:5])} are in val but not in train; add photos or an alias")
    return Split(_labelled(train, labels), _labelled(val, labels), labels)


def _gather(folder: Path, aliases: dict[str, str], into: dict[str, list[Path]]) -> None:
    for class_folder in sorted(path for path in folder.glob("[!.]*") if path.is_dir()):
        if paths := photos_of_class(class_folder):
            into.setdefault(aliases.get(class_folder.name, class_folder.name), []).extend(paths)


def _hold_out(paths: list[Path], config: TrainConfig) -> tuple[list[Path], list[Path]]:
    order = np.random.default_rng(config.seed).permutation(len(paths))
    count = round(len(paths) * config.val_fraction)
    return [paths[i] for i in sorted(order[:count])], [paths[i] for i in sorted(order[count:])]


def _labelled(found: dict[str, list[Path]], labels: tuple[str, ...]) -> LabelledPhotos:
    pairs = [(path, i) for i, label in enumerate(labels) for path in found.get(label, [])]
    return LabelledPhotos(tuple(p for p, _ in pairs), np.array([i for _, i in pairs], dtype=np.int64))


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)


def _decode(path: Path, shorter_side: int) -> UInt8Image:
    image = read_rgb(path)
    factor = shorter_side / min(image.shape[:2])
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def decode_all(photos: LabelledPhotos, shorter_side: int, workers: int) -> list[UInt8Image]:
    """Decode every photo once, shrunk to what training can use; order as given.

    Raises:
        DataError: A photo cannot be read.
    """
    decode = partial(_decode, shorter_side=shorter_side)
    if workers <= 1:
        return [decode(path) for path in photos.paths]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(decode, photos.paths, chunksize=32))


class PhotoSource:
    """Decoded photos by index, from memory or from disk."""

    def __init__(self, photos: LabelledPhotos, config: TrainConfig, workers: int) -> None:
        self._paths = photos.paths
        self._side = round(config.image_size * _CACHE_MARGIN)
        self._cached = decode_all(photos, self._side, workers) if config.cache_photos else None

    def __getitem__(self, index: int) -> UInt8Image:
        """RGB uint8 (H, W, 3)."""
        return _decode(self._paths[index], self._side) if self._cached is None else self._cached[index]


class TrainPhotos(Dataset[tuple[Tensor, int]]):
    """Random resized crops, RGB uint8 (S, S, 3) with the class.

    A crop depends on the seed, the pass and the photo alone, not on the worker that makes it.
    """

    def __init__(self, photos: LabelledPhotos, config: TrainConfig, workers: int) -> None:
        self.photos = photos
        self.source = PhotoSource(photos, config, workers)
        self.side = config.image_size
        self.min_area = config.min_crop_area
        self.seed = config.seed

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.photos.paths)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        """Crop photo ``key[1]`` as pass ``key[0]`` has it."""
        turn, index = key
        rng = np.random.default_rng((self.seed, turn, index))
        crop = random_crop(self.source[index], self.side, self.min_area, rng)
        return torch.from_numpy(crop), int(self.photos.class_ids[index])


def random_crop(image: UInt8Image, side: int, min_area: float, rng: np.random.Generator) -> UInt8Image:
    """A random part of the photo, of ``min_area`` to all of its area and aspect 3/4 to 4/3, resized.

    Source: Szegedy et al., "Going deeper with convolutions" (2015), section 6; here with a lower bound that
    suits small data.

    Returns:
        RGB uint8 (side, side, 3).
    """
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(min_area, 1.0)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = max(1, round((area * aspect) ** 0.5)), max(1, round((area / aspect) ** 0.5))
        if w <= width and h <= height:
            break
    else:
        w = h = min(height, width)
    left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    part = image[top : top + h, left : left + w]
    enlarging = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(2))]
    interpolation = cv2.INTER_AREA if min(w, h) > side else enlarging
    return np.asarray(cv2.resize(part, (side, side), interpolation=interpolation), dtype=np.uint8)


class EvalPhotos(Dataset[tuple[Tensor, int]]):
    """The square that every consumer of the model sees, RGB uint8 (S, S, 3), with the class."""

    def __init__(self, photos: LabelledPhotos, preprocessing: Preprocessing) -> None:
        self.photos = photos
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.photos.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Prepare one photo."""
        image = self.preprocessing.apply(read_rgb(self.photos.paths[index]))
        return torch.from_numpy(image.copy()), int(self.photos.class_ids[index])


class EpochOrder(Sampler[list[tuple[int, int]]]):
    """Batches of (pass, index): a permutation by seed and pass, dealt out to the processes.

    The last, incomplete batch is left out, so that every process makes the same number of equal steps; data
    smaller than one batch is repeated to fill one.
    """

    def __init__(self, count: int, config: TrainConfig, rank: int, world: int) -> None:
        self.count = count
        self.seed = config.seed
        self.passes = config.passes_per_epoch
        self.local = max(1, config.batch_size // world)
        self.rank, self.world = rank, world
        self.epoch = 0

    def __len__(self) -> int:
        """Steps in an epoch."""
        return self.passes * self._steps

    @property
    def _steps(self) -> int:
        return max(1, self.count // (self.local * self.world))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """This process's batches of the epoch."""
        for turn in range(self.epoch * self.passes, (self.epoch + 1) * self.passes):
            order = np.random.default_rng((self.seed, turn)).permutation(self.count)
            order = np.resize(order, self._steps * self.local * self.world)
            for batch in order.reshape(self._steps, self.world, self.local)[:, self.rank]:
                yield [(turn, int(i)) for i in batch]


def worker_count(config: TrainConfig) -> int:
    """Processes that prepare photos: what is asked for, else one less than the cores (at least 1).

    Raises:
        RequestError: They would hand over photos through sockets whose paths are longer than the system allows.
    """
    workers = config.workers if config.workers >= 0 else max(1, min(16, len(os.sched_getaffinity(0)) - 1))
    folder = tempfile.gettempdir()
    length = len(os.fsencode(folder))
    if workers and os.name == "posix" and length > _LONGEST_FOLDER:
        raise RequestError(
            f"temporary folder {folder} is {length} bytes long, and the sockets of worker processes allow "
            f"{_LONGEST_FOLDER}; set TMPDIR to a shorter folder, or ask for --workers 0"
        )
    return workers


def train_loader(
    photos: LabelledPhotos, config: TrainConfig, rank: int, world: int
) -> tuple[DataLoader[tuple[Tensor, int]], EpochOrder]:
    """Batches of uint8 (B, S, S, 3) and int64 (B,); set ``epoch`` on the order before each pass."""
    workers = worker_count(config)
    order = EpochOrder(len(photos.paths), config, rank, world)
    loader = DataLoader(
        TrainPhotos(photos, config, workers),
        batch_sampler=order,  # keys are (epoch, index)
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_single_threaded,
        # Starting workers draws a seed; from the global generator, a resumed run would draw other noise.
        generator=torch.Generator(),
    )
    return loader, order


def _single_threaded(_: int) -> None:
    cv2.setNumThreads(0)  # the workers are the threads


def eval_batches(
    photos: LabelledPhotos, preprocessing: Preprocessing, workers: int
) -> list[tuple[Tensor, Tensor]]:
    """All photos, prepared once: uint8 (B, S, S, 3) and int64 (B,)."""
    loader = DataLoader(EvalPhotos(photos, preprocessing), batch_size=128, num_workers=workers)
    return [(images, class_ids) for images, class_ids in loader]
