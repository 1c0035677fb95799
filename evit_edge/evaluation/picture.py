"""A confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evit_edge.drawing import drawn
from evit_edge.evaluation.report import ModelReport

_NUMBERED_UP_TO = 25


def draw_confusion(model: ModelReport, path: Path) -> None:
    """Draw rows of right classes, columns of answers, coloured by the part of the row.

    The canvas grows with the classes so that every name stays readable; counts are written into the cells up to
    25 classes, beyond that the colours speak.

    Args:
        model: The figures.
        path: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        OutputError: The file cannot be written there or is of another kind.
        MissingExtraError: matplotlib is not installed.
    """
    rows, columns = model.confusion.shape
    inch = 0.45 if rows <= _NUMBERED_UP_TO else 0.17
    with drawn(path, max(5.0, 3 + inch * columns), max(4.5, 2.5 + inch * rows)) as figure:
        axes = figure.subplots()
        totals = np.maximum(model.confusion.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(model.confusion / totals, cmap="Blues", vmin=0, vmax=1)
        size = 9 if rows <= _NUMBERED_UP_TO else 7
        axes.set_xticks(range(columns), _shortened(model.columns), rotation=90, fontsize=size)
        axes.set_yticks(range(rows), _shortened(model.columns[:rows]), fontsize=size)
        axes.set_xlabel("answered")
        axes.set_ylabel("right class")
        axes.set_title(f"{model.name}: top-1 {100 * model.top1.value:.1f} % of {model.top1.total} photos")
        if rows <= _NUMBERED_UP_TO:
            _write_counts(axes, model)
        figure.colorbar(image, ax=axes, shrink=0.6, label="part of the class's photos")


def _write_counts(axes: Any, model: ModelReport) -> None:
    totals = np.maximum(model.confusion.sum(axis=1), 1)
    for (row, column), count in np.ndenumerate(model.confusion):
        if count:
            colour = "white" if count > 0.6 * totals[row] else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)


def _shortened(names: tuple[str, ...], most: int = 24) -> list[str]:
    return [name if len(name) <= most else name[: most - 1] + "…" for name in names]
