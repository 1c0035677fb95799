"""From answers to figures: accuracies with intervals, classes, confusions, pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from evit_edge.evaluation.prediction import PredictionRun, Predictions
from evit_edge.evaluation.statistics import (
    Interval,
    McNemar,
    mcnemar,
    paired_difference_interval,
    wilson_interval,
)

OTHER = "(another class)"


@dataclass(frozen=True)
class Share:
    """A part of the photos, with Wilson's 95 % interval.

    Attributes:
        count: Photos that are counted in.
        total: All photos.
        interval: Of the proportion.
    """

    count: int
    total: int
    interval: Interval

    @classmethod
    def of(cls, flags: npt.NDArray[np.bool_]) -> Share:
        """Count flags (N,), N at least 1."""
        count, total = int(flags.sum()), len(flags)
        return cls(count, total, wilson_interval(count, total))

    @property
    def value(self) -> float:
        """The proportion, 0..1."""
        return self.count / self.total


@dataclass(frozen=True)
class ClassReport:
    """One class's photos.

    Attributes:
        label: The class.
        top1: Photos of it that were recognised (recall).
        precision: Part of the answers "this class" that were right; None where it was never answered.
        mistaken_for: The wrong answer given most often; None where there was none.
    """

    label: str
    top1: Share
    precision: float | None
    mistaken_for: str | None


@dataclass(frozen=True)
class ModelReport:
    """One model's figures.

    Attributes:
        name: For tables.
        runtime: Engine and version.
        top1: Photos whose best score is the right class's.
        top5: Photos whose right class is among the five best.
        classes: Per class, in the order of the photos' classes.
        columns: Names of the confusion matrix's columns.
        confusion: int64 (classes, columns): photos of a class by the answer given.
        remark: What has to be said wherever the figures are shown.
    """

    name: str
    runtime: str
    top1: Share
    top5: Share
    classes: tuple[ClassReport, ...]
    columns: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    remark: str | None = None


@dataclass(frozen=True)
class PairReport:
    """Two models on the same photos.

    Attributes:
        first: A name.
        second: A name.
        difference: Top-1 of the first minus that of the second, as a proportion.
        interval: Of the difference, 95 %, paired.
        test: McNemar's.
        agreement: Photos to which both give the same best answer, right or wrong.
    """

    first: str
    second: str
    difference: float
    interval: Interval
    test: McNemar
    agreement: Share


@dataclass(frozen=True)
class EvaluationReport:
    """Everything about one evaluation.

    Attributes:
        photos: Photos that were read.
        bad: Messages about those that were not.
        models: In the order given.
        pairs: Every two models.
    """

    photos: int
    bad: tuple[str, ...]
    models: tuple[ModelReport, ...]
    pairs: tuple[PairReport, ...]


def report(run: PredictionRun) -> EvaluationReport:
    """Figure out everything that is shown."""
    names = _names(run.models)
    return EvaluationReport(
        photos=len(run.photos.paths),
        bad=tuple(photo.reason for photo in run.bad),
        models=tuple(model_report(name, run, model) for name, model in zip(names, run.models, strict=True)),
        pairs=tuple(
            pair_report((names[i], names[j]), run.models[i], run.models[j])
            for i, j in combinations(range(len(names)), 2)
        ),
    )


def model_report(name: str, run: PredictionRun, model: Predictions) -> ModelReport:
    """One model's figures."""
    confusion = confusion_matrix(run, model)
    classes = run.photos.classes
    columns = (*classes, OTHER) if confusion[:, -1].any() else classes
    return ModelReport(
        name=name,
        runtime=f"{model.info.runtime} {model.info.runtime_version}",
        top1=Share.of(model.top1),
        top5=Share.of(model.top5),
        classes=tuple(_class_report(i, (*classes, OTHER), confusion) for i in range(len(classes))),
        columns=columns,
        confusion=confusion[:, : len(columns)],
        remark=model.info.remark,
    )


def confusion_matrix(run: PredictionRun, model: Predictions) -> npt.NDArray[np.int64]:
    """Photos by right class and answer.

    Returns:
        int64 (classes, classes + 1); the last column counts answers that are none of the photos' classes.
    """
    classes = run.photos.classes
    column = {label: i for i, label in enumerate(classes)}
    answers = [column.get(model.info.label(int(class_id)), len(classes)) for class_id in model.ranked[:, 0]]
    matrix = np.zeros((len(classes), len(classes) + 1), dtype=np.int64)
    np.add.at(matrix, (run.photos.truth, np.array(answers)), 1)
    return matrix


def pair_report(names: tuple[str, str], first: Predictions, second: Predictions) -> PairReport:
    """Compare two models on the same photos."""
    a, b = first.top1, second.top1
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    return PairReport(
        *names,
        difference=(only_first - only_second) / len(a),
        interval=paired_difference_interval(both, only_first, only_second, neither),
        test=mcnemar(only_first, only_second),
        agreement=Share.of(_same_answers(first, second)),
    )


def _same_answers(first: Predictions, second: Predictions) -> npt.NDArray[np.bool_]:
    if first.info.labels == second.info.labels:
        same: npt.NDArray[np.bool_] = first.ranked[:, 0] == second.ranked[:, 0]
        return same
    pairs = zip(first.ranked[:, 0], second.ranked[:, 0], strict=True)
    return np.array([first.info.label(int(i)) == second.info.label(int(j)) for i, j in pairs], dtype=np.bool_)


def _class_report(index: int, columns: tuple[str, ...], confusion: npt.NDArray[np.int64]) -> ClassReport:
    row = confusion[index]
    right, total, answered = int(row[index]), int(row.sum()), int(confusion[:, index].sum())
    wrong = row.copy()
    wrong[index] = 0
    return ClassReport(
        label=columns[index],
        top1=Share(right, total, wilson_interval(right, total) if total else Interval(0.0, 1.0)),
        precision=right / answered if answered else None,
        mistaken_for=columns[int(wrong.argmax())] if wrong.any() else None,
    )


def _names(models: tuple[Predictions, ...]) -> list[str]:
    """File names where they tell the models apart, else paths, else paths with a number."""
    short = [model.info.path.name for model in models]
    if len(set(short)) == len(short):
        return short
    long = [str(model.info.path) for model in models]
    return long if len(set(long)) == len(long) else [f"{i + 1}: {name}" for i, name in enumerate(long)]
