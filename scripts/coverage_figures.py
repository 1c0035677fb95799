"""Coverage of each component: ``coverage_figures.py REPORT.json [LEAST]``.

Two figures: the share of branches that the tests took, and ``coverage report``'s, which counts statements and
branches together and is the kinder one. Ends with 1 where the first is below LEAST per cent over all components.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

COMPONENTS = {
    "evit_edge": "evit_edge/",
    "evit_converters": "converters/evit_converters/",
    "evit_calibration": "calibration/evit_calibration/",
    "evit_app": "app/evit_app/",
}
_KEYS = ("num_branches", "covered_branches", "num_statements", "covered_lines")


def figures(report: dict[str, Any]) -> dict[str, tuple[int, float, float]]:
    """Branches, per cent of them taken, and per cent of statements and branches together; of each, and of all.

    Raises:
        ValueError: A component was not measured.
    """
    summaries = {path.replace("\\", "/"): entry["summary"] for path, entry in report["files"].items()}
    found = {}
    for name, folder in COMPONENTS.items():
        mine = [summary for path, summary in summaries.items() if path.startswith(folder)]
        if not mine:
            raise ValueError(f"no file of {folder} in the report: was it measured where the tests ran?")
        found[name] = {key: sum(summary[key] for summary in mine) for key in _KEYS}
    found["all"] = {key: sum(counts[key] for counts in found.values()) for key in _KEYS}
    return {name: (counts["num_branches"], *_shares(counts)) for name, counts in found.items()}


def _shares(counts: dict[str, int]) -> tuple[float, float]:
    taken, branches = counts["covered_branches"], counts["num_branches"]
    together = 100 * (taken + counts["covered_lines"]) / (branches + counts["num_statements"])
    return 100 * taken / branches, together


def main(path: str, least: str = "0") -> int:
    """Print the table; 1 where too few were taken."""
    table = figures(json.loads(Path(path).read_text(encoding="utf-8")))
    sys.stdout.write(f"{'':18}{'branches':>9}{'taken':>9}{'with statements':>17}\n")
    for name, (branches, taken, together) in table.items():
        sys.stdout.write(f"{name:18}{branches:9}{taken:8.1f}%{together:16.1f}%\n")
    _, taken, _ = table["all"]
    if taken >= float(least):
        return 0
    sys.stderr.write(f"{taken:.2f} % of the branches were taken; at least {least} % are promised\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
