"""Value ranges of a model's tensors over photos, in one pass and in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from evit_calibration.errors import RangesError
from evit_calibration.estimators import (
    least_divergence_range,
    least_squares_range,
    minmax_range,
    percentile_range,
)
from evit_calibration.histogram import DEFAULT_BINS, StreamingHistogram, finite_extremes

UInt8Image = npt.NDArray[np.uint8]
Activations = Mapping[str, npt.NDArray[np.float32]]


class Estimator(StrEnum):
    """How a range follows from the values of a tensor.

    All but ``MOVING_AVERAGE`` give the same range in whatever order the photos come.

    Attributes:
        MINMAX: All values.
        MOVING_AVERAGE: Smallest and largest value of each photo, averaged with exponentially falling weight. The
            last photos count most, so the order matters; what few photos show is clipped.
        PERCENTILE: All but the same share at either end.
        MSE: What int8 expresses with the least squared error.
        ENTROPY: What int8 expresses with the least Kullback-Leibler divergence.
    """

    MINMAX = "minmax"
    MOVING_AVERAGE = "moving-average"
    PERCENTILE = "percentile"
    MSE = "mse"
    ENTROPY = "entropy"


@dataclass(frozen=True)
class RangeRule:
    """What of a tensor's values its range keeps.

    Attributes:
        estimator: How a range is told.
        percentile: Upper percentile of ``PERCENTILE``, in (50, 100]; the lower one is 100 minus it. Clipping a few
            outliers buys finer steps.
        bins: Bins on either side of zero of the estimators that count values, a power of two. A bin is at most
            1/2048 of the largest magnitude wide with 4096: an eighth of an int8 step.
        momentum: Of ``MOVING_AVERAGE``, in [0, 1): how much of the average stays when a photo is added.
    """

    estimator: Estimator = Estimator.MSE
    percentile: float = 99.99
    bins: int = DEFAULT_BINS
    momentum: float = 0.95

    def __post_init__(self) -> None:
        """Refuse what no range can be told by."""
        if not 50 < self.percentile <= 100:
            raise RangesError(f"percentile {self.percentile} given; more than 50 and at most 100 is needed")
        if self.bins < 2 or self.bins & (self.bins - 1):
            raise RangesError(f"{self.bins} bins given; a power of two, at least 2, is needed")
        if not 0 <= self.momentum < 1:
            raise RangesError(f"momentum {self.momentum} given; at least 0 and less than 1 is needed")


@dataclass(frozen=True)
class TensorRange:
    """The values that a quantized tensor has to express.

    Zero always lies inside, so that an affine quantization expresses it exactly: padding and what ReLU cut off
    stay exactly zero. A tensor that was zero throughout has the range 0..0.

    Attributes:
        minimum: At most 0, finite.
        maximum: At least 0, finite.
    """

    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        """Refuse a range without zero or without an end."""
        if not -math.inf < self.minimum <= 0 <= self.maximum < math.inf:
            raise RangesError(f"range {self.minimum}..{self.maximum} given; finite ends around zero are needed")


def collect_ranges(
    run: Callable[[UInt8Image], Activations],
    images: Iterable[UInt8Image],
    *,
    rule: RangeRule | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, TensorRange]:
    """Run a model over photos and tell the range of every tensor that it shows.

    Args:
        run: Takes one image, RGB uint8 (1, H, W, 3); returns tensor name to float32 values of any shape, the
            same names for every image. The values are read before the next call, so buffers may be reused.
        images: RGB uint8 (H, W, 3) each, already resized to what the model takes.
        rule: What of the values a range keeps; by default the least squared error.
        progress: Called after each image with the number of images so far.

    Returns:
        Tensor name to range, in the order in which ``run`` names them. It depends on which images there were,
        not on their order (but with ``MOVING_AVERAGE``).

    Raises:
        RangesError: There was no image or no tensor, the names changed, or values are not float32 or not finite;
            the message names the tensor.
    """
    rule = rule or RangeRule()
    collectors: dict[str, _Collector] = {}
    done = 0
    for done, image in enumerate(images, start=1):
        activations = run(image[np.newaxis])
        if done == 1:
            collectors = {name: _collector(rule) for name in activations}
        _add(collectors, activations, done)
        if progress is not None:
            progress(done)
    if not collectors:
        raise RangesError(f"{done} images and no tensors to calibrate with; at least one of each is needed")
    return {name: _range_of(collector, rule) for name, collector in collectors.items()}


class _Extremes:
    """Smallest and largest value of a stream."""

    def __init__(self) -> None:
        self.minimum = math.inf
        self.maximum = -math.inf

    def add(self, values: npt.NDArray[np.float32]) -> None:
        if values.size:
            low, high = finite_extremes(values)
            self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)


class _MovingExtremes(_Extremes):
    """Averages of the arrays' smallest and largest values; the first array starts them."""

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self._momentum = momentum

    def add(self, values: npt.NDArray[np.float32]) -> None:
        if not values.size:
            return
        low, high = finite_extremes(values)
        if self.maximum == -math.inf:
            self.minimum, self.maximum = low, high
        kept = self._momentum
        self.minimum = kept * self.minimum + (1 - kept) * low
        self.maximum = kept * self.maximum + (1 - kept) * high


_Collector = _Extremes | StreamingHistogram


def _collector(rule: RangeRule) -> _Collector:
    match rule.estimator:
        case Estimator.MINMAX:
            return _Extremes()
        case Estimator.MOVING_AVERAGE:
            return _MovingExtremes(rule.momentum)
        case _:
            return StreamingHistogram(rule.bins)


def _add(collectors: Mapping[str, _Collector], activations: Activations, image: int) -> None:
    if activations.keys() != collectors.keys():
        odd = sorted(activations.keys() ^ collectors.keys())
        raise RangesError(f"image {image} showed other tensors than the first: {', '.join(odd[:5])}")
    for name, values in activations.items():
        if values.dtype != np.float32:
            raise RangesError(f"tensor {name!r} is {values.dtype}; float32 activations are needed")
        try:
            collectors[name].add(values)
        except ValueError as exc:
            raise RangesError(f"tensor {name!r} on image {image}: {exc}; check the model's weights") from exc


def _range_of(collector: _Collector, rule: RangeRule) -> TensorRange:
    if collector.maximum == -math.inf:
        return TensorRange(0.0, 0.0)
    low, high = _ends(collector, rule)
    return TensorRange(_short(min(low, 0.0)), _short(max(high, 0.0)))


def _ends(collector: _Collector, rule: RangeRule) -> tuple[float, float]:
    if not isinstance(collector, StreamingHistogram):
        return collector.minimum, collector.maximum
    match rule.estimator:
        case Estimator.PERCENTILE:
            return percentile_range(collector, rule.percentile)
        case Estimator.MSE:
            return least_squares_range(collector)
        case Estimator.ENTROPY:
            return least_divergence_range(collector)
        case _:
            return minmax_range(collector)


def _short(value: float) -> float:
    """Shortest decimal that names the nearest float32: what a cache of hundreds of tensors should spend."""
    return float(str(np.float32(value)))
