"""An analysis of channels as a picture: what a budget leaves of each part, as in figure 5 of the paper."""

from __future__ import annotations

from pathlib import Path

from evit_edge.analysis.channels_report import ChannelKind, ChannelsReport
from evit_edge.drawing import drawn

NAMES = {ChannelKind.QK: "Q and K", ChannelKind.V: "V", ChannelKind.FFN: "FFN"}
_COLOURS = {ChannelKind.QK: "#1f6fb4", ChannelKind.V: "#e07b39", ChannelKind.FFN: "#3a9a5b"}


def draw_channels(report: ChannelsReport, path: Path) -> None:
    """Draw for each kind the channels by part, over those that go in: unpruned as outlines, kept as bars.

    Args:
        report: The figures.
        path: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        OutputError: The file cannot be written there or is of another kind.
        MissingExtraError: matplotlib is not installed.
    """
    with drawn(path, 11, 4.8) as figure:
        for axes, kind in zip(figure.subplots(1, 3), ChannelKind, strict=True):
            shares = [share for share in report.shares if share.kind is kind]
            where = range(len(shares))
            axes.bar(
                where,
                [share.before / share.embedding for share in shares],
                color="none",
                edgecolor="#888888",
                label="unpruned",
            )
            bars = axes.bar(where, [s.after / s.embedding for s in shares], color=_COLOURS[kind], label="kept")
            axes.bar_label(bars, [f"{100 * s.after / s.before:.0f}" for s in shares], fontsize=7)  # %
            axes.set_xticks(where, [short(share.part) for share in shares], rotation=90, fontsize=7)
            axes.set_title(NAMES[kind])
            axes.legend(fontsize=7, loc="upper center", ncols=2)
            axes.margins(y=0.15)
        figure.axes[0].set_ylabel("channels over the embedding's; on the bars % kept")
        figure.suptitle(
            f"{report.name}: {100 * report.keep:.0f} % of the channels kept by Taylor importance "
            f"on {report.photos} photos",
            fontsize=10,
        )


def short(part: str) -> str:
    """``stages.1.blocks.0.ffn1`` as ``1.0.ffn1``, ``stages.1.downsample.res2.1`` as ``1.res2``."""
    words = part.split(".")
    return ".".join([words[1], words[3]] if words[2] == "downsample" else [words[1], words[3], words[4]])
