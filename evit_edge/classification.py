"""Classifying single photos, with the time that each step takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from evit_edge.errors import RequestError
from evit_edge.images import read_rgb
from evit_edge.runtime.info import Runner
from evit_edge.tensors import probabilities

T = TypeVar("T")


@dataclass(frozen=True)
class Prediction:
    """One class's score.

    Attributes:
        class_id: Index among the model's classes.
        label: Its name.
        probability: 0..1.
    """

    class_id: int
    label: str
    probability: float


@dataclass(frozen=True)
class Classification:
    """What a model says about a photo.

    Attributes:
        path: The photo.
        predictions: The best classes, best first.
        decode_s: File to pixels, seconds.
        preprocess_s: Pixels to the square that the model sees, seconds.
        inference_s: Square to scores, seconds.
    """

    path: Path
    predictions: tuple[Prediction, ...]
    decode_s: float
    preprocess_s: float
    inference_s: float


def warm_up(runner: Runner) -> None:
    """Run once on black, so that the first photo's time holds no set-up."""
    Image.preinit()  # loads the decoders of the common formats
    side = runner.info.image_size
    runner.run(np.zeros((1, side, side, 3), dtype=np.uint8))


def classify(runner: Runner, path: Path, top: int = 5) -> Classification:
    """Classify one photo.

    Args:
        runner: The model.
        path: The photo.
        top: How many classes to name, at least 1; all where the model has fewer.

    Raises:
        DataError: The photo cannot be read.
        RequestError: ``top`` is below 1.
    """
    if top < 1:
        raise RequestError(f"the best {top} classes asked for; at least 1 is needed")
    info = runner.info
    image, decode_s = _timed(lambda: read_rgb(path))
    square, preprocess_s = _timed(lambda: info.preprocessing.apply(image))
    scores, inference_s = _timed(lambda: runner.run(square[None]))  # (1, classes)
    chances = probabilities(scores, info.output_kind)[0]  # (classes,)
    best = np.argsort(-chances, kind="stable")[:top]
    predictions = tuple(Prediction(int(i), info.label(int(i)), float(chances[i])) for i in best)
    return Classification(path, predictions, decode_s, preprocess_s, inference_s)


def _timed(step: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = step()
    return result, time.perf_counter() - start
