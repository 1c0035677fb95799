"""Profiling a checkpoint's network in PyTorch. Imports torch.

The method. ``torch.profiler`` gives the time of each operator without the operators that it calls. Its own cost is
spread over them: the network is timed without it too, and the ratio of the two totals scales every time, so that
what the classes do not explain is Python's and the dispatcher's part between operators.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from evit_edge.benchmark.figures import OperatorTime
from evit_edge.profiling.op_classes import OpClass, classify
from evit_edge.profiling.profile import operator_times
from evit_edge.profiling.request import Tell
from evit_edge.runtime.engines import native_log
from evit_edge.runtime.torch_checkpoint import TorchRunner

METHOD = (
    "torch.profiler, each operator without those that it calls, over {profiled} inferences; the profiler made "
    "them {slower:.2f} times slower, and its times are divided by that; the whole: median without it"
)
_LEAST_RUNS = 10
_MARK = "evit_edge::whole"
_CALLERS = frozenset(
    f"aten::{name}"
    for name in (
        *("conv2d", "convolution", "_convolution", "thnn_conv2d", "linear", "matmul", "batch_norm"),
        *("_batch_norm_impl_index", "softmax", "reshape", "contiguous", "to", "pad", "flatten", "dropout"),
        *("layer_norm", "cudnn_convolution", "adaptive_avg_pool2d", "hardswish", "unflatten", "chunk", "split"),
    )
)
"""Operators that hand the work on to another: their time counts, they do not."""


@dataclass(frozen=True)
class TorchFigures:
    """What was measured.

    Attributes:
        engine: torch and its version.
        runs: Inferences timed without the profiler.
        whole_s: One inference.
        operators: Time by kind, the longest first.
        method: In words, with its figures.
    """

    engine: str
    runs: int
    whole_s: float
    operators: tuple[OperatorTime, ...]
    method: str


def measure_operators(path: Path, *, threads: int, batch: int, seconds: float, tell: Tell) -> TorchFigures:
    """Time the operators of a checkpoint's network, as it was trained: NCHW, float32, nothing folded.

    Args:
        path: A checkpoint, ``everyday`` or ``hf:OWNER/NAME``.
        threads: Of torch.
        batch: Pictures at a time.
        seconds: How long to time, about; half of it without the profiler.
        tell: Told the share that is done.

    Raises:
        CheckpointError: The weights cannot be used.
    """
    runner = TorchRunner.open(path, threads=threads)
    torch.set_num_threads(threads)
    run = _inference(runner, batch)
    for _ in range(3):
        run()
    tell("without the profiler", 0.0)
    plain = _timed(run, seconds / 2)
    tell("with the profiler", 0.5)
    whole_s = statistics.median(plain)
    profiled = max(_LEAST_RUNS, int(seconds / 2 / whole_s / 2))
    operators, profiled_s = _profiled(run, profiled)
    slower = max(1.0, profiled_s / whole_s)
    words = METHOD.format(profiled=profiled, slower=slower)
    scaled = tuple(OperatorTime(op.name, op.kind, op.count, op.time_s / slower) for op in operators)
    return TorchFigures(f"torch {torch.__version__}", len(plain), whole_s, scaled, words)


def _inference(runner: TorchRunner, batch: int) -> Callable[[], Any]:
    side = runner.info.image_size
    pictures = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    network = runner.network

    def run() -> Any:
        with torch.inference_mode():
            return network(pictures)

    return run


def _timed(run: Callable[[], Any], seconds: float) -> list[float]:
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < _LEAST_RUNS or time.perf_counter() < stop:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def _profiled(run: Callable[[], Any], times: int) -> tuple[tuple[OperatorTime, ...], float]:
    """Operators of one inference, and how long one took under the profiler."""
    with (
        native_log(),
        profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as profiler,
    ):
        for _ in range(times):
            with torch.profiler.record_function(_MARK):
                run()
    events = profiler.key_averages(group_by_input_shape=True)
    whole_us = sum(event.cpu_time_total for event in events if event.key == _MARK)
    measured = [
        (
            *(event.key, _op_class(event), 0 if event.key in _CALLERS else round(event.count / times)),
            event.self_cpu_time_total * 1e-6 / times,
        )
        for event in events
        if event.key.startswith("aten::") and event.self_cpu_time_total > 0
    ]
    return operator_times(measured), whole_us * 1e-6 / times


def _op_class(event: Any) -> OpClass:
    """By the name; a convolution whose filters see one channel of several is depthwise."""
    op_class = classify(event.key)
    shapes = event.input_shapes
    if op_class is OpClass.CONVOLUTION and len(shapes) > 1 and len(shapes[0]) == len(shapes[1]) == 4:
        return OpClass.DEPTHWISE if shapes[1][1] == 1 < shapes[0][1] else op_class
    return op_class
