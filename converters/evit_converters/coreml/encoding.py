"""How a float16 weight is written in fewer bits; numpy alone.

Both ways keep a promise that a reader of the file can check: int8 is within half a step of the weight, and a
palette's entry is the nearest that the palette has (before the decoded value is rounded to float16).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_CODE = 127  # symmetric: -128 is not used

_HALF = NDArray[np.float16]


def int8_per_channel(weight: _HALF) -> tuple[NDArray[np.int8], _HALF]:
    """Symmetric codes with one scale for each output channel.

    The scale is rounded up to float16, so that the largest weight is within reach: rounded to the nearest, as
    coremltools does, the scales of weak channels are subnormal and their largest weights clipped.

    Args:
        weight: (C, ...), finite.

    Returns:
        Codes -127..127 (C, ...), and the scale (C,), positive.
    """
    peak = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).max(axis=1)  # (C,)
    scale = (peak / LARGEST_CODE).astype(np.float16)
    scale = np.where(
        scale.astype(np.float64) * LARGEST_CODE < peak, np.nextafter(scale, np.float16(np.inf)), scale
    )
    scale[peak == 0] = 1  # a channel of zeros: any scale does
    steps = scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    return np.rint(weight.astype(np.float64) / steps).astype(np.int8), scale


def palette(weight: _HALF, bits: int) -> tuple[NDArray[np.uint8], _HALF] | None:
    """Indices into a table of ``2 ** bits`` values, which k-means found.

    Args:
        weight: Any shape, finite.
        bits: 4 or 6.

    Returns:
        Indices of the weight's shape, and the table, ascending. None if the weight has fewer distinct values
        than the table: it is left as it is, since there is nothing to choose.
    """
    values, inverse, counts = np.unique(weight, return_inverse=True, return_counts=True)
    if len(values) < 2**bits:
        return None
    table = np.sort(_centroids(values.astype(np.float64), counts, 2**bits)).astype(np.float16)
    middles = (table[1:].astype(np.float64) + table[:-1]) / 2
    nearest = np.searchsorted(middles, values.astype(np.float64))
    return nearest[inverse].reshape(weight.shape).astype(np.uint8), table


def _centroids(values: NDArray[np.float64], counts: NDArray[Any], clusters: int) -> NDArray[np.float64]:
    """The exact k-means of numbers on a line (Gronlund et al., arXiv 1701.07204), which coremltools brings."""
    from coremltools._deps import kmeans1d

    return np.array(kmeans1d.cluster(values, clusters, weights=counts).centroids)
