"""What a benchmark shows while it runs: models, the time left, histograms; on no terminal, remarks alone."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from evit_edge.benchmark.request import Phase, Progress
from evit_edge.cli import benchmark_view


def drawn(progress: Progress) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(benchmark_view._picture(progress))
    return console.file.getvalue()


def test_models_with_times_are_lines_with_their_median() -> None:
    times = {"fast": (0.001, 0.003, 0.002), "slow": (0.02,), "to come": ()}
    shown = drawn(Progress(Phase.MEASURE, "fast", 0.25, 75.4, times))
    first, *lines = [line for line in shown.splitlines() if line.strip()]
    assert Phase.MEASURE.value in first
    assert "1:15 left" in first
    assert [line.split()[:5] for line in lines] == [
        ["fast", "2.00", "ms", "3", "runs"],
        ["slow", "20.00", "ms", "1", "runs"],
    ]


def test_without_an_estimate_no_time_is_shown() -> None:
    shown = drawn(Progress(Phase.MEASURE, "fast"))
    assert "left" not in shown
    assert "fast" in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_is_drawn_on(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, remarks = io.StringIO(), []
    console = Console(file=stream, force_terminal=terminal, width=120)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    monkeypatch.setattr(benchmark_view, "remark", remarks.append)
    with benchmark_view.shown() as tell:
        tell(Progress(Phase.MEASURE, "a model", 0.5, 10.0))
        tell(Progress(Phase.MEASURE, "a model", 0.5, 10.0, remark="it is hot"))
    assert remarks == ["it is hot"]
    assert ("a model" in stream.getvalue()) is terminal
