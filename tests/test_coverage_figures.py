"""The table of coverage: which figure the promise is about, and that nothing unmeasured passes."""

from __future__ import annotations

import json
from pathlib import Path

import coverage_figures
import pytest


def summary(branches: int, taken: int, statements: int, run: int) -> dict[str, dict[str, int]]:
    counts = {
        "num_branches": branches,
        "covered_branches": taken,
        "num_statements": statements,
        "covered_lines": run,
    }
    return {"summary": counts}


@pytest.fixture
def report() -> dict[str, dict[str, object]]:
    """Two files of the SDK, one of each other package."""
    return {
        "files": {
            "evit_edge/a.py": summary(10, 9, 20, 20),
            "evit_edge/b/c.py": summary(10, 8, 30, 25),
            "converters/evit_converters/a.py": summary(8, 8, 10, 10),
            "calibration/evit_calibration/a.py": summary(4, 4, 10, 10),
            "app/evit_app/a.py": summary(8, 7, 10, 9),
        }
    }


def test_branches_are_counted_alone_and_with_statements(report: dict[str, object]) -> None:
    found = coverage_figures.figures(report)
    assert found["evit_edge"] == (20, pytest.approx(85), pytest.approx(100 * 62 / 70))
    assert found["all"] == (40, pytest.approx(90), pytest.approx(100 * 110 / 120))


def test_a_component_that_was_not_measured_is_no_pass(report: dict[str, dict[str, object]]) -> None:
    del report["files"]["app/evit_app/a.py"]
    with pytest.raises(ValueError, match="app/evit_app/"):
        coverage_figures.figures(report)


@pytest.mark.parametrize(("least", "code"), [("90", 0), ("90.5", 1)])
def test_branches_alone_are_promised(
    least: str,
    code: int,
    report: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    assert coverage_figures.main(str(path), least) == code
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].split() == ["all", "40", "90.0%", "91.7%"]
    told = f"90.00 % of the branches were taken; at least {least} % are promised\n"
    assert shown.err == ("" if code == 0 else told)
