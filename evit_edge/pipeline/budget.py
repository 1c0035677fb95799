"""Keeping a promise about accuracy: real artefacts, measured on held-out photos, with few exemptions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_calibration.budget import Outcome, SearchResult, Trial, search
from evit_calibration.cache import CalibrationCache
from evit_calibration.photos import hash_digests, photo_digests
from evit_calibration.sensitivity import OperatorLoss, worst_first
from evit_edge.errors import BudgetError, DataError, RequestError
from evit_edge.evaluation.dataset import LabelledPhotos, class_ids, label_photos
from evit_edge.evaluation.prediction import best_classes
from evit_edge.evaluation.statistics import paired_difference_interval
from evit_edge.images import read_rgb
from evit_edge.manifest import BudgetEntry
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.pipeline.request import Budget, ConvertRequest
from evit_edge.runtime.info import Runner
from evit_edge.runtime.torch_checkpoint import TorchRunner
from evit_edge.tensors import UInt8Images

Flags = npt.NDArray[np.bool_]

_BATCH = 32
_RANKED_ON = 32  # photos
_NAMED = 5


@dataclass(frozen=True)
class Validation:
    """Held-out photos, cut to the model's input, and what the checkpoint makes of them.

    Attributes:
        squares: uint8 (N, S, S, 3), on disk.
        truth: int64 (N,), the right class id of each.
        right: Whether the checkpoint's best class is the right one.
        sha256: Of the photos' contents.
    """

    squares: UInt8Images
    truth: npt.NDArray[np.int64]
    right: Flags
    sha256: str

    @property
    def sample(self) -> UInt8Images:
        """A few, spread over the classes."""
        return np.array(self.squares[:: max(1, len(self.squares) // _RANKED_ON)][:_RANKED_ON])


@dataclass(frozen=True)
class BudgetReport:
    """What a search found.

    Attributes:
        entry: Figures of the best model.
        exempt: Operators that it leaves out of int8.
        ranking: What each operator costs alone, most harmful first; empty where nothing had to be exempted.
        trials: Every model that was measured, in order.
    """

    entry: BudgetEntry
    exempt: tuple[str, ...]
    ranking: tuple[OperatorLoss, ...]
    trials: tuple[Trial, ...]


def find_validation(
    request: ConvertRequest, checkpoint: Checkpoint, source: CalibrationCache | list[Path] | None
) -> LabelledPhotos | None:
    """List the validation photos, and check that none of them is calibrated with.

    Returns:
        The photos; None where nothing is promised.

    Raises:
        DataError: There are none, a class is unknown, or photos are calibrated with; names them.
        RequestError: A calibration cache does not say which photos it comes from.
    """
    if request.budget is None:
        return None
    if checkpoint.labels is None:
        raise DataError("--max-drop needs a checkpoint with labels, or --labels FILE, to tell right answers")
    photos = label_photos(request.budget.validation, [_original(request, checkpoint).info])
    if isinstance(source, CalibrationCache):
        if not source.photos:
            raise RequestError(
                "this calibration cache does not say which photos it comes from, so they cannot be told from "
                "those of --validation; give the folder of photos instead"
            )
        used = frozenset(source.photos)
    else:
        used = frozenset(photo_digests(source or ()))
    digests = photo_digests(photos.paths)
    shared = [path for path, digest in zip(photos.paths, digests, strict=True) if digest in used]
    if shared:
        named = ", ".join(str(path) for path in shared[:_NAMED])
        more = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
        raise DataError(
            f"{len(shared)} validation photos are calibrated with too, by content: {named}{more}; "
            "take them out of one of the two"
        )
    return photos


@contextmanager
def validation_on(
    photos: LabelledPhotos, request: ConvertRequest, checkpoint: Checkpoint, tell: Callable[[int, int], None]
) -> Iterator[Validation]:
    """Decode the photos once, to disk, and ask the checkpoint about them.

    Args:
        photos: As :func:`find_validation` found them.
        request: Of the conversion.
        checkpoint: The original.
        tell: Called with photos done and in all.

    Yields:
        The photos; gone after the block.

    Raises:
        DataError: A photo cannot be read.
    """
    original = _original(request, checkpoint)
    rule, side = checkpoint.preprocessing, checkpoint.config.image_size
    with tempfile.TemporaryDirectory() as folder:
        squares = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            Path(folder) / "squares.npy", mode="w+", dtype=np.uint8, shape=(len(photos.paths), side, side, 3)
        )
        for i, path in enumerate(photos.paths):
            squares[i] = rule.apply(read_rgb(path))
            tell(i + 1, len(photos.paths))
        truth = class_ids(photos.classes, original.info)[photos.truth]
        digest = hash_digests(photo_digests(photos.paths))
        yield Validation(squares, truth, answers(original, squares) == truth, digest)


def keep_promise(
    budget: Budget,
    validation: Validation,
    build: Callable[[tuple[str, ...]], Runner],
    losses: Callable[[UInt8Images], tuple[OperatorLoss, ...]],
    told: Callable[[Trial], None],
) -> BudgetReport:
    """Find the model with the fewest exemptions that keeps the promise.

    Args:
        budget: The promise.
        validation: Photos that it is about.
        build: Makes and opens the artefact with these exemptions, by operators' names.
        losses: What each operator costs alone on photos, uint8 (N, S, S, 3); asked only if one has to be exempted.
        told: Called with each trial.

    Raises:
        BudgetError: No model that was tried keeps it.
    """
    entries: dict[tuple[str, ...], BudgetEntry] = {}

    def attempt(exempt: tuple[str, ...]) -> Trial:
        if exempt not in entries:
            right = answers(build(exempt), validation.squares) == validation.truth
            entries[exempt] = _entry(budget, validation, right)
            told(_trial(exempt, entries[exempt]))
        return _trial(exempt, entries[exempt])

    plain = attempt(())
    ranking = () if plain.kept else worst_first(losses(validation.sample))
    result = search([operator.name for operator in ranking], attempt)
    report = _report(result, entries, ranking)
    if result.outcome is Outcome.MISSED:
        raise BudgetError(_missed(report), report)
    return report


def answers(runner: Runner, squares: UInt8Images) -> npt.NDArray[np.int64]:
    """Best class ids of pictures, uint8 (N, S, S, 3); int64 (N,)."""
    batches = (np.array(squares[i : i + _BATCH]) for i in range(0, len(squares), _BATCH))
    return np.concatenate([best_classes(runner.run(batch))[:, 0] for batch in batches])


def _original(request: ConvertRequest, checkpoint: Checkpoint) -> TorchRunner:
    return TorchRunner(checkpoint, Path(request.weights))


def _entry(budget: Budget, validation: Validation, right: Flags) -> BudgetEntry:
    before = validation.right
    both, neither = int((before & right).sum()), int((~before & ~right).sum())
    lost, won = int((before & ~right).sum()), int((~before & right).sum())
    interval = paired_difference_interval(both, lost, won, neither)
    count = len(right)
    drop = 100 * (lost - won) / count
    return BudgetEntry(
        max_drop=budget.max_drop,
        strict=budget.strict,
        drop=drop,
        interval=(100 * interval.low, 100 * interval.high),
        float_top1=(both + lost) / count,
        top1=(both + won) / count,
        photos=count,
        photos_sha256=validation.sha256,
        drop_without=drop,
        trials=1,
    )


def _trial(exempt: tuple[str, ...], entry: BudgetEntry) -> Trial:
    return Trial(exempt, entry.drop, entry.interval[1], entry.kept)


def _report(
    result: SearchResult, entries: dict[tuple[str, ...], BudgetEntry], ranking: tuple[OperatorLoss, ...]
) -> BudgetReport:
    best = result.best.exempt
    entry = replace(entries[best], drop_without=entries[()].drop, trials=len(result.trials))
    return BudgetReport(entry, best, ranking, result.trials)


def _missed(report: BudgetReport) -> str:
    entry = report.entry
    measure = "the upper end of the interval" if entry.strict else "the loss"
    worst = ", ".join(f"{e.name} ({e.loss.sqnr_db:.1f} dB)" for e in report.ranking[:_NAMED])
    return (
        f"no model of {entry.trials} tried keeps {measure} within {entry.max_drop:g} points on {entry.photos} "
        f"photos; the best loses {entry.drop:.2f} [{entry.interval[0]:.2f}, {entry.interval[1]:.2f}] with "
        f"{len(report.exempt)} operators exempted; most at fault: {worst or 'none'}; allow more, give more "
        "photos, or fine-tune with evit-edge train --qat int8"
    )
