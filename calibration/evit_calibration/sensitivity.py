"""What rounding one operator at a time costs at a model's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evit_calibration.errors import RangesError

Scores = npt.NDArray[np.float64]

HIGHEST_SQNR_DB = 200.0


@dataclass(frozen=True)
class Loss:
    """How far scores are from the reference's.

    Attributes:
        sqnr_db: Energy of the reference over energy of the error, dB; at most 200.
        flips: Photos whose best class is another than the reference's.
        photos: Photos in all.
    """

    sqnr_db: float
    flips: int
    photos: int


@dataclass(frozen=True)
class OperatorLoss:
    """What one operator costs when it alone is rounded.

    Attributes:
        name: By which it can be exempted.
        kind: Its kind, such as ``CONV_2D``.
        loss: At the model's output.
    """

    name: str
    kind: str
    loss: Loss


def measure_loss(measured: Scores, reference: Scores) -> Loss:
    """Compare scores.

    Args:
        measured: (N, classes), in the reference's unit: logits with each photo's constant taken out.
        reference: (N, classes).

    Raises:
        RangesError: The shapes differ, there is no photo, or a value is not finite.
    """
    if measured.shape != reference.shape or not len(reference):
        raise RangesError(f"scores {measured.shape} against {reference.shape} given; equal shapes are needed")
    if not (np.isfinite(measured).all() and np.isfinite(reference).all()):
        raise RangesError("scores with NaN or infinity given; check the model's weights")
    noise, signal = float(((measured - reference) ** 2).sum()), float((reference**2).sum())
    sqnr = HIGHEST_SQNR_DB if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise)
    flips = int((measured.argmax(axis=1) != reference.argmax(axis=1)).sum())
    return Loss(min(sqnr, HIGHEST_SQNR_DB), flips, len(reference))


def measure_operators(
    operators: Iterable[tuple[str, str]],
    scores_with: Callable[[str], Scores],
    reference: Scores,
    progress: Callable[[int], None] | None = None,
) -> tuple[OperatorLoss, ...]:
    """Round one operator after the other.

    Args:
        operators: Name and kind of each.
        scores_with: The model's scores with the operator of that name rounded, (N, classes).
        reference: The model's scores without, (N, classes).
        progress: Called after each operator with the number of operators so far.

    Returns:
        In the order given.

    Raises:
        RangesError: As :func:`measure_loss`.
    """
    losses: list[OperatorLoss] = []
    for name, kind in operators:
        losses.append(OperatorLoss(name, kind, measure_loss(scores_with(name), reference)))
        if progress is not None:
            progress(len(losses))
    return tuple(losses)


def worst_first(losses: Sequence[OperatorLoss]) -> tuple[OperatorLoss, ...]:
    """Most noise first; equal ones stay in the order given."""
    return tuple(sorted(losses, key=lambda entry: entry.loss.sqnr_db))
