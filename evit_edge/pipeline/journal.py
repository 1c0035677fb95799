"""What a running conversion tells of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evit_calibration.budget import Trial
from evit_edge.pipeline.request import Progress, Stage


class Journal:
    """Tells the caller of stages and adds up their times."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self.tell = tell
        self.stage_s: dict[Stage, float] = {}

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Time what happens inside."""
        self.tell(Progress(stage))
        started = time.perf_counter()
        yield
        self.stage_s[stage] = time.perf_counter() - started
        self.tell(Progress(stage, seconds=self.stage_s[stage]))

    def remark(self, stage: Stage, text: str) -> None:
        """Say something that the user should read."""
        self.tell(Progress(stage, remark=text))

    def counting(self, stage: Stage) -> Callable[[int, int], None]:
        """A function that tells of photos done and in all."""
        return lambda done, total: self.tell(Progress(stage, done=done, total=total))

    def share(self, stage: Stage) -> Callable[[float], None]:
        """A function that tells which share of a stage's part is done."""
        return lambda share: self.tell(Progress(stage, done=round(100 * share), total=100))

    def trial(self, trial: Trial) -> None:
        """Tell of a model that was tried against the budget."""
        kept = "keeps the budget" if trial.kept else "does not keep the budget"
        count = f"{len(trial.exempt)} operators exempted"
        self.remark(Stage.SEARCH, f"{count}: loses {trial.drop:.2f} points, at most {trial.worst:.2f}; {kept}")
