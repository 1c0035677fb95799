"""The table of mutants: what counts as killed, and what does not pass."""

from __future__ import annotations

import json
from pathlib import Path

import mutation_figures
import pytest


def written(folder: Path, module: str, codes: list[int | None]) -> None:
    path = folder / f"{module}.meta"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {f"x__mutmut_{i}": code for i, code in enumerate(codes)}
    path.write_text(json.dumps({"exit_code_by_key": table}), encoding="utf-8")


@pytest.mark.parametrize(
    ("codes", "code", "last"),
    [
        ([1] * 16 + [36], 0, "all 20 16 1 3 0 0 85.0%"),
        ([1] * 15 + [36, 33], 1, "all 20 15 1 4 0 0 80.0%"),
        ([1] * 16 + [None], 1, "all 20 16 0 3 0 1 80.0%"),
    ],
    ids=["enough", "no test reaches one", "not tried"],
)
def test_killed_are_those_that_fail_or_hang(
    codes: list[int | None], code: int, last: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, "evit_edge/a.py", codes)
    written(tmp_path, "evit_calibration/b.py", [0, 0, 0])
    written(tmp_path, "evit_calibration/empty.py", [])
    assert mutation_figures.main(str(tmp_path)) == code
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == "evit_calibration/b.py 3 0 0 3 0 0 0.0%"
    assert lines[-1] == last
    assert len(lines) == 4


def test_no_mutants_are_no_pass(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no mutants in"):
        mutation_figures.main(str(tmp_path))
