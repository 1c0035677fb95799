"""Frames in, labelled frames out: one thread captures, one thread infers, and the latest frame wins."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass

from evit_app.comparison import Comparison, Tally
from evit_app.frames import Frame, FrameSource, Orientation
from evit_app.labels import LabelRule, Reading, Smoother, best
from evit_app.rates import Endurance, Rates, RateWindow, Steadiness
from evit_app.slot import Slot
from evit_edge.errors import EvitEdgeError, RequestError
from evit_edge.preprocessing import UInt8Image
from evit_edge.runtime import Runner
from evit_edge.tensors import Float32Array, probabilities

_PATIENCE_S = 0.2  # how long a thread waits before it looks whether it is to end
_KEPT = 30  # frames whose stages are summed up
_JOIN_S = 1.0  # a thread that a driver holds is left behind; it is a daemon


@dataclass(frozen=True)
class Stages:
    """Where a frame's time goes, in seconds.

    Attributes:
        capture_s: From the moment of the picture to RGB pixels.
        preprocess_s: Pixels to the square that the model sees.
        inference_s: Square to scores, of the first model.
        postprocess_s: Scores to labels.
        delay_s: From the moment of the picture to its labels, waiting included.
    """

    capture_s: float
    preprocess_s: float
    inference_s: float
    postprocess_s: float
    delay_s: float


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A frame and what the models say about it.

    Attributes:
        image: RGB uint8 (H, W, 3), as the first model's square was cut from it.
        captured_s: When it was taken.
        readings: One per model.
        stages: Where its time went.
    """

    image: UInt8Image
    captured_s: float
    readings: tuple[Reading, ...]
    stages: Stages


@dataclass(frozen=True)
class Figures:
    """How a run goes.

    Attributes:
        rates: The four rates.
        captured: Frames that the source delivered while not paused.
        dropped: Of those, frames that a newer one replaced before a model saw them.
        stages: Where the time of the last frames goes, each stage's median; None before the first.
        display_s: From labels to the screen's answer, median of the last frames, seconds; None before the first.
        steadiness: Of the first model.
        comparison: Of two models; None with one.
    """

    rates: Rates
    captured: int
    dropped: int
    stages: Stages | None
    display_s: float | None
    steadiness: Steadiness
    comparison: Comparison | None


