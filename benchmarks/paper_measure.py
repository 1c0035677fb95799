"""Timing networks in turns, what comes of it, and its JSON."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_nets import Form

from evit_edge.benchmark.figures import Interval, Runs
from evit_edge.benchmark.statistics import Estimate, describe, ratio
from evit_edge.files import replacing
from evit_edge.strict_json import from_json, to_json

SCHEMA = "evit-edge-paper/1"
_MOST_REPEATS = 10

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Cell:
    """One network in one form through one engine.

    Attributes:
        net: Name in timm.
        form: What was done to it before.
        mode: Of the engine, such as ``eager`` or ``int8``.
        image_size: Side of the input in pixels.
        runs: Times of one pass each, with the round that each belongs to; None where it cannot be run.
        remark: Why not.
    """

    net: str
    form: Form
    mode: str
    image_size: int
    runs: Runs | None = None
    remark: str = ""

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.net}, {self.form}, {self.mode}"


@dataclass(frozen=True)
class Group:
    """What ran in turns: ratios hold within it.

    Attributes:
        engine: ``torch``, ``compiled``, ``onnx``, ``tflite`` or ``cuda``.
        batch: Pictures in a pass.
        device: Name of the processor.
        threads: Of the engine.
        clock: ``processor time`` of the one thread, or ``wall``.
        created: UTC, ISO 8601.
        command: The command line.
        versions: Distribution to version.
        load_before: Load average of the machine's last minute; None where it does not tell.
        load_after: The same after the last run.
        cells: Of the table.
    """

    engine: str
    batch: int
    device: str
    threads: int
    clock: str
    created: str
    command: str
    versions: dict[str, str]
    load_before: float | None
    load_after: float | None
    cells: tuple[Cell, ...]

    def find(self, net: str, form: Form, mode: str) -> Cell | None:
        """A cell that was measured."""
        for cell in self.cells:
            if (cell.net, cell.form, cell.mode) == (net, form, mode) and cell.runs is not None:
                return cell
        return None

    def fastest(self, net: str) -> Cell | None:
        """The network's fastest cell."""
        mine = [cell for cell in self.cells if cell.net == net and cell.runs is not None]
        return min(mine, key=lambda cell: images_per_s(cell, -1)[0]) if mine else None


@dataclass(frozen=True)
class Report:
    """All groups that were measured, in the order of their tables."""

    groups: tuple[Group, ...] = ()
    schema: str = SCHEMA

    def with_group(self, group: Group) -> Report:
        """The same with a group in place of the one of its engine, device and batch."""

        def place(known: Group) -> tuple[str, str, int]:
            return known.device, known.engine, known.batch

        kept = [known for known in self.groups if place(known) != place(group)]
        return Report(tuple(sorted([*kept, group], key=place)))


def images_per_s(cell: Cell, batch: int) -> tuple[float, Interval | None]:
    """Throughput by the median pass, and its interval; None for a single round.

    Args:
        cell: One that was measured.
        batch: Pictures in a pass.
    """
    if cell.runs is None:
        raise ValueError(f"{cell.label} was not measured")
    told = describe(cell.runs)
    spread = told.median_interval
    interval = None
    if spread is not None and batch > 0:
        interval = Interval(batch / spread.high, batch / spread.low, spread.confidence)
    return batch / told.typical_s, interval


def speed_up(faster: Cell, slower: Cell) -> Estimate:
    """How many times as many images a second the first does; both of one group.

    Raises:
        ValueError: Either was not measured.
        ReportError: They share fewer than two rounds.
    """
    if faster.runs is None or slower.runs is None:
        raise ValueError(f"{faster.label} over {slower.label} asked for; one of them was not measured")
    return ratio(slower.runs, faster.runs)


def in_turns(
    passes: Mapping[str, Callable[[], Any]],
    rounds: int,
    turn_s: float,
    clock: Callable[[], float],
    tell: Tell = lambda _line: None,
) -> dict[str, Runs]:
    """Run each again and again in turns (A B C A B C ...).

    Args:
        passes: What to time, by name.
        rounds: How often each has its turn.
        turn_s: A pass shorter than this is repeated in its turn, after one that does not count, ten times at most.
        clock: Seconds.
        tell: Called with a line after each round.
    """
    repeats: dict[str, int] = {}
    for name, run in passes.items():
        taken = 0.0
        for _ in range(2):  # the first may be slow, and need not be followed where it was long enough already
            start = time.perf_counter()
            run()
            taken = time.perf_counter() - start
            if taken > 10 * turn_s:
                break
        repeats[name] = min(_MOST_REPEATS, max(1, int(turn_s / taken)))
    tell(f"each of {len(passes)} ran once")
    times: dict[str, list[float]] = {name: [] for name in passes}
    owners: dict[str, list[int]] = {name: [] for name in passes}
    began = time.perf_counter()
    for turn in range(rounds):
        for name, run in passes.items():
            if repeats[name] > 1:
                run()
            for _ in range(repeats[name]):
                start = clock()
                run()
                times[name].append(clock() - start)
                owners[name].append(turn)
        spent = time.perf_counter() - began
        tell(f"round {turn + 1}/{rounds}, {spent / (turn + 1) * (rounds - turn - 1):.0f} s left")
    return {name: Runs(tuple(times[name]), rounds=tuple(owners[name])) for name in passes}


def load_average() -> float | None:
    """Of the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def write_report(path: Path, report: Report) -> None:
    """Write all times as JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(to_json(report), allow_nan=False) + "\n", encoding="utf-8")


def read_report(path: Path) -> Report:
    """What :func:`write_report` wrote; nothing where there is no file."""
    return from_json(Report, json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Report()


def nets_of(groups: Iterable[Group]) -> set[str]:
    """Names in timm of all networks that were measured."""
    return {cell.net for group in groups for cell in group.cells if cell.runs is not None}
