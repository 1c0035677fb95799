"""Value ranges of a model's tensors over photos, in one pass and in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from evit_calibration.errors import RangesError
from evit_calibration.histogram import DEFAULT_BINS, StreamingHistogram, finite_extremes

UInt8Image = npt.NDArray[np.uint8]
Activations = Mapping[str, npt.NDArray[np.float32]]


class Estimator(StrEnum):
    """How a range follows from the values of a tensor."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"


@dataclass(frozen=True)
class RangeRule:
    """What of a tensor's values its range keeps.

    Attributes:
        estimator: ``MINMAX`` keeps all; ``PERCENTILE`` cuts the same share off either end.
        percentile: Upper percentile of ``PERCENTILE``, in (50, 100]; the lower one is 100 minus it. 99.99 was
            the best of 99.95, 99.99 and 100 on EfficientViT-M0: clipping a few outliers buys finer steps.
        bins: Bins on either side of zero of ``PERCENTILE``, a power of two. The estimate is off by at most one of
            them, which is 1/2048 of the largest magnitude with 4096: an eighth of an int8 step.
    """

    estimator: Estimator = Estimator.PERCENTILE
    percentile: float = 99.99
    bins: int = DEFAULT_BINS

    def __post_init__(self) -> None:
        """Refuse what no range can be told by."""
        if not 50 < self.percentile <= 100:
            raise RangesError(f"percentile {self.percentile} given; more than 50 and at most 100 is needed")
        if self.bins < 2 or self.bins & (self.bins - 1):
            raise RangesError(f"{self.bins} bins given; a power of two, at least 2, is needed")


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
        rule: What of the values a range keeps; by default the 99.99th percentile.
        progress: Called after each image with the number of images so far.

    Returns:
        Tensor name to range, in the order in which ``run`` names them. It depends on which images there were,
        not on their order.

    Raises:
        RangesError: There was no image or no tensor, the names changed, or values are not float32 or not finite;
            the message names the tensor.
    """
    rule = rule or RangeRule()
    collectors: dict[str, _Extremes | StreamingHistogram] = {}
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


def _collector(rule: RangeRule) -> _Extremes | StreamingHistogram:
    return StreamingHistogram(rule.bins) if rule.estimator is Estimator.PERCENTILE else _Extremes()


def _add(collectors: Mapping[str, _Extremes | StreamingHistogram], activations: Activations, image: int) -> None:
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


def _range_of(collector: _Extremes | StreamingHistogram, rule: RangeRule) -> TensorRange:
    if collector.maximum == -math.inf:
        return TensorRange(0.0, 0.0)
    if isinstance(collector, StreamingHistogram):
        low, high = collector.percentile(100 - rule.percentile), collector.percentile(rule.percentile)
    else:
        low, high = collector.minimum, collector.maximum
    return TensorRange(_short(min(low, 0.0)), _short(max(high, 0.0)))


def _short(value: float) -> float:
    """Shortest decimal that names the nearest float32: what a cache of hundreds of tensors should spend."""
    return float(str(np.float32(value)))