class Pipeline:
    """A source and one or two models at work.

    ``capture`` and ``infer`` are what its threads repeat; a test may call them by hand in place of ``start``.

    Args:
        source: Where frames come from; closed by the pipeline.
        runners: The models; all see the same frames.
        rule: How scores become labels.
        orientation: What the user does to the picture on top of what the source puts right.
        clock: Seconds, the source's clock.

    Raises:
        RequestError: No model.
    """

    def __init__(
        self,
        source: FrameSource,
        runners: tuple[Runner, ...],
        *,
        rule: LabelRule | None = None,
        orientation: Orientation | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not runners:
            raise RequestError("no model given; a pipeline needs at least one")
        self._source, self._runners, self._clock = source, runners, clock
        self.rule = rule or LabelRule()
        self.orientation = orientation or Orientation()
        self.paused = False
        self.error: EvitEdgeError | None = None
        self._frames: Slot[Frame] = Slot()
        self._labelled: Slot[LabelledFrame] = Slot()
        self._smoothers = tuple(Smoother() for _ in runners)
        self._tally = Tally() if len(runners) > 1 else None
        self._endurance = Endurance()
        self._lock = threading.Lock()
        self._camera, self._inference, self._done, self._display = (RateWindow() for _ in range(4))
        self._busy_s = 0.0
        self._inferred = self._captured = self._dropped = 0
        self._stages: deque[Stages] = deque(maxlen=_KEPT)
        self._display_s: deque[float] = deque(maxlen=_KEPT)
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._capture_all, name="evit-capture", daemon=True),
            threading.Thread(target=self._infer_all, name="evit-infer", daemon=True),
        ]

    def start(self) -> None:
        """Begin. A pipeline runs once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads and let go of the source; blocks for a moment. Any number of times, from any thread."""
        self._ending.set()
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(_JOIN_S)

    @property
    def running(self) -> bool:
        """Whether frames may still come."""
        return not self._ending.is_set() and self.error is None

    @property
    def source_name(self) -> str:
        """What the source is called."""
        return self._source.name

    def take(self, timeout_s: float = _PATIENCE_S) -> LabelledFrame | None:
        """The latest labelled frame that nobody took yet; None where none came in that time."""
        return self._labelled.take(timeout_s)

    def shown(self, labelled: LabelledFrame) -> None:
        """Note that the screen has shown a frame."""
        with self._lock:
            now = self._clock()
            self._display.add(now)
            self._display_s.append(now - labelled.captured_s - labelled.stages.delay_s)

    def capture(self) -> bool:
        """Wait for a frame and lay it down for the models; whether one came.

        Raises:
            SourceError: None will come any more.
        """
        frame = self._source.read()
        if frame is None or self.paused:  # a paused camera is still emptied, so that what follows is fresh
            return False
        with self._lock:
            self._camera.add(frame.captured_s)
            self._captured += 1
        if self._frames.put(frame):
            with self._lock:
                self._dropped += 1
        return True

    def infer(self, timeout_s: float = _PATIENCE_S) -> bool:
        """Wait for a frame and label it; whether one came.

        Raises:
            ArtefactError: The model failed while running.
        """
        frame = self._frames.take(timeout_s)
        if frame is None:
            return False
        self._labelled.put(self._label(frame))
        return True

    def figures(self) -> Figures:
        """How it goes."""
        with self._lock:
            now = self._clock()
            rates = Rates(
                camera=self._camera.rate(now),
                inference=self._inference.rate() if self._done.rate(now) is not None else None,
                end_to_end=self._done.rate(now),
                display=self._display.rate(now),
            )
            comparison = self._tally.comparison if self._tally else None
            return Figures(
                rates=rates,
                captured=self._captured,
                dropped=self._dropped,
                stages=_median_stages(self._stages),
                display_s=statistics.median(self._display_s) if self._display_s else None,
                steadiness=self._endurance.verdict,
                comparison=comparison,
            )

    def _label(self, frame: Frame) -> LabelledFrame:
        image = self.orientation.apply(frame.image)
        began = self._clock()
        squares = [runner.info.preprocessing.apply(image) for runner in self._one_per_rule()]
        prepared = self._clock()
        scores = self._run(squares)
        ran = self._clock()
        rule = self.rule
        readings = tuple(self._read(i, s, t, frame.captured_s, rule) for i, (s, t) in enumerate(scores))
        now = self._clock()
        first_s = readings[0].inference_s
        stages = Stages(frame.read_s, prepared - began, first_s, now - ran, now - frame.captured_s)
        self._note(readings, stages, now)
        return LabelledFrame(image, frame.captured_s, readings, stages)

    def _one_per_rule(self) -> tuple[Runner, ...]:
        """Models with the same rule share a square."""
        same = len({runner.info.preprocessing for runner in self._runners}) == 1
        return self._runners[:1] if same else self._runners

    def _run(self, squares: list[UInt8Image]) -> list[tuple[Float32Array, float]]:
        """Scores (1, classes) and seconds of each model; their order changes from frame to frame, to be fair."""
        results: dict[int, tuple[Float32Array, float]] = {}
        order = range(len(self._runners))
        for i in reversed(order) if self._inferred % 2 else order:
            square = squares[i if len(squares) > 1 else 0]
            start = self._clock()
            scores = self._runners[i].run(square[None])
            results[i] = (scores, self._clock() - start)
        return [results[i] for i in order]

    def _read(self, i: int, scores: Float32Array, inference_s: float, time_s: float, rule: LabelRule) -> Reading:
        info = self._runners[i].info
        chances = probabilities(scores, info.output_kind)[0]  # (classes,)
        smooth = self._smoothers[i].add(chances, time_s, rule.smoothing_s)
        predictions = best(smooth, info, rule.top)
        return Reading(
            predictions,
            predictions[0].probability >= rule.threshold,
            info.label(int(chances.argmax())),
            inference_s,
        )

    def _note(self, readings: tuple[Reading, ...], stages: Stages, now: float) -> None:
        with self._lock:
            self._stages.append(stages)
            self._inferred += 1
            self._busy_s += readings[0].inference_s
            self._inference.add(self._busy_s)
            self._done.add(now)
            self._endurance.add(readings[0].inference_s)
            if self._tally is not None:
                self._tally.add(readings[0], readings[1])

    def _capture_all(self) -> None:
        try:
            self._repeat(self.capture)
        finally:
            with contextlib.suppress(Exception):  # a broken driver may not even let itself be closed
                self._source.close()

    def _infer_all(self) -> None:
        self._repeat(self.infer)

    def _repeat(self, step: Callable[[], bool]) -> None:
        try:
            while not self._ending.is_set():
                step()
        except EvitEdgeError as exc:
            self.error = exc
        except Exception as exc:  # a driver or an engine may raise anything, and nobody waits for a thread
            self.error = EvitEdgeError(f"{type(exc).__name__}: {exc}")
        finally:
            self._ending.set()


def _median_stages(stages: Iterable[Stages]) -> Stages | None:
    columns = list(zip(*(astuple(one) for one in stages), strict=True))
    return Stages(*(statistics.median(column) for column in columns)) if columns else None
