"""The comparison as markdown and as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paper_measure import Cell, Group, Report, images_per_s, nets_of, speed_up
from paper_nets import ENTRIES, Form

from evit_edge.benchmark.statistics import Estimate
from evit_edge.files import replacing

M2, M5, MOBILENET, MOBILEVIT = "efficientvit_m2", "efficientvit_m5", "mobilenetv3_large_100", "mobilevit_xxs"
GPU, CPU, ONNX = "GPU", "CPU", "ONNX"
_LINE, _LABEL = 0.4, 1.7  # of a label, about: height in per cent, width as a ratio of speeds
_TICKS = tuple(10 * 2**power for power in range(20))


@dataclass(frozen=True)
class Claim:
    """A ratio of the paper's (abstract and section 4.2).

    Attributes:
        title: For tables.
        faster: Name in timm.
        slower: Name in timm.
        paper: What the paper says, by ``GPU``, ``CPU`` and ``ONNX``.
    """

    title: str
    faster: str
    slower: str
    paper: dict[str, float]


CLAIMS = (
    Claim("M5 / MobileNetV3-L", M5, MOBILENET, {GPU: 1.404, CPU: 1.452}),
    Claim("M2 / MobileViT-XXS", M2, MOBILEVIT, {GPU: 5.8, CPU: 3.7, ONNX: 7.4}),
)

_COLUMNS = (
    ("torch as made", "torch", Form.PLAIN, "eager"),
    ("torch eager", "torch", Form.FOLDED, "eager"),
    ("torch channels_last", "torch", Form.FOLDED, "channels_last"),
    ("torch inference form", "torch", Form.INFERENCE, "eager"),
    ("torch compiled", "compiled", Form.FOLDED, "compiled"),
    ("ONNX Runtime", "onnx", None, "float"),
    ("TFLite float", "tflite", None, "float"),
    ("TFLite int8", "tflite", None, "int8"),
    ("CUDA float16", "cuda", Form.FOLDED, "float16"),
    ("CUDA float32", "cuda", Form.FOLDED, "float32"),
)
_ANY_FORM = (Form.INFERENCE, Form.FOLDED)

# Title, engine, then form and mode of the faster net and of the slower one; None is whatever is fastest.
_WAYS = (
    ("torch eager, only ours folded", "torch", (Form.FOLDED, "eager"), (Form.PLAIN, "eager")),
    ("torch eager, both as made", "torch", (Form.PLAIN, "eager"), (Form.PLAIN, "eager")),
    ("torch eager, both folded", "torch", (Form.FOLDED, "eager"), (Form.FOLDED, "eager")),
    ("torch channels_last, both folded", "torch", (Form.FOLDED, "channels_last"), (Form.FOLDED, "channels_last")),
    ("torch, our inference form / eager folded", "torch", (Form.INFERENCE, "eager"), (Form.FOLDED, "eager")),
    ("torch, each at its fastest", "torch", None, None),
    ("torch compiled, both folded", "compiled", None, None),
    ("ONNX Runtime", "onnx", None, None),
    ("TFLite float", "tflite", (Form.INFERENCE, "float"), (Form.FOLDED, "float")),
    ("TFLite int8", "tflite", (Form.INFERENCE, "int8"), (Form.FOLDED, "int8")),
    ("TFLite, our int8 / its float", "tflite", (Form.INFERENCE, "int8"), (Form.FOLDED, "float")),
    ("CUDA float16", "cuda", (Form.FOLDED, "float16"), (Form.FOLDED, "float16")),
    ("CUDA float32", "cuda", (Form.FOLDED, "float32"), (Form.FOLDED, "float32")),
)


def markdown(report: Report) -> str:
    """Every table, with what was measured where and when."""
    return "\n\n".join([*_throughputs(report), _ratios(report), _sessions(report)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rounded(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio_text(estimate: Estimate) -> str:
    """A ratio with its interval."""
    return f"{estimate.value:.2f} [{estimate.interval.low:.2f}, {estimate.interval.high:.2f}]"


def _throughputs(report: Report) -> Iterator[str]:
    for device, batch in sorted({(group.device, group.batch) for group in report.groups}):
        groups = [group for group in report.groups if (group.device, group.batch) == (device, batch)]
        columns = [c for c in _COLUMNS if any(_cell(g, n, c) for g in groups for n in nets_of(groups))]
        rows = [
            [known.name, f"{known.top1}", *(_shown(groups, known.key, column) for column in columns)]
            for known in ENTRIES
            if known.key in nets_of(groups)
        ]
        yield f"Images a second, {device}, {groups[0].threads} thread(s), batch {batch}:"
        yield table(["", "top-1 %", *(column[0] for column in columns)], rows)
        remarks = [f"- {cell.label}: {cell.remark}" for g in groups for cell in g.cells if cell.remark]
        if remarks:
            yield "Not run:\n" + "\n".join(remarks)


def _cell(group: Group, net: str, column: tuple[str, str, Form | None, str]) -> Cell | None:
    _, engine, form, mode = column
    if group.engine != engine:
        return None
    found = (group.find(net, one, mode) for one in (_ANY_FORM if form is None else (form,)))
    return next((cell for cell in found if cell is not None), None)


def _shown(groups: Iterable[Group], net: str, column: tuple[str, str, Form | None, str]) -> str:
    for group in groups:
        cell = _cell(group, net, column)
        if cell is not None:
            return rounded(images_per_s(cell, group.batch)[0])
    return ""


def ratios(report: Report, claim: Claim) -> Iterator[tuple[str, int, Estimate, float]]:
    """Way of running, batch, the measured ratio, and the paper's."""
    for title, engine, one, other in _WAYS:
        for group in report.groups:
            if group.engine != engine:
                continue
            first = group.fastest(claim.faster) if one is None else group.find(claim.faster, *one)
            second = group.fastest(claim.slower) if other is None else group.find(claim.slower, *other)
            if first is None or second is None:
                continue
            kind = GPU if engine == "cuda" else ONNX if engine == "onnx" else CPU
            paper = claim.paper.get(kind, claim.paper[CPU])
            told = f"{title} ({_how(first)} / {_how(second)})" if one is None and engine == "torch" else title
            yield told, group.batch, speed_up(first, second), paper


