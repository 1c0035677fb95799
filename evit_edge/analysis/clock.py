"""Timing a network on the CPU or on CUDA, and the least time that the machine could take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from evit_edge.errors import RequestError

_LEAST_RUNS = 5
_SIDE_CPU, _SIDE_CUDA = 512, 8192
_BLOCK_CPU, _BLOCK_CUDA = 2**26, 2**28
_PEAK_S = 0.2
_FINE_CLOCK_S = 1e-6


class Processor(StrEnum):
    """Where a network runs."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Balance:
    """What this machine was measured to do, with PyTorch's own kernels, in float32.

    Attributes:
        flops_per_s: Of a large matrix product, two operations a multiply-accumulate.
        bytes_per_s: Of copying a block far larger than any cache; what is read and what is written counts.
    """

    flops_per_s: float
    bytes_per_s: float

    @property
    def flops_per_byte(self) -> float:
        """The machine balance: an operator of less arithmetic than this for each byte waits for memory."""
        return self.flops_per_s / self.bytes_per_s

    def least_s(self, flops: float, bytes_moved: float) -> float:
        """The least time for so much work (the roofline)."""
        return max(flops / self.flops_per_s, bytes_moved / self.bytes_per_s)


def check_processor(processor: Processor) -> None:
    """Refuse CUDA where there is none.

    Raises:
        RequestError: torch sees no CUDA device.
    """
    if processor is Processor.CUDA and not torch.cuda.is_available():
        raise RequestError("device cuda given, but torch sees no CUDA device; use cpu or install a CUDA build")


def forward(module: nn.Module, batch: Tensor) -> Callable[[], Any]:
    """A function that runs a network once, without gradients."""

    def run() -> Any:
        with torch.inference_mode():
            return module(batch)

    return run


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Compute attention operator by operator, as networks did before the fused kernels."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(value=False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(value=fast)


def clock_of(processor: Processor) -> Callable[[], float]:
    """The clock to time with, in seconds.

    With one thread on the CPU it is the processor time of the calling thread, so that other programs which take
    the core away do not count; else the wall's.
    """
    fine = time.get_clock_info("thread_time").resolution <= _FINE_CLOCK_S
    alone = processor is Processor.CPU and torch.get_num_threads() == 1
    return time.thread_time if fine and alone else time.perf_counter


def timed(run: Callable[[], Any], seconds: float, processor: Processor = Processor.CPU) -> list[float]:
    """Run again and again; seconds of each run, at least five of them."""
    times: list[float] = []
    clock = clock_of(processor)
    stop = time.perf_counter() + seconds
    while len(times) < _LEAST_RUNS or time.perf_counter() < stop:
        wait(processor)
        start = clock()
        run()
        wait(processor)
        times.append(clock() - start)
    return times


def wait(processor: Processor) -> None:
    """Until the device has done all that it was given."""
    if processor is Processor.CUDA:
        torch.cuda.synchronize()


def measure_balance(processor: Processor) -> Balance:
    """Measure, with as many threads as torch has; takes about a second. Each is the best of several runs."""
    cuda = processor is Processor.CUDA
    side, block = (_SIDE_CUDA, _BLOCK_CUDA) if cuda else (_SIDE_CPU, _BLOCK_CPU)
    a, b = torch.rand(side, side, device=processor.value), torch.rand(side, side, device=processor.value)
    product = torch.empty_like(a)
    source = torch.ones(block // 4, device=processor.value)
    target = torch.empty_like(source).fill_(0)
    with torch.inference_mode():
        product_s = min(timed(lambda: torch.mm(a, b, out=product), _PEAK_S, processor))
        copy_s = min(timed(lambda: target.copy_(source), _PEAK_S, processor))
    return Balance(2 * side**3 / product_s, 2 * block / copy_s)
