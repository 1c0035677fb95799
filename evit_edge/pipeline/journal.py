"""What a running conversion tells of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
