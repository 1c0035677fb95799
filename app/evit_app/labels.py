"""From a frame's scores to what a person reads: smoothed over time, the best few, or: not sure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evit_edge.classification import Prediction
from evit_edge.errors import RequestError
from evit_edge.runtime import ModelInfo
from evit_edge.tensors import Float32Array


@dataclass(frozen=True)
class LabelRule:
    """How scores become labels.

    Attributes:
        top: Classes to name, at least 1.
        threshold: The best class below this probability means not sure; 0..1.
        smoothing_s: Time constant of the exponential smoothing, seconds, positive; None switches it off.
    """

    top: int = 5
    threshold: float = 0.3
    smoothing_s: float | None = 0.5

    def __post_init__(self) -> None:
        """Refuse what labels nothing."""
        if self.top < 1:
            raise RequestError(f"the best {self.top} classes asked for; at least 1 is needed")
        if not 0 <= self.threshold <= 1:
            raise RequestError(f"threshold {self.threshold} given; 0 to 1 is accepted")
        if self.smoothing_s is not None and not self.smoothing_s > 0:
            raise RequestError(f"smoothing over {self.smoothing_s} s given; more than 0 is needed, or none at all")


@dataclass(frozen=True)
class Reading:
    """What one model says about one frame.

    Attributes:
        predictions: The best classes, best first, smoothed where that is on.
        sure: Whether the best reaches the threshold.
        top1: Name of this very frame's best class, never smoothed.
        inference_s: How long the model took, seconds.
    """

    predictions: tuple[Prediction, ...]
    sure: bool
    top1: str
    inference_s: float


class Smoother:
    """Exponential smoothing on a clock, so that it means the same at any frame rate.

    A new value weighs ``1 - exp(-dt / smoothing_s)``, dt being the time since the one before.
    """

    def __init__(self) -> None:
        self._state: Float32Array | None = None
        self._time_s = 0.0

    def add(self, chances: Float32Array, time_s: float, smoothing_s: float | None) -> Float32Array:
        """Take in a frame's probabilities.

        Args:
            chances: float32 (classes,).
            time_s: When the frame was captured, seconds.
            smoothing_s: Time constant, seconds; None gives the frame's own values back.

        Returns:
            float32 (classes,), summing to what the inputs sum to.
        """
        if self._state is None or smoothing_s is None or self._state.shape != chances.shape:
            self._state = chances
        else:
            weight = np.float32(-math.expm1(-max(0.0, time_s - self._time_s) / smoothing_s))
            self._state = self._state + weight * (chances - self._state)
        self._time_s = time_s
        return self._state


def best(chances: Float32Array, info: ModelInfo, top: int) -> tuple[Prediction, ...]:
    """The ``top`` most probable classes of float32 (classes,), best first; all where there are fewer."""
    order = np.argsort(-chances, kind="stable")[:top]
    return tuple(Prediction(int(i), info.label(int(i)), float(chances[i])) for i in order)
