"""The pins are exact, complete, and within the ranges that the project states."""

from __future__ import annotations

from pathlib import Path

import check_pins
import pytest
import requirements_graph

PINS = Path(requirements_graph.ROOT) / "constraints.txt"


def test_pins_are_exact_and_fit_the_project() -> None:
    assert list(check_pins.problems_of_the_file()) == []


def test_everything_that_the_project_leads_to_is_pinned() -> None:
    assert list(check_pins.problems_of_the_closure()) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (lambda text: text + "numpy>=2\n", "'numpy>=2' is no exact, public pin"),
        (
            lambda text: text.replace("\ntorch==2.13.0", "\ntorch==2.13.0+cpu"),
            "'torch==2.13.0+cpu' is no exact, public pin",
        ),
        (lambda text: text + "numpy==2.3.5\n", "numpy is pinned twice"),
        (lambda text: text.replace("\nnumpy==2.3.5", "\nnumpy==1.0"), "numpy is pinned to 1.0, and"),
        (lambda text: text.replace("\nrich==", "\nporr=="), "rich is not pinned"),
    ],
    ids=["range", "one build of it", "twice", "out of range", "missing"],
)
def test_a_wrong_pin_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed, problem: str) -> None:
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((PINS.parent / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "constraints.txt").write_text(changed(PINS.read_text(encoding="utf-8")), encoding="utf-8")
    for module in (check_pins, requirements_graph):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    if "no exact" in problem:
        assert any(problem in line for line in check_pins.problems_of_the_file())
        return
    told = [*check_pins.problems_of_the_file(), *check_pins.problems_of_the_closure()]
    assert any(line.startswith(problem) for line in told), told
