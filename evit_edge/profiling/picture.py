"""A profile as a picture: bars by class, what bounds them in colour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evit_edge.benchmark.figures import Bound
from evit_edge.drawing import drawn
from evit_edge.profiling.profile import Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: dict[Bound | None, str] = {Bound.COMPUTE: "#1f6fb4", Bound.MEMORY: "#e07b39", None: "#8a8a8a"}
_NAMES: dict[Bound | None, str] = {Bound.COMPUTE: "compute-bound", Bound.MEMORY: "memory-bound", None: "not known"}
_RESIDUAL = "#c9c9c9"
_NAMED_FROM = 8  # % of the whole


def draw_profile(profile: Profile, path: Path) -> None:
    """Draw time by class, the longest on top, with errors; below it the share of each bound.

    Args:
        profile: The figures.
        path: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        OutputError: The file cannot be written there or is of another kind.
        MissingExtraError: matplotlib is not installed.
    """
    from matplotlib.patches import Patch

    with drawn(path, 8, 2.6 + 0.36 * len(profile.classes)) as figure:
        classes_axes, shares_axes = figure.subplots(2, 1, height_ratios=[len(profile.classes) + 1, 1.6])
        names = [f"{entry.op_class} ({entry.count})" for entry in profile.classes]
        times = [1e3 * entry.time_s for entry in profile.classes]
        errors = [1e3 * (entry.error_s or 0.0) for entry in profile.classes]
        colours = [_COLOURS[entry.bound] for entry in profile.classes]
        bars = classes_axes.barh(names, times, xerr=errors, color=colours, ecolor="#444444", capsize=2)
        labels = [f" {time:.3g} ms, {0.1 * time / profile.whole_s:.0f} %" for time in times]
        classes_axes.bar_label(bars, labels, padding=4, fontsize=8)
        classes_axes.invert_yaxis()
        classes_axes.margins(x=0.3)
        classes_axes.set_xlabel("ms in one inference")
        classes_axes.legend(
            handles=[Patch(color=_COLOURS[bound], label=_NAMES[bound]) for bound in _COLOURS],
            fontsize=8,
            loc="lower right",
        )
        classes_axes.set_title(
            f"{profile.artefact}: {1e3 * profile.whole_s:.3g} ms, "
            f"{profile.threads} thread(s), batch {profile.batch}\n"
            f"{profile.engine} on {profile.device_name}",
            fontsize=10,
        )
        _draw_shares(profile, shares_axes)


def _draw_shares(profile: Profile, axes: Axes) -> None:
    """One bar: compute, memory, unknown, and what is not explained; the whole marked."""
    left = 0.0
    parts = [(_NAMES[bound], profile.bound_s(bound), _COLOURS[bound]) for bound in _COLOURS]
    parts.append(("not explained", profile.residual_s, _RESIDUAL))
    for name, seconds, colour in parts:
        share = 100 * seconds / profile.whole_s
        if share > 0:
            bar = axes.barh([""], [share], left=left, color=colour)
            axes.bar_label(
                bar, [f"{name} {share:.0f} %" if share > _NAMED_FROM else ""], label_type="center", fontsize=8
            )
            left += share
    axes.axvline(100, color="black", linewidth=1)
    axes.set_xlabel("% of the whole model's time")
