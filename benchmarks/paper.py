"""The paper's comparison on this machine: images a second of M0 to M5 and eight other nets, and its ratios.

Through torch (eager, channels_last, EfficientViT's inference form, torch.compile), ONNX Runtime and TFLite (float
and our int8). Weights are random; BatchNorm is folded and branches are merged for all. All of one engine and batch
run in turns, on one thread unless --threads says otherwise; the processor time of that one thread counts, so that
a core taken away does not. CUDA is measured at batch 2048 where torch finds a device, else left out.

    python benchmarks/paper.py --cache models --json paper.json --markdown tables.md --picture speed.png
    python benchmarks/paper.py --only torch --batch 64 --models m5 mobilenetv3_large_100 --json pair.json
    python benchmarks/paper.py --only --json paper.json --markdown tables.md    # measure nothing, write the tables

A --json that is there already is added to: what is measured again takes the place of what was there.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import paper_engines as engines
import torch
from paper_measure import Cell, Group, Report, in_turns, load_average, read_report, write_report
from paper_nets import ENTRIES, Entry, entry
from paper_tables import draw, markdown

from evit_converters.checks import first_line
from evit_edge.analysis.clock import Processor, clock_of
from evit_edge.benchmark.environment import cpu
from evit_edge.files import replacing

ENGINES = ("torch", "compiled", "onnx", "tflite", "cuda")
CUDA_BATCH = 2048
_ROUNDS_ONE, _ROUNDS_MANY = 20, 6
_TURN_S = 0.1
_FOLDERS = re.compile(r"/\S*/site-packages/")
_VERSIONS = ("torch", "timm", "onnxruntime", "ai-edge-litert")


def say(line: str) -> None:
    """Progress, on stderr."""
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


def jobs(engine: str, chosen: Entry, batch: int, cache: Path, threads: int) -> Iterator[engines.Job]:
    """The cells of one network through one engine."""
    makers: dict[str, Callable[[], Iterator[engines.Job]]] = {
        "torch": lambda: engines.torch_jobs(chosen, batch),
        "compiled": lambda: engines.compiled_jobs(chosen, batch),
        "onnx": lambda: engines.onnx_jobs(chosen, batch, cache, threads),
        "tflite": lambda: engines.tflite_jobs(chosen, cache, threads),
        "cuda": lambda: engines.cuda_jobs(chosen, batch),
    }
    return makers[engine]()


def measured(engine: str, batch: int, options: argparse.Namespace, cache: Path) -> Group:
    """One table's column group, all its cells in turns."""
    cells: list[Cell] = []
    passes: dict[str, engines.Pass] = {}
    for i, chosen in enumerate(options.models):
        start = time.perf_counter()
        for job in jobs(engine, chosen, batch, cache, options.threads):
            cell = Cell(job.net, job.form, job.mode, job.image_size)
            try:
                passes[job.label] = job.make()
            except Exception as exc:  # whatever an engine raises for a network that it cannot take
                cell = replace(cell, remark=f"{type(exc).__name__}: {_FOLDERS.sub('', first_line(exc))}")
                say(f"{job.label}: {cell.remark}")
            cells.append(cell)
        say(
            f"{engine}, batch {batch}: {chosen.key} ready ({i + 1}/{len(options.models)}, "
            f"{time.perf_counter() - start:.0f} s)"
        )
    cuda = engine == "cuda"
    clock = clock_of(Processor.CUDA if cuda else Processor.CPU)
    before = load_average()
    rounds = options.rounds or (_ROUNDS_ONE if batch == 1 else _ROUNDS_MANY)
    runs = in_turns(passes, rounds, _TURN_S, clock, lambda line: say(f"{engine}, batch {batch}: {line}"))
    return Group(
        engine=engine,
        batch=batch,
        device=torch.cuda.get_device_name() if cuda else cpu().model,
        threads=options.threads,
        clock="wall" if clock is time.perf_counter else "processor time",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=options.command,
        versions={name: version(name) for name in _VERSIONS},
        load_before=before,
        load_after=load_average(),
        cells=tuple(replace(cell, runs=runs.get(cell.label)) for cell in cells),
    )


def batches(engine: str, asked: list[int]) -> list[int]:
    """The batch sizes that an engine runs of those asked for."""
    if engine == "cuda":
        return [CUDA_BATCH] if torch.cuda.is_available() else []
    if engine == "tflite":  # its files have one batch size
        return [batch for batch in asked if batch == 1]
    return asked


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=ENGINES, default=ENGINES, help="engines (default: all)")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 64], help="on the CPU (default: 1 64)")
    parser.add_argument("--models", nargs="+", type=entry, default=ENTRIES, help="such as m5 deit_tiny")
    parser.add_argument("--rounds", type=int, help="turns of each (default: 20 at batch 1, else 6)")
    parser.add_argument("--threads", type=int, default=1, help="of each engine (default: 1)")
    parser.add_argument("--cache", type=Path, help="folder to keep exported models in")
    parser.add_argument("--json", type=Path, help="file to keep all times in")
    parser.add_argument("--markdown", type=Path, help="file for the tables (default: they are printed)")
    parser.add_argument("--picture", type=Path, help=".png of top-1 over speed")
    options = parser.parse_args()
    if min([options.threads, *options.batch]) < 1 or (options.rounds is not None and options.rounds < 2):
        parser.error("threads and batches of at least 1 and rounds of at least 2 are needed")
    options.command = " ".join(["python", "benchmarks/paper.py", *_told(sys.argv[1:])])
    return options


def _told(arguments: list[str]) -> list[str]:
    """Arguments that change what is measured: not where somebody keeps things."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in {"--cache", "--json", "--markdown", "--picture"}:
            next(words, None)
        else:
            kept.append(word)
    return kept


def main() -> None:
    """Measure, keep, and print the tables."""
    options = parsed()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    report = read_report(options.json) if options.json else Report()
    with tempfile.TemporaryDirectory() as folder:
        cache = options.cache or Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        for engine in options.only:
            for batch in batches(engine, options.batch):
                report = report.with_group(measured(engine, batch, options, cache))
                if options.json:
                    write_report(options.json, report)
    if options.markdown:
        with replacing(options.markdown) as temporary:
            temporary.write_text(markdown(report), encoding="utf-8")
    else:
        print(markdown(report))
    if options.picture:
        draw(report, options.picture)


if __name__ == "__main__":
    main()
