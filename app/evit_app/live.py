"""A pipeline and the page that watches it: from labelled frames to the screen."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from evit_app.pictures import live_jpeg, snapshot_jpeg
from evit_app.pipeline import LabelledFrame, Pipeline
from evit_app.screen import Screen
from evit_edge.preprocessing import Preprocessing

_FIGURES_S = 1.0  # replacing more often costs more than it tells


@dataclass(frozen=True, eq=False)
class _Picture:
    labelled: LabelledFrame
    jpeg: bytes


class LiveRun:
    """One run from start to stop.

    Args:
        pipeline: Not started yet.
        rule: The first model's, for the square on the picture.
        screen: Where it shows.
    """

    def __init__(self, pipeline: Pipeline, rule: Preprocessing, screen: Screen) -> None:
        self.pipeline = pipeline
        self._rule, self._screen = rule, screen
        self._last: LabelledFrame | None = None

    async def run(self) -> None:
        """Show frames until the source ends, the model breaks, or this is cancelled; then leave nothing running.

        Raises:
            EvitEdgeError: What ended it, unless it was told to.
        """
        self.pipeline.start()
        try:
            await self._show_all()
        finally:
            await asyncio.to_thread(self.pipeline.stop)
        if self.pipeline.error is not None:
            raise self.pipeline.error

    async def _show_all(self) -> None:
        told_s = time.perf_counter()
        while self.pipeline.running and not _is_cancelled():
            picture = await asyncio.to_thread(self._next)
            if picture is not None:
                self._last = picture.labelled
                # A client that went away or fell asleep does not answer: the next frame is tried then.
                with contextlib.suppress(TimeoutError):
                    await self._screen.show_frame(picture.jpeg, picture.labelled)
                    self.pipeline.shown(picture.labelled)
            if time.perf_counter() - told_s >= _FIGURES_S:
                told_s = time.perf_counter()
                self._screen.show_figures(self.pipeline.figures())

    def _next(self) -> _Picture | None:
        labelled = self.pipeline.take()
        return None if labelled is None else _Picture(labelled, live_jpeg(labelled.image, self._rule))

    def snapshot(self) -> bytes | None:
        """The last frame as JPEG with its labels burnt in; None before the first. Blocks."""
        if self._last is None:
            return None
        texts = self._screen.texts
        lines = []
        for reading in self._last.readings:
            named = ", ".join(f"{p.label} {texts.percent(p.probability)}" for p in reading.predictions[:3])
            lines.append(f"{named} ({1000 * reading.inference_s:.1f} ms)")
        return snapshot_jpeg(self._last.image, self._rule, lines)


def _is_cancelled() -> bool:
    """Whether this task was told to end; Python 3.11's ``wait_for``, which Flet draws with, may swallow that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
