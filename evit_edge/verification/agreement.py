"""The gate on real photos: does the artefact choose the reference's class?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evit_calibration.errors import PhotosError
from evit_calibration.photos import list_photos, sample_photos
from evit_edge.errors import DataError
from evit_edge.evaluation.prediction import Progress, rank
from evit_edge.evaluation.report import Share
from evit_edge.runtime.info import Runner
from evit_edge.verification.gates import Gate, Thresholds
from evit_edge.verification.request import VerifyRequest

AGREEMENT = "top-1 agreement"


def find_photos(request: VerifyRequest) -> list[Path]:
    """The photos of all folders, or a draw of them.

    Raises:
        DataError: A folder holds none.
    """
    try:
        paths = [path for folder in request.data for path in list_photos(folder)]
        return paths if request.samples is None or not paths else sample_photos(paths, request.samples, seed=0)
    except PhotosError as exc:
        raise DataError(str(exc)) from exc


def agreement_gate(
    runner: Runner, reference: Runner | None, paths: list[Path], thresholds: Thresholds, progress: Progress | None
) -> tuple[Gate, dict[str, float]]:
    """Compare best classes on photos.

    Returns:
        The gate, and its figures by name.

    Raises:
        DataError: More than 5 % of the photos cannot be read.
    """
    required = f"at least {100 * thresholds.min_agreement:g} %"
    if not paths:
        return Gate.skip(AGREEMENT, "no photos given (--data DIR)", required), {}
    if reference is None:
        return Gate.skip(AGREEMENT, "no weights to agree with (--weights CHECKPOINT)", required), {}
    (ours, theirs), used, bad = rank([runner, reference], paths, progress)
    share = Share.of(np.equal(ours[:, 0], theirs[:, 0]))
    figures = {"photo_top1_agreement": share.value, "photos": float(len(used))}
    return share_gate(AGREEMENT, share, len(bad), thresholds), figures


def share_gate(name: str, share: Share, unreadable: int, thresholds: Thresholds) -> Gate:
    """Require a share of the photos on which two models agree."""
    low, high = 100 * share.interval.low, 100 * share.interval.high
    unread = f", {unreadable} unreadable" if unreadable else ""
    measured = f"{100 * share.value:.1f} % [{low:.1f}, {high:.1f}] of {share.total} photos{unread}"
    passed = share.value >= thresholds.min_agreement
    return Gate.check(name, passed, measured, f"at least {100 * thresholds.min_agreement:g} %")
