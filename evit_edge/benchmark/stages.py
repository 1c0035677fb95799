"""Times of the steps from a photo's file to its labels."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from evit_edge.benchmark.figures import Runs, Stage, StageTime
from evit_edge.benchmark.statistics import describe
from evit_edge.images import read_rgb
from evit_edge.runtime.info import Runner
from evit_edge.tensors import probabilities

_WARM_RUNS, _RUNS, _LONGEST_S = 3, 30, 5.0
_TOP = 5
_WIDTH, _HEIGHT, _QUALITY = 1280, 960, 90

GENERATED = f"a generated {_WIDTH} x {_HEIGHT} JPEG"


def time_stages(runner: Runner, photo: Path | None, stop: threading.Event) -> tuple[StageTime, ...]:
    """Time the pipeline on one photo, step by step, every step in every pass.

    Inference here is the whole of :meth:`Runner.run`, what an application calls, its copies of the input and
    output included; the figures of pure inference leave them out.

    Args:
        runner: The model.
        photo: The file; a generated one, of a camera's preview size, where None.
        stop: Ends it early.

    Returns:
        One entry a step, in order; empty where it was stopped before the first pass.

    Raises:
        DataError: The photo cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = _generated(Path(folder) / "photo.jpg") if photo is None else photo
        times: dict[Stage, list[float]] = {stage: [] for stage in Stage}
        started = time.perf_counter()
        for i in range(_WARM_RUNS + _RUNS):
            if stop.is_set() or (i > _WARM_RUNS and time.perf_counter() - started > _LONGEST_S):
                break
            passed = _pass(runner, path)
            if i >= _WARM_RUNS:
                for stage, seconds in passed.items():
                    times[stage].append(seconds)
    return tuple(StageTime(stage, describe(Runs(tuple(found)))) for stage, found in times.items() if found)


def _pass(runner: Runner, path: Path) -> dict[Stage, float]:
    info, clock = runner.info, time.perf_counter
    marks = [clock()]
    image = read_rgb(path)
    marks.append(clock())
    square = info.preprocessing.apply(image)
    marks.append(clock())
    scores = runner.run(square[None])  # (1, classes)
    marks.append(clock())
    chances = probabilities(scores, info.output_kind)[0]  # (classes,)
    [info.label(int(i)) for i in np.argsort(-chances, kind="stable")[:_TOP]]
    marks.append(clock())
    spans = np.maximum(np.diff(marks), 1e-9)  # a clock may be coarser than the shortest step
    return dict(zip(Stage, spans.tolist(), strict=True))


def _generated(path: Path) -> Path:
    """A picture with as much detail as a photo: smooth colours and some noise."""
    Image.fromarray(_picture()).save(path, quality=_QUALITY)
    return path


def _picture() -> npt.NDArray[np.uint8]:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (_HEIGHT // 80, _WIDTH // 80, 3)).astype(np.uint8)
    smooth = np.asarray(
        Image.fromarray(coarse).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), dtype=np.float64
    )
    noisy = smooth + random.normal(0, 8, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)
