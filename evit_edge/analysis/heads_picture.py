"""An analysis of heads as a picture: similarity by block, a line for each network, as in figure 4 of the paper."""

from __future__ import annotations

from pathlib import Path

from evit_edge.analysis.heads_report import HeadsReport
from evit_edge.drawing import drawn


def draw_heads(report: HeadsReport, path: Path) -> None:
    """Draw each block's mean over the heads as a line, each head as a dot; cosine above, correlation below.

    Args:
        report: The figures.
        path: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        OutputError: The file cannot be written there or is of another kind.
        MissingExtraError: matplotlib is not installed.
    """
    from matplotlib.ticker import MaxNLocator

    with drawn(path, 8, 7) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for model in report.models:
            where = range(1, len(model.blocks) + 1)
            label = f"{model.name} ({model.features}{'' if model.trained else ', random weights'})"
            for axes, means, heads in (
                (upper, [b.mean_cosine for b in model.blocks], [b.cosine for b in model.blocks]),
                (lower, [b.mean_correlation for b in model.blocks], [b.correlation for b in model.blocks]),
            ):
                (line,) = axes.plot(where, means, marker="o", label=label)
                dots = [(x, value) for x, values in zip(where, heads, strict=True) for value in values]
                axes.scatter(*zip(*dots, strict=True), s=10, color=line.get_color(), alpha=0.4)
        upper.set_ylabel("largest cosine similarity")
        lower.set_ylabel("largest correlation")
        lower.set_xlabel("attention, in the order of execution")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        upper.legend(fontsize=8)
        figure.suptitle(f"How like another head each head attends; {report.photos} photos", fontsize=10)
