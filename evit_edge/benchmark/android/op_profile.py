"""Reading the op profile of ``benchmark_model --enable_op_profiling=true`` (LiteRT's: ``--use_profiler=true``).

The table ``Run Order`` lists each node: type, start (not in all versions), first time, average in ms, its share in
percent, and so on. Averages have three digits after the point, so that a node of 0.4 us reads 0.000; the share has
three digits too and is finer, so that times are taken from it.

With a delegate that looks inside itself (XNNPACK since TensorFlow 2.10) its operators stand in the same table
beside the delegate's node, which is their sum: the node is left out then. Rows of loading (``AllocateTensors``,
``ModifyGraphWithDelegate``) are no operators.
Source: tensorflow/lite/profiling/profile_summarizer.cc, tensorflow/core/util/stats_calculator.cc.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evit_edge.benchmark.android.output import clean_lines

_ROW = re.compile(
    r"^\s*(?P<type>\S.*?)\s+(?P<numbers>(?:\d+\.\d+\s+){2,3})(?P<share>\d+\.\d+)%\s+\d+\.\d+%\s+\S+\s+(?P<calls>\d+)"
    r"\s+(?P<name>.*)$"
)
_LOADING = ("AllocateTensors", "ModifyGraphWithDelegate")
_REGULAR = "Operator-wise Profiling Info for Regular Benchmark Runs"
_RUN_ORDER, _END = "Run Order", "Top by Computation Time"


@dataclass(frozen=True)
class NodeTime:
    """A node of the graph, or an operator inside a delegate.

    Attributes:
        type: As the tool spells it, without ``Delegate/``.
        time_s: Average in one inference.
    """

    type: str
    time_s: float


def parse_op_profile(text: str) -> tuple[NodeTime, ...]:
    """Read the operators of the regular runs, in the order in which they ran; empty where there is no table."""
    lines = clean_lines(text)
    starts = [i for i, line in enumerate(lines) if _REGULAR in line]
    rows = _rows(lines[starts[-1] :] if starts else lines)
    rows = [row for row in rows if not row["type"].startswith(_LOADING)]
    inside = any(_is_inside(row) for row in rows)
    kept = [row for row in rows if not (inside and _is_delegate(row))]
    total_ms, shares = sum(_average_ms(row) for row in kept), sum(float(row["share"]) for row in kept)
    per_percent = total_ms / shares if shares else 0.0
    return tuple(
        NodeTime(row["type"].removeprefix("Delegate/"), 1e-3 * per_percent * float(row["share"])) for row in kept
    )


def _rows(lines: list[str]) -> list[dict[str, str]]:
    """Of the first table that is in order of running."""
    rows: list[dict[str, str]] = []
    inside = False
    for line in lines:
        if _RUN_ORDER in line:
            inside = True
        elif _END in line and inside:
            break
        elif inside and (match := _ROW.match(line)):
            rows.append(match.groupdict())
    return rows


def _average_ms(row: dict[str, str]) -> float:
    return float(row["numbers"].split()[-1])


def _is_inside(row: dict[str, str]) -> bool:
    return row["name"].startswith(("Delegate/", "[Delegate]")) or row["type"].startswith("Delegate/")


def _is_delegate(row: dict[str, str]) -> bool:
    return "Delegate" in row["type"] and not _is_inside(row)
