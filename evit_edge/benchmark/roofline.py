"""The most that this machine was measured to do, and a model's time against it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_edge.benchmark.device import Bandwidth, Peaks
from evit_edge.benchmark.figures import Limit
from evit_edge.benchmark.peak_model import MACS, peak_model
from evit_edge.benchmark.work import Work
from evit_edge.errors import MissingExtraError
from evit_edge.runtime.engines import open_interpreter

NUMBER_TYPES = ("float32", "int8")
_BLOCKS = tuple(2**n for n in (18, 20, 22, 24, 26, 28))
_PEAK_S, _BLOCK_S = 0.25, 0.1
_LEAST_RUNS = 5
_READ_AT_ONCE = 2**26


def measure_peaks(threads: int) -> Peaks:
    """Measure; takes a second or two.

    The multiply-accumulates are those of pointwise convolutions in the installed TFLite engine, the fastest
    kernels that a model could hope for; the bandwidth is that of finding the largest byte of a block again and
    again. Each is the best of many runs.

    Args:
        threads: To use.
    """
    macs = {}
    for number_type in NUMBER_TYPES:
        try:
            macs[number_type] = MACS / _convolution_s(number_type, threads)
        except MissingExtraError:  # no engine, or one without the schema: bandwidth alone
            continue
    return Peaks(threads, macs, tuple(_bandwidth(block, threads) for block in _BLOCKS))


def limit(work: Work, io_bytes: int, peaks: Peaks, typical_s: float) -> Limit | None:
    """A model's time against the peaks; None where its kind of numbers has none.

    Args:
        work: What one inference does.
        io_bytes: Of its input and output.
        peaks: Measured with as many threads.
        typical_s: Its time.
    """
    peak = peaks.macs_per_s.get(work.number_type)
    if peak is None or not work.macs:
        return None
    traffic = work.constant_bytes + io_bytes
    compute_s, memory_s = work.macs / peak, traffic / bandwidth_at(peaks, traffic)
    return Limit(work.macs, traffic, work.number_type, compute_s, memory_s, typical_s / max(compute_s, memory_s))


def bandwidth_at(peaks: Peaks, block_bytes: int) -> float:
    """Bytes per second for a working set, between the measured blocks on a logarithmic scale."""
    sizes = np.log([entry.block_bytes for entry in peaks.bandwidths])
    return float(np.interp(np.log(max(block_bytes, 1)), sizes, [b.bytes_per_s for b in peaks.bandwidths]))


def _convolution_s(number_type: str, threads: int) -> float:
    content = peak_model(number_type)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.tflite"
        path.write_bytes(content)
        _, interpreter = open_interpreter(path, threads)
    detail = interpreter.get_input_details()[0]
    values = 20 * np.random.default_rng(0).standard_normal(detail["shape"])
    interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    return _best(interpreter.invoke, _PEAK_S)


def _bandwidth(block_bytes: int, threads: int) -> Bandwidth:
    """Each thread reads its part of the block, so often that handing out the work does not count."""
    parts = [np.ones(block_bytes // threads, np.uint8) for _ in range(threads)]
    repeats = max(1, _READ_AT_ONCE // block_bytes)
    if threads == 1:
        return Bandwidth(block_bytes, repeats * block_bytes / _best(lambda: _read(parts[0], repeats), _BLOCK_S))
    with ThreadPoolExecutor(threads) as pool:  # numpy lets go of Python's lock while it reduces
        seconds = _best(lambda: list(pool.map(_read, parts, [repeats] * threads)), _BLOCK_S)
    return Bandwidth(block_bytes, repeats * block_bytes / seconds)


def _read(part: npt.NDArray[np.uint8], repeats: int) -> None:
    for _ in range(repeats):
        part.max()


def _best(run: Callable[[], object], least_s: float) -> float:
    """The shortest of many runs, after one that does not count."""
    run()
    best, started, runs = float("inf"), time.perf_counter(), 0
    while runs < _LEAST_RUNS or time.perf_counter() - started < least_s:
        start = time.perf_counter()
        run()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return best
