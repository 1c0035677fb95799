"""A sensitivity analysis as a picture: the noise of every operator, in the order in which they run."""

from __future__ import annotations

from pathlib import Path

from evit_calibration.sensitivity import worst_first
from evit_edge.drawing import drawn
from evit_edge.sensitivity.report import SensitivityReport

_LISTED = 20
_COLOURS = ("#1f6fb4", "#e07b39", "#3a9a5b", "#8a5bb5", "#b5423a", "#8a8a8a")


def draw_sensitivity(report: SensitivityReport, path: Path) -> None:
    """Draw all operators as dots, kinds in colour, and the twenty worst as bars, flips written beside them.

    Args:
        report: The figures.
        path: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        OutputError: The file cannot be written there or is of another kind.
        MissingExtraError: matplotlib is not installed.
    """
    kinds = sorted({entry.kind for entry in report.operators})
    colours = {kind: _COLOURS[min(i, len(_COLOURS) - 1)] for i, kind in enumerate(kinds)}
    with drawn(path, 9, 9) as figure:
        along, worst = figure.subplots(2, 1, height_ratios=[1, 1.5])
        for kind in kinds:
            points = [(i, e.loss.sqnr_db) for i, e in enumerate(report.operators) if e.kind == kind]
            along.scatter(*zip(*points, strict=True), s=14, color=colours[kind], label=kind)
        along.set_xlabel("operator, in the order of execution")
        along.set_ylabel("SQNR at the output, dB")
        along.invert_yaxis()  # the harmful ones on top
        along.legend(fontsize=7, ncols=3)
        entries = worst_first(report.operators)[:_LISTED]
        bars = worst.barh(
            [entry.name for entry in entries],
            [entry.loss.sqnr_db for entry in entries],
            color=[colours[entry.kind] for entry in entries],
        )
        worst.bar_label(bars, [f" {e.loss.sqnr_db:.1f} dB, {e.loss.flips} flips" for e in entries], fontsize=8)
        worst.invert_yaxis()
        worst.margins(x=0.2)
        worst.set_xlabel("SQNR at the output when it alone is int8, dB; less is worse")
        figure.suptitle(f"{report.name}: int8 one by one, {report.photos} photos, {report.estimator} ranges")
