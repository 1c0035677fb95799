"""Asking several models about the same photos, each photo decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from evit_calibration.errors import PhotosError
from evit_calibration.photos import BadPhoto, PhotoReader
from evit_edge.errors import DataError
from evit_edge.evaluation.dataset import LabelledPhotos, class_ids
from evit_edge.images import read_rgb
from evit_edge.preprocessing import Preprocessing, UInt8Image
from evit_edge.runtime.info import ModelInfo, Runner
from evit_edge.tensors import Float32Array

TOP = 5
_BATCH = 32

Kept = TypeVar("Kept", bound=np.generic)

Progress = Callable[[int], None]
"""Called with the number of photos just done."""


@dataclass(frozen=True)
class Predictions:
    """What one model answered.

    Attributes:
        info: The model.
        ranked: int64 (N, k), class ids of the k = min(5, classes) best scores, best first.
        truth: int64 (N,), the right class id among the model's.
    """

    info: ModelInfo
    ranked: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]

    @property
    def top1(self) -> npt.NDArray[np.bool_]:
        """Whether the best score is the right class's; bool (N,)."""
        right: npt.NDArray[np.bool_] = self.ranked[:, 0] == self.truth
        return right

    @property
    def top5(self) -> npt.NDArray[np.bool_]:
        """Whether the right class is among the five best scores; bool (N,)."""
        right: npt.NDArray[np.bool_] = (self.ranked == self.truth[:, None]).any(axis=1)
        return right


@dataclass(frozen=True)
class PredictionRun:
    """What several models answered about the same photos.

    Attributes:
        photos: Those that could be read.
        bad: Those that could not.
        models: One entry per model.
    """

    photos: LabelledPhotos
    bad: tuple[BadPhoto, ...]
    models: tuple[Predictions, ...]


def predict(runners: Sequence[Runner], photos: LabelledPhotos, progress: Progress | None = None) -> PredictionRun:
    """Ask every model about every photo.

    Raises:
        DataError: More than 5 % of the photos cannot be read.
    """
    ids = [class_ids(photos.classes, runner.info) for runner in runners]
    rankings, used, bad = rank(runners, photos.paths, progress)
    position = {path: i for i, path in enumerate(photos.paths)}
    truth = photos.truth[[position[path] for path in used]]
    read = replace(photos, paths=used, truth=truth)
    models = tuple(
        Predictions(runner.info, ranking, ids[i][truth])
        for i, (runner, ranking) in enumerate(zip(runners, rankings, strict=True))
    )
    return PredictionRun(read, bad, models)


def rank(
    runners: Sequence[Runner], paths: Sequence[Path], progress: Progress | None = None
) -> tuple[list[npt.NDArray[np.int64]], tuple[Path, ...], tuple[BadPhoto, ...]]:
    """Each model's best classes for each photo that can be read.

    Returns:
        Per model int64 (N, k) class ids, best first; the photos that were read; those that were not.

    Raises:
        DataError: More than 5 % of the photos cannot be read.
    """
    return answers(runners, paths, best_classes, progress)


def answers(
    runners: Sequence[Runner],
    paths: Sequence[Path],
    keep: Callable[[Float32Array], npt.NDArray[Kept]],
    progress: Progress | None = None,
) -> tuple[list[npt.NDArray[Kept]], tuple[Path, ...], tuple[BadPhoto, ...]]:
    """What is to be kept of each model's scores for each photo that can be read.

    Only the squares that the models see are held, a batch at a time: memory does not grow with the photos but for
    what is kept.

    Args:
        runners: The models.
        paths: The photos, at least one.
        keep: From scores (B, classes) to what is kept of them, (B, any).
        progress: Called with the number of photos just done.

    Returns:
        Per model what was kept, (N, any); the photos that were read; those that were not.

    Raises:
        DataError: More than 5 % of the photos cannot be read.
    """
    rules = list(dict.fromkeys(runner.info.preprocessing for runner in runners))
    collected: list[list[npt.NDArray[Kept]]] = [[] for _ in runners]
    reader = PhotoReader(paths, read_rgb, bad_errors=(DataError,))
    done = 0
    try:
        for squares in batched_squares(reader, rules):
            for i, runner in enumerate(runners):
                collected[i].append(keep(runner.run(squares[runner.info.preprocessing])))
            if progress is not None:
                progress(len(reader.used) + len(reader.bad) - done)
            done = len(reader.used) + len(reader.bad)
    except PhotosError as exc:
        raise DataError(str(exc)) from exc
    return [np.concatenate(parts) for parts in collected], tuple(reader.used), tuple(reader.bad)


def batched_squares(
    images: Iterable[UInt8Image], rules: Sequence[Preprocessing]
) -> Iterator[dict[Preprocessing, UInt8Image]]:
    """Cut photos by every rule and stack them.

    Yields:
        For each rule uint8 (B, S, S, 3), B at most 32.
    """
    cut = ([rule.apply(image) for rule in rules] for image in images)
    while batch := list(islice(cut, _BATCH)):
        yield {rule: np.stack([squares[i] for squares in batch]) for i, rule in enumerate(rules)}


def best_classes(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Class ids of the best scores; of equal ones the first class goes first.

    Args:
        scores: (B, classes).

    Returns:
        int64 (B, min(5, classes)), best first.
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :TOP].astype(np.int64)
