"""How far a package may be from its source."""

from __future__ import annotations

from dataclasses import dataclass

from evit_edge.errors import RequestError


@dataclass(frozen=True)
class Limits:
    """What is accepted: rounding in multiples of torch's own, compression in decibels.

    Attributes:
        graph: Relative error of the float64 program with the source's weights, over torch's float32 error.
        rounding: Relative error of the program in its declared precision, over torch's own in the same.
        sqnr_db: Least ratio of signal to noise of the logits of a compressed package.
        cosine: Least cosine between a picture's logits and the source's, of a compressed package.
        clipped: Largest part of a quantized activation's values that may lie outside its range.
    """

    graph: float = 0.01
    rounding: float = 8.0
    sqnr_db: float = 12.0
    cosine: float = 0.95
    clipped: float = 0.02

    def __post_init__(self) -> None:
        """Refuse limits that nothing or everything passes."""
        if min(self.graph, self.rounding) <= 0 or not -1 < self.cosine < 1 or not 0 <= self.clipped < 1:
            raise RequestError(
                f"{self} given; factors above 0, a cosine between -1 and 1 and a part of 0 to 1 are accepted"
            )
