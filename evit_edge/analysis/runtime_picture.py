"""An analysis of run time as a picture: one bar a network, kinds in colour, as in figure 2 of the paper."""

from __future__ import annotations

from pathlib import Path

from evit_edge.analysis.kinds import Kind
from evit_edge.analysis.runtime_report import RuntimeReport
from evit_edge.drawing import drawn

_COLOURS = {
    Kind.MULTIPLICATION: "#1f6fb4",
    Kind.RESHAPE: "#e07b39",
    Kind.NORMALIZATION: "#b5423a",
    Kind.COPY: "#d9a521",
    Kind.ADDITION: "#8a5bb5",
    Kind.OTHER: "#3a9a5b",
}
_OUTSIDE = "#c9c9c9"
_NAMED_FROM = 5  # % of the whole


def draw_runtime(report: RuntimeReport, path: Path) -> None:
    """Draw the share of each kind; on the right the part that waits for memory by arithmetic intensity.

    Args:
        report: The figures.
        path: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        OutputError: The file cannot be written there or is of another kind.
        MissingExtraError: matplotlib is not installed.
    """
    with drawn(path, 10, 2.4 + 0.42 * len(report.models)) as figure:
        axes = figure.subplots()
        names = [f"{model.name}, {1e3 * model.whole_s:.3g} ms" for model in report.models]
        left = [0.0] * len(names)
        parts = [(kind.value, [m.share(kind) for m in report.models], _COLOURS[kind]) for kind in Kind]
        parts.append(("in no operator", [max(0.0, m.outside_share) for m in report.models], _OUTSIDE))
        for name, shares, colour in parts:
            widths = [100 * share for share in shares]
            bars = axes.barh(names, widths, left=left, color=colour, label=name)
            labels = [f"{width:.0f}" if width >= _NAMED_FROM else "" for width in widths]
            axes.bar_label(bars, labels, label_type="center", fontsize=8)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for row, (model, end) in enumerate(zip(report.models, left, strict=True)):
            text = f"  memory-bound {100 * model.memory_share:.0f} %"
            axes.text(max(end, 100.0), row, text, va="center", fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 125)
        axes.set_xticks(range(0, 101, 20))
        axes.set_xlabel("% of the run time")
        figure.legend(loc="outside lower center", ncols=4, fontsize=8)
        batches = sorted({model.batch for model in report.models})
        axes.set_title(
            f"{report.device}, {report.threads} thread(s), batch {', '.join(map(str, batches))}, {report.engine}; "
            f"balance {report.flops_per_byte:.0f} operations a byte",
            fontsize=9,
        )
