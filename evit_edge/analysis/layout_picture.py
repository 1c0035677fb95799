"""An analysis of layouts as a picture: what a share of attention layers costs, as in figure 3 of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evit_edge.analysis.layout_report import LayoutReport
from evit_edge.drawing import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREEN = "#1f6fb4", "#e07b39", "#3a9a5b"


def draw_layout(report: LayoutReport, path: Path) -> None:
    """Draw throughput, memory-bound share and, where there is one, accuracy over the share of attention layers.

    Args:
        report: The figures.
        path: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        OutputError: The file cannot be written there or is of another kind.
        MissingExtraError: matplotlib is not installed.
    """
    trained = all(net.accuracy is not None for net in report.nets)
    with drawn(path, 7, 6.5 + 2.5 * trained) as figure:
        throughput, memory, *more = figure.subplots(2 + trained, 1, sharex=True)
        shares = [net.share for net in report.nets]
        throughput.plot(shares, [net.images_per_s for net in report.nets], marker="o", color=_BLUE)
        for net in report.nets:
            note = f"width {net.width}\n{1e3 * net.latency_s:.3g} ms"
            throughput.annotate(
                note, (net.share, net.images_per_s), textcoords="offset points", xytext=(4, 4), fontsize=7
            )
        throughput.set_ylabel(f"images/s, batch {report.nets[0].runtime.batch}")
        throughput.margins(x=0.2, y=0.3)
        for label, values, colour in (
            ("by kind, as the paper counts", [net.runtime.memory_share_in_paper for net in report.nets], _ORANGE),
            ("by operations a byte", [net.runtime.memory_share for net in report.nets], _GREEN),
        ):
            memory.plot(shares, [100 * value for value in values], marker="o", color=colour, label=label)
        memory.set_ylabel("memory-bound, % of the time")
        memory.set_ylim(bottom=0)
        memory.legend(fontsize=8)
        if trained:
            _draw_accuracy(report, more[0])
        (more[0] if trained else memory).set_xlabel("share of layers that attend")
        figure.suptitle(
            f"{report.nets[0].layers} layers, width for {1e3 * report.target_s:.3g} ms at batch {report.batch}\n"
            f"{report.device}, {report.threads} thread(s), {report.engine}",
            fontsize=9,
        )


def _draw_accuracy(report: LayoutReport, axes: Axes) -> None:
    found = [(net.share, net.accuracy) for net in report.nets if net.accuracy is not None]
    values = [100 * accuracy.top1 for _, accuracy in found]
    below = [100 * (accuracy.top1 - accuracy.interval.low) for _, accuracy in found]
    above = [100 * (accuracy.interval.high - accuracy.top1) for _, accuracy in found]
    axes.errorbar([s for s, _ in found], values, yerr=[below, above], marker="o", color=_BLUE, capsize=2)
    axes.set_ylabel(f"top-1, %, {found[0][1].epochs} epochs")
