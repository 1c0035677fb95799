"""Profiling a ``.tflite`` on this machine, whatever interpreter runs it, by timing it cut into pieces.

The method. Each operator becomes a model of its own (:mod:`evit_converters.tflite.cut`), fed with what the ones
before it gave. All pieces run one after the other, then the whole, then everything again, so that weights are as
cold in the caches as they are in the whole. Calling an interpreter costs about 4 us, more than most operators:
the same is taken off every piece, so much that they add up to the whole.

The error. Models that add two numbers stand at many places in the row, each an interpreter of its own (one, called
again and again, would be warm, and nearly all of the cost of a call is its own data being cold). They give a
second figure for the cost of a call. The difference of both, times a class's pieces, is the class's error.
The whole is loaded four times, since where a model's memory lies changes its time by several per cent.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evit_converters.errors import ModelFileError
from evit_edge.benchmark.figures import OperatorTime
from evit_edge.errors import ArtefactError, require
from evit_edge.profiling.op_classes import OpClass, classify
from evit_edge.profiling.profile import ClassTime, by_class, operator_times
from evit_edge.profiling.request import Tell
from evit_edge.runtime.engines import noise, open_interpreter

if TYPE_CHECKING:
    from evit_converters.tflite.cut import Piece

METHOD = (
    "the graph cut into {pieces} pieces, run in turn with the whole; {call_us:.1f} us taken off each for the call "
    "so that they add up to the whole (a model that adds two numbers takes {empty_us:.1f}); {statistic}"
)
_LEAST_ROUNDS = 10
_EMPTY_PIECES, _WHOLES = 40, 4
_FINE_CLOCK_S = 1e-6


@dataclass(frozen=True)
class HostFigures:
    """What was measured.

    Attributes:
        engine: Runtime and version.
        runs: Timed inferences of the whole, and of each piece.
        whole_s: Of the whole graph.
        classes: Time by class, the longest first.
        operators: Time by kind of operator, the longest first.
        method: In words, with its figures.
        difference: The largest difference between the whole's answer and the last piece's.
    """

    engine: str
    runs: int
    whole_s: float
    classes: tuple[ClassTime, ...]
    operators: tuple[OperatorTime, ...]
    method: str
    difference: float


def measure_pieces(path: Path, *, threads: int, seconds: float, tell: Tell) -> HostFigures:
    """Time the operators of a file.

    Args:
        path: Any ``.tflite`` with one graph and no state.
        threads: Of the interpreter.
        seconds: How long to time, about; loading comes on top.
        tell: Told the share that is done.

    Raises:
        ArtefactError: The file is no graph that can be cut, or the interpreter refuses it.
        MissingExtraError: flatbuffers is not installed.
    """
    pieces, names = _cut(path)
    wholes = [_Loaded(path, threads) for _ in range(_WHOLES)]
    for whole in wholes:
        whole.feed_noise()
    parts = [_Loaded(path, threads, piece.content) for piece in pieces]
    difference = _feed(wholes[0], parts, pieces, path)
    clock = _clock(threads)
    rows = _time(wholes, parts, _empty(path, threads, len(parts)), clock, _Until(seconds, tell))
    whole_s = statistics.fmean(
        clock.typical(list(column)) for column in zip(*(r.wholes_s for r in rows), strict=True)
    )
    empty_s = clock.typical([time_s for row in rows for time_s in row.empty_s])
    raw = [clock.typical(list(column)) for column in zip(*(row.parts_s for row in rows), strict=True)]
    call_s = (sum(raw) - whole_s) / len(raw)
    measured = [(*named, 1, time_s - call_s) for named, time_s in zip(names, raw, strict=True)]
    operators = operator_times(measured)
    classes = tuple(_with_error(entry, abs(call_s - empty_s)) for entry in by_class(operators))
    words = METHOD.format(pieces=len(parts), call_us=1e6 * call_s, empty_us=1e6 * empty_s, statistic=clock.words)
    return HostFigures(wholes[0].engine, len(rows), whole_s, classes, operators, words, difference)


def _with_error(entry: ClassTime, error_s: float) -> ClassTime:
    return ClassTime(entry.op_class, entry.bound, entry.count, entry.time_s, entry.count * error_s, entry.kinds)


def _cut(path: Path) -> tuple[list[Piece], list[tuple[str, OpClass]]]:
    """The pieces, and the name and class of each: those of its last operator, before which padding may stand."""
    require("flatbuffers", extra="convert")
    from evit_converters.tflite.cut import cut, single_operators
    from evit_converters.tflite.graph import Graph

    try:
        graph = Graph(path.read_bytes())
        groups = single_operators(graph)
    except OSError as exc:
        raise ArtefactError(f"no artefact at {path} ({exc.strerror}); give a .tflite file") from exc
    except ModelFileError as exc:
        raise ArtefactError(f"{path} cannot be cut: {exc}") from exc
    if not groups:
        raise ArtefactError(f"{path} computes nothing; a graph with operators is needed")
    kinds = [graph.kind(graph.operators[group[-1]]) for group in groups]
    return cut(graph, groups), [(kind, classify(kind)) for kind in kinds]


class _Loaded:
    """A model in an interpreter."""

    def __init__(self, path: Path, threads: int, content: bytes | None = None) -> None:
        engine, self._interpreter = open_interpreter(path, threads, content=content)
        self.engine = f"{engine.name} {engine.version}"
        self._path = path
        self.run: Callable[[], None] = self._interpreter.invoke
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    def feed_noise(self) -> list[Any]:
        """Give it pictures of noise, the same each time; the values in the inputs' order."""
        generator = np.random.default_rng(0)
        values = [noise(detail, generator) for detail in self._inputs]
        self.feed(values)
        return values

    def feed(self, values: list[Any]) -> None:
        """Set the inputs, in order."""
        for detail, value in zip(self._inputs, values, strict=True):
            self._interpreter.set_tensor(detail["index"], value)

    def answer(self) -> list[Any]:
        """Run, and give copies of the outputs, in order.

        Raises:
            ArtefactError: The interpreter failed.
        """
        try:
            self.run()
        except (RuntimeError, ValueError) as exc:
            raise ArtefactError(f"{self._path} failed while running: {exc}") from exc
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._outputs]