def _how(cell: Cell) -> str:
    return cell.form.value if cell.form is Form.INFERENCE else f"{cell.form.value} {cell.mode}"


def reached(estimate: Estimate, paper: float) -> str:
    """Whether a ratio is the paper's, with the interval in mind."""
    if estimate.value >= paper:
        return "yes" if estimate.interval.low >= paper else "yes, within noise"
    share = f"{100 * (1 - estimate.value / paper):.0f} % short"
    return share if estimate.interval.high < paper else f"{share}, within noise"


def _ratios(report: Report) -> str:
    rows = [
        [claim.title, told, f"{batch}", ratio_text(estimate), f"{paper:g}", reached(estimate, paper)]
        for claim in CLAIMS
        for told, batch, estimate, paper in ratios(report, claim)
    ]
    return table(["images/s of", "through", "batch", "measured, 99 % interval", "paper", "reached"], rows)


def _sessions(report: Report) -> str:
    rows = [
        [
            f"{group.engine}, batch {group.batch}",
            group.created,
            f"{group.clock}, {_rounds(group)} rounds",
            f"{group.load_before} to {group.load_after}",
            f"`{group.command}`",
        ]
        for group in report.groups
    ]
    devices = "; ".join(dict.fromkeys(f"{g.device}, {g.threads} thread(s)" for g in report.groups))
    found = {f"{name} {version}" for g in report.groups for name, version in g.versions.items()}
    text = table(["measured", "when (UTC)", "clock", "load average", "command"], rows)
    return f"{devices}. {', '.join(sorted(found))}.\n\n{text}"


def _rounds(group: Group) -> int:
    return max((max(cell.runs.rounds, default=-1) + 1 for cell in group.cells if cell.runs is not None), default=0)


def draw(report: Report, path: Path) -> None:
    """Top-1 over speed, the axes of the paper's figure 1: torch at the largest batch, and TFLite int8.

    Args:
        report: The figures.
        path: ``.png``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.4), layout="constrained")
    wanted = (("torch", None, "PyTorch eager, each net's fastest form"), ("tflite", "int8", "TFLite int8"))
    panels = [
        (max((g for g in report.groups if g.engine == engine), key=lambda g: g.batch), mode, title)
        for engine, mode, title in wanted
        if any(g.engine == engine for g in report.groups)
    ]
    if not panels:
        return
    for axes, (group, mode, title) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, group, mode)
        axes.set_title(f"{title}, batch {group.batch}, {group.threads} thread(s) of {group.device}", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _panel(axes: Any, group: Group, mode: str | None) -> None:
    points: list[tuple[float, float, str, bool]] = []
    for known in ENTRIES:
        mine = [c for c in group.cells if c.net == known.key and c.runs is not None and mode in {None, c.mode}]
        if mine:
            speed = max(images_per_s(cell, group.batch)[0] for cell in mine)
            points.append((speed, known.top1, known.name, known.ours))
    ours = [point for point in points if point[3]]
    axes.plot([p[0] for p in ours], [p[1] for p in ours], "o-", color="#c0392b", label="EfficientViT")
    others = [point for point in points if not point[3]]
    axes.plot([p[0] for p in others], [p[1] for p in others], "s", color="#1f6fb4", label="others")
    curve = sorted((top1, speed) for speed, top1, *_ in ours)
    for speed, top1, name, mine_too in points:
        beyond = mine_too or (bool(curve) and speed > np.interp(top1, *zip(*curve, strict=True)))
        beyond |= any(abs(top1 - p[1]) < _LINE and 1 < speed / p[0] < _LABEL for p in points)
        axes.annotate(
            name,
            (speed, top1),
            xytext=(7, 4 if mine_too else -3) if beyond else (-7, -3),
            textcoords="offset points",
            ha="left" if beyond else "right",
            fontsize=8,
            color="#c0392b" if mine_too else "#1f3f66",
        )
    axes.set_xscale("log")
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    axes.set_xlim(left / 1.8, right * 1.25)
    axes.set_xticks([tick for tick in _TICKS if left / 1.8 < tick < right * 1.25], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("images a second (log)")
    axes.set_ylabel("ImageNet top-1 %, as published")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(loc="lower left", fontsize=8)
