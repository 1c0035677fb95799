"""How far a latency report can be trusted on this machine: counts, not claims.

Four experiments, with the defaults of `evit-edge benchmark`:

* the same: a model against itself. Its ratio should be within 3 % of 1, and the interval should hold 1.
* slower: the model against itself with 10 % more work behind each run. The interval should exclude 1. (On a
  crowded machine the ratio is above 1.10: while the added work runs, the neighbours take the model's caches.)
* a hog: a busy process started half-way. The verdict should be noisy.
* overhead: what the recording of single times adds to a model of about a millisecond.

    python benchmarks/trust.py                       # the shipped model as int8; about ten minutes
    python benchmarks/trust.py --artefact m5.tflite --trials 40 --only same slower
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evit_edge.benchmark import BenchmarkRequest, Judgement, Progress, benchmark
from evit_edge.benchmark.artefacts import invocation
from evit_edge.benchmark.contention import LoadMeter
from evit_edge.benchmark.figures import Runs
from evit_edge.benchmark.reference import reference_loop
from evit_edge.benchmark.request import DEFAULT_RUNS, DEFAULT_TIME_S
from evit_edge.benchmark.session import Contender, Invocation, Plan, Recorder, Session
from evit_edge.benchmark.statistics import Estimate, ratio
from evit_edge.benchmark.warmup import settle_all
from evit_edge.manifest import Quantization
from evit_edge.pipeline import ConvertRequest, convert
from evit_edge.runtime import open_runner

NEAR, SLOWDOWN, MOST_OVERHEAD = 0.03, 0.10, 0.02
BLOCK, BLOCKS, LOADS = 3, 30, 30
# It ends with this program, however that ends.
HOG = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


@dataclass(frozen=True)
class Count:
    """How often something was as it should be."""

    what: str
    good: int
    trials: int

    def __str__(self) -> str:
        """One line."""
        return f"{self.what}: {self.good} of {self.trials}"


def load(path: Path) -> Invocation:
    """A fresh load."""
    return invocation(open_runner(path))


def load_slower(path: Path) -> Invocation:
    """A fresh load, and 10 % of the time for which each run had the core spent behind it."""
    run = load(path)

    def slower() -> None:
        start = time.thread_time()
        run()
        end = time.thread_time()
        until = end + SLOWDOWN * (end - start)
        while time.thread_time() < until:
            pass

    return slower


def pair(second: Callable[[Path], Invocation], path: Path, seed: int) -> Estimate:
    """One session of the model and of something made of it; the ratio of the second to the first."""
    contenders = [Contender("first", lambda: load(path)), Contender("second", lambda: second(path))]
    plan = Plan(DEFAULT_RUNS, DEFAULT_TIME_S, seed=seed)
    result = Session(contenders, plan, lambda _: None, threading.Event()).hold()
    return ratio(result.runs[1], result.runs[0], seed)


def same(path: Path, trials: int) -> Iterator[Count]:
    """A model against itself."""
    near = held = 0
    for seed in range(trials):
        found = pair(load, path, seed)
        near += abs(found.value - 1) <= NEAR
        held += 1.0 in found.interval
        show(seed, found)
    yield Count("the same: ratio within 3 % of 1", near, trials)
    yield Count("the same: interval holds 1", held, trials)


def slower(path: Path, trials: int) -> Iterator[Count]:
    """A model against itself with 10 % more work."""
    found = 0
    for seed in range(trials):
        estimate = pair(load_slower, path, seed)
        found += estimate.interval.low > 1
        show(seed, estimate)
    yield Count("slower by 10 %: found", found, trials)


def show(seed: int, found: Estimate) -> None:
    """One trial."""
    interval = found.interval
    print(f"  trial {seed + 1:2}: {found.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]", flush=True)


def hog(path: Path, trials: int, hogs: int) -> Iterator[Count]:
    """Verdicts without and with a hog that starts half-way."""
    request = BenchmarkRequest((str(path),), stages=False, cold_start=False, peaks=False)
    counts = {0: 0, hogs: 0}
    for trial in range(trials):
        for number in counts:
            with started_half_way(number) as tell:
                verdict = benchmark(request, tell).devices[0].verdict
            counts[number] += verdict.judgement is (Judgement.NOISY if number else Judgement.VALID)
            print(f"  trial {trial + 1:2}, {number} hogs: {verdict.judgement}: {verdict.reason}", flush=True)
    yield Count("no hog: valid", counts[0], trials)
    yield Count(f"{hogs} hog from half-way: noisy", counts[hogs], trials)


@contextlib.contextmanager
def started_half_way(number: int) -> Iterator[Callable[[Progress], None]]:
    """Something to tell progress to, which starts busy processes when half is done; they end with the block."""
    running: list[subprocess.Popen[bytes]] = []

    def tell(progress: Progress) -> None:
        if progress.done >= 0.5 and not running:
            running.extend(subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(number))

    try:
        yield tell
    finally:
        for process in running:
            process.kill()
            process.wait()


def overhead(path: Path) -> Estimate:
    """Time as recorded, reference loop between the turns and all, over the time of a bare loop."""
    order = ["recorded", "bare"]
    blocks: dict[str, list[float]] = {name: [] for name in order}
    loads = [index for index in range(LOADS) for _ in range(BLOCKS)]
    shuffle = random.Random(0).shuffle
    for _ in range(LOADS):
        run = load(path)
        settle_all([run])
        for _ in range(BLOCKS):
            shuffle(order)
            for name in order:
                blocks[name].append(recorded(run) if name == "recorded" else bare(run))
    both = [Runs(tuple(blocks[name]), loads=tuple(loads)) for name in ("recorded", "bare")]
    print(f"  bare {1e3 * float(np.median(blocks['bare'])):.3f} ms", flush=True)
    return ratio(both[0], both[1])


def bare(run: Invocation) -> float:
    """Mean of a few runs in a loop without anything."""
    start = time.perf_counter()
    for _ in range(BLOCK):
        run()
    return (time.perf_counter() - start) / BLOCK


def recorded(run: Invocation) -> float:
    """Mean of as many, as a session records them."""
    reference_loop()
    recorder = Recorder(1, 0.0)
    recorder.turn(run, BLOCK, 0, 0)
    return recorder.total_s / BLOCK


def shipped(folder: Path) -> Path:
    """The shipped model as int8."""
    return convert(ConvertRequest(folder, quantization=Quantization.INT8)).artefact


def main() -> None:
    """Run the experiments and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--artefact", type=Path, help="a .tflite of about a millisecond (default: the shipped model)"
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--hogs", type=int, default=1, help="busy processes (default: 1)")
    names = ("same", "slower", "hog", "overhead")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="some of the experiments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.artefact or shipped(Path(folder))
        meter, counts = LoadMeter(), []
        for name in arguments.only:
            print(name, flush=True)
            if name == "overhead":
                found = overhead(path)
                interval = f"[{100 * (found.interval.low - 1):.2f}, {100 * (found.interval.high - 1):.2f}]"
                counts.append(f"overhead: {100 * (found.value - 1):+.2f} % {interval}, at most 2 % wanted")
                continue
            run = {"same": same, "slower": slower}.get(name)
            made = run(path, arguments.trials) if run else hog(path, arguments.trials, arguments.hogs)
            counts += [str(count) for count in made]
        during = meter.read()
    print(f"\n{path.name} on {os.cpu_count()} cores")
    if during is not None:
        print(f"others kept {during.other_cores:.2f} cores busy, {during.idle_cores:.2f} were idle")
    print("\n".join(counts))


if __name__ == "__main__":
    main()