def _feed(whole: _Loaded, parts: list[_Loaded], pieces: list[Piece], path: Path) -> float:
    """Run the pieces one after the other; how far their answer is from the whole's."""
    from evit_converters.tflite.graph import Graph

    graph = Graph(path.read_bytes())
    values: dict[int, Any] = dict(zip(graph.inputs, whole.feed_noise(), strict=True))
    expected = whole.answer()
    for part, piece in zip(parts, pieces, strict=True):
        part.feed([values[tensor] for tensor in piece.inputs])
        values |= dict(zip(piece.outputs, part.answer(), strict=True))
    pairs = zip(expected, (values[tensor] for tensor in graph.outputs), strict=True)
    return max(float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()) for a, b in pairs)


def _empty(path: Path, threads: int, parts: int) -> dict[int, _Loaded]:
    """Models that do next to nothing, by the number of the piece that they come after."""
    from evit_converters.tflite.cut import smallest_graph

    models: dict[int, _Loaded] = {}
    for number in range(0, parts, max(1, parts // _EMPTY_PIECES)):
        models[number] = _Loaded(path, threads, smallest_graph())
        models[number].feed_noise()
    return models


@dataclass(frozen=True)
class _Clock:
    """A clock and the figure to take of many readings of it."""

    now: Callable[[], float]
    typical: Callable[[list[float]], float]
    words: str


def _clock(threads: int) -> _Clock:
    """Processor time of one thread where it is fine enough: other programs do not count. Else wall time."""
    if threads == 1 and time.get_clock_info("thread_time").resolution <= _FINE_CLOCK_S:
        return _Clock(time.thread_time, statistics.median, "median processor time of the calling thread")
    return _Clock(time.perf_counter, min, "minimum of wall time")


@dataclass(frozen=True)
class _Row:
    """One round: every load of the whole, every piece, and the empty pieces among them."""

    wholes_s: list[float]
    parts_s: list[float]
    empty_s: list[float]


class _Until:
    """When to stop, and who wants to know."""

    def __init__(self, seconds: float, tell: Tell) -> None:
        self._start, self._seconds, self._tell = time.perf_counter(), seconds, tell

    def reached(self, rounds: int) -> bool:
        """Whether enough rounds were made and the time is over."""
        share = (time.perf_counter() - self._start) / self._seconds
        self._tell("pieces", min(1.0, share))
        return rounds >= _LEAST_ROUNDS and share >= 1


def _time(
    wholes: list[_Loaded], parts: list[_Loaded], empty: dict[int, _Loaded], clock: _Clock, until: _Until
) -> list[_Row]:
    tick = min(-(clock.now() - clock.now()) for _ in range(100))  # reading the clock takes time too
    rows: list[_Row] = []
    while not until.reached(len(rows)):
        row = _Row([], [], [])
        for whole in wholes:
            whole.run()  # what ran before has taken the caches
            row.wholes_s.append(_once(whole, clock, tick))
        for number, part in enumerate(parts):
            row.parts_s.append(_once(part, clock, tick))
            if number in empty:
                row.empty_s.append(_once(empty[number], clock, tick))
        rows.append(row)
    return rows


def _once(loaded: _Loaded, clock: _Clock, tick: float) -> float:
    run, now = loaded.run, clock.now
    start = now()
    run()
    return now() - start - tick
