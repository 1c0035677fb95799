"""What has become of a weight: transposed, scaled, shifted, reordered, or damaged in a few places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_SHOWN = 4
_FEW = 0.1
_MANY = 0.2
"""Part of the elements that has to differ before an explanation of them all is looked for."""


def diagnose(stored: Tensor, source: Tensor, allowed: Tensor) -> str:
    """Say in words what the stored values are, compared with the source's.

    Args:
        stored: float64, as the program has it.
        source: float64, the same shape.
        allowed: Largest difference that the encoding explains, the same shape.

    Returns:
        Words for a message; how many elements differ, where nothing simpler explains it.
    """
    if not bool(torch.isfinite(stored).all()):
        return "it holds NaN or infinity"
    wrong = (stored - source).abs() > allowed
    whole = _WHOLE if float(wrong.double().mean()) > _MANY else ()
    for explain in (*whole, _scaled_channels):
        if explanation := explain(stored, source, allowed):
            return explanation
    first = tuple(int(i) for i in wrong.nonzero()[0]) if bool(wrong.any()) else ()
    told = f"{int(wrong.sum())} of {wrong.numel()} elements differ, the first at {first}"
    shared = np.unique(stored[wrong].numpy())
    if len(shared) <= _SHOWN and int(wrong.sum()) > 2 * len(shared):
        told += f"; all are stored as {', '.join(f'{value:.4g}' for value in shared.tolist())}"
    return told


def _agrees(stored: Tensor, explained: Tensor, allowed: Tensor) -> bool:
    """Whether an explanation leaves only what the encoding does, several times since the explanation is fitted."""
    return bool(((stored - explained).abs() <= 4 * allowed.max()).all())


def _transposed(stored: Tensor, source: Tensor, allowed: Tensor) -> str:
    square = source.squeeze()
    if square.dim() != 2 or square.shape[0] != square.shape[1]:
        return ""
    is_it = _agrees(stored.reshape(square.shape), square.T, allowed)
    return "it is the source's transposed" if is_it else ""


def _swapped_colours(stored: Tensor, source: Tensor, allowed: Tensor) -> str:
    if source.dim() != 4 or source.shape[1] != 3:
        return ""
    return "its input channels R and B are swapped" if _agrees(stored, source.flip(1), allowed) else ""


def _scaled(stored: Tensor, source: Tensor, allowed: Tensor) -> str:
    energy = float((source * source).sum())
    factor = float((stored * source).sum()) / energy if energy else 1.0
    explained = factor * source
    fits = abs(factor - 1) > 1e-6 and _agrees(stored, explained, allowed)
    return f"it is the source's times {factor:.6g}" if fits else ""


def _shifted(stored: Tensor, source: Tensor, allowed: Tensor) -> str:
    shift = float((stored - source).mean())
    return f"it is the source's plus {shift:.4g}" if _agrees(stored, source + shift, allowed) else ""


def _reordered(stored: Tensor, source: Tensor, allowed: Tensor) -> str:
    ours, theirs = stored.reshape(-1).sort().values, source.reshape(-1).sort().values
    return "it has the source's values in another order" if _agrees(ours, theirs, allowed) else ""


def _scaled_channels(stored: Tensor, source: Tensor, allowed: Tensor) -> str:
    """A few output channels are wrong, each by one factor."""
    rows, wanted, room = (t.reshape(source.shape[0], -1) for t in (stored, source, allowed))
    wrong = ((rows - wanted).abs() > room).any(dim=1)  # (O,)
    if rows.shape[1] < 2 or not 0 < int(wrong.sum()) <= max(1, _FEW * len(wrong)):
        return ""
    if ((rows - wanted).abs() > room)[wrong].double().mean() < 0.5:
        return ""  # single elements
    factors = (rows * wanted).sum(1) / (wanted * wanted).sum(1).clamp_min(1e-300)
    channel = int(wrong.nonzero()[0])
    explained = torch.where(wrong[:, None], factors[:, None] * wanted, wanted)
    if not _agrees(rows, explained, allowed):
        return ""
    return f"channel {channel} of {len(wrong)} is the source's times {float(factors[channel]):.6g}"


_WHOLE: tuple[Callable[[Tensor, Tensor, Tensor], str], ...] = (
    _transposed,
    _swapped_colours,
    _scaled,
    _shifted,
    _reordered,
)
"""What may have become of a whole weight."""
