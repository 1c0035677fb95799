"""``analyze layout``: other shares of attention layers at equal latency, as in figure 3 of the EfficientViT paper.

All nets have as many layers; the more of them attend, the wider or narrower the net may be for the same latency.
The width is found by measuring: in each round all nets and the reference run in turn, so that a disturbance meets
all of them, and each width is changed by as much as its latency is off. Imports torch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evit_edge import __version__
from evit_edge.analysis.clock import Balance, Processor, check_processor, clock_of, forward, measure_balance, wait
from evit_edge.analysis.kinds import Kind
from evit_edge.analysis.layout_nets import LayoutConfig, PlainTransformer
from evit_edge.analysis.layout_report import Accuracy, LayoutNet, LayoutReport
from evit_edge.analysis.networks import Network
from evit_edge.analysis.runtime import RuntimeRequest, measure_network
from evit_edge.analysis.runtime_report import ModelRuntime
from evit_edge.benchmark.environment import cpu
from evit_edge.errors import RequestError
from evit_edge.preprocessing import Preprocessing
from evit_edge.profiling.request import Tell

if TYPE_CHECKING:
    from evit_edge.analysis.layout_training import ShortTraining

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
REFERENCE = "DeiT-T's layers"
_STEP = 6
"""Channels by which widths differ, a multiple of the heads: about 6 % of the latency."""
_NARROWEST, _WIDEST = 48, 768
_EXPONENT = 1.6
"""Latency grows about so with the width: 2 for the products, 1 for what waits for memory."""
_ROUNDS, _LEAST_RUNS, _CLOSE = 6, 5, 0.03
_MATCHING, _THROUGHPUT, _PROFILING = 0.5, 0.25, 0.25  # of the time
_AND_TRAINING = 0.1  # of the progress, where training follows


@dataclass(frozen=True)
class LayoutRequest:
    """What to analyse.

    Attributes:
        shares: Of layers that attend, each in (0, 1].
        layers: Attention layers and feed-forward networks together.
        speedup: How many times faster than the reference (24 layers, half of them attend, 192 channels) the nets
            shall be; the paper uses 1.25 and 1.5.
        batch: At which latencies are matched.
        throughput_batch: At which throughput and the shares of the run time are measured.
        image_size: Side of the input in pixels, a multiple of 16.
        processor: Where to run.
        threads: Of torch, on the CPU.
        seconds: How long to time, about, all in all.
        train: Folders of class folders to train on; none: no accuracy.
        epochs: To train.
        train_batch: Photos a step.
        workers: Processes that prepare photos; -1: by cores.
        seed: Of the weights and of the training.
        command: The command line, for the record.
    """

    shares: tuple[float, ...] = SHARES
    layers: int = 20
    speedup: float = 1.25
    batch: int = 1
    throughput_batch: int = 16
    image_size: int = 224
    processor: Processor = Processor.CPU
    threads: int = 1
    seconds: float = 120.0
    train: tuple[Path, ...] = ()
    epochs: int = 5
    train_batch: int = 64
    workers: int = -1
    seed: int = 0
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be built or timed."""
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise RequestError(f"shares {self.shares} given; at least one above 0 and up to 1 is needed")
        if min(self.layers, self.batch, self.throughput_batch, self.threads, self.epochs) < 1:
            raise RequestError("layers, batches, threads and epochs of at least 1 are needed")
        if not 0 < self.seconds < float("inf") or not 0 < self.speedup < float("inf"):
            raise RequestError(f"{self.seconds} s and speedup {self.speedup} given; more than 0 is needed")
        LayoutConfig(image_size=self.image_size)

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """How many attend, rising, each once."""
        return tuple(sorted({max(1, round(share * self.layers)) for share in self.shares}))


def analyze_layout(request: LayoutRequest, tell: Tell = lambda _what, _share: None) -> LayoutReport:
    """Build the nets, match their latencies, measure them and, where asked for, train them.

    Args:
        request: Which, where and for how long.
        tell: Called with what is being done and the share of it that is done.

    Raises:
        EvitEdgeError: The device or the photos cannot be used.
    """
    check_processor(request.processor)
    torch.set_num_threads(request.threads)
    measuring = _AND_TRAINING if request.train else 1.0
    tell("matching latencies", 0.0)
    training = _training(request) if request.train else None  # photos that cannot be used are told at once
    configs, latencies, reference_s = _matched(request, _part(tell, "matching latencies", 0, 0.6 * measuring))
    tell("measuring throughput", 0.6 * measuring)
    batch = request.throughput_batch
    passes = _latencies(configs, request, batch, _THROUGHPUT * request.seconds)
    balance = measure_balance(request.processor)
    nets = []
    for i, config in enumerate(configs):
        tell("measuring where the time goes", (0.8 + 0.2 * i / len(configs)) * measuring)
        off = latencies[i] * request.speedup / reference_s - 1
        runtime, macs = _profiled(config, request, balance)
        counts = (config.attention_layers, config.layers, config.width)
        nets.append(LayoutNet(*counts, latencies[i], off, batch / passes[i], runtime, macs))
    if training is not None:
        accuracies = _trained(configs, training, request, tell)
        nets = [replace(net, accuracy=found) for net, found in zip(nets, accuracies, strict=True)]
    cuda = request.processor is Processor.CUDA
    return LayoutReport(
        reference=REFERENCE,
        reference_latency_s=reference_s,
        speedup=request.speedup,
        batch=request.batch,
        image_size=request.image_size,
        nets=tuple(nets),
        device=torch.cuda.get_device_name() if cuda else cpu().model,
        processor=request.processor.value,
        threads=request.threads,
        engine=f"torch {torch.__version__}",
        flops_per_byte=balance.flops_per_byte,
        data=tuple(folder.name for folder in request.train),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        tool_version=__version__,
    )


def next_width(width: int, latency_s: float, target_s: float) -> int:
    """The width to try after one was measured; a multiple of the step, within limits."""
    wanted: float = width * (target_s / latency_s) ** (1 / _EXPONENT)
    return min(_WIDEST, max(_NARROWEST, _STEP * round(wanted / _STEP)))


def _matched(
    request: LayoutRequest, tell: Callable[[float], None]
) -> tuple[tuple[LayoutConfig, ...], tuple[float, ...], float]:
    """Widths, the latencies that they were last measured to have, and the reference's."""
    reference = LayoutConfig(image_size=request.image_size)
    configs = [
        replace(reference, layers=request.layers, attention_layers=count) for count in request.attention_layers
    ]
    seconds = _MATCHING * request.seconds / (_ROUNDS + 2)
    closest = [(float("inf"), config) for config in configs]
    for round_number in range(_ROUNDS):
        reference_s, *latencies = _latencies([reference, *configs], request, request.batch, seconds)
        target_s = reference_s / request.speedup
        for i, latency in enumerate(latencies):
            closest[i] = min(closest[i], (abs(latency / target_s - 1), configs[i]), key=lambda entry: entry[0])
        tell((round_number + 1) / (_ROUNDS + 1))
        if all(off < _CLOSE for off, _ in closest):
            break
        configs = [
            config if off < _CLOSE else _widened(tried, latency, target_s)
            for (off, config), tried, latency in zip(closest, configs, latencies, strict=True)
        ]
    configs = [config for _, config in closest]
    reference_s, *latencies = _latencies([reference, *configs], request, request.batch, 2 * seconds)
    return tuple(configs), tuple(latencies), reference_s


def _widened(config: LayoutConfig, latency_s: float, target_s: float) -> LayoutConfig:
    return replace(config, width=next_width(config.width, latency_s, target_s))


def _latencies(configs: Sequence[LayoutConfig], request: LayoutRequest, batch: int, seconds: float) -> list[float]:
    """Medians of nets that run in turn."""
    runs = [_run(_network(config, request), batch, request.processor) for config in configs]
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    clock, stop = clock_of(request.processor), time.perf_counter() + seconds
    while len(times[-1]) < _LEAST_RUNS or time.perf_counter() < stop:
        for run, found in zip(runs, times, strict=True):
            wait(request.processor)
            start = clock()
            run()
            wait(request.processor)
            found.append(clock() - start)
    return [statistics.median(found) for found in times]


def _network(config: LayoutConfig, request: LayoutRequest) -> Network:
    torch.manual_seed(request.seed)
    module = PlainTransformer(config).eval().requires_grad_(requires_grad=False)
    name = f"{config.attention_layers} of {config.layers} layers attend, width {config.width}"
    return Network(name, module, Preprocessing(image_size=config.image_size))


def _run(network: Network, batch: int, processor: Processor) -> Callable[[], Any]:
    return forward(network.module.to(processor.value), network.noise(batch).to(processor.value))


def _profiled(config: LayoutConfig, request: LayoutRequest, balance: Balance) -> tuple[ModelRuntime, float]:
    """Where the time goes at the larger batch, and multiply-accumulates for one picture."""
    network = _network(config, request)
    asked = RuntimeRequest(
        (network.name,),
        processor=request.processor,
        batch=request.throughput_batch,
        threads=request.threads,
        seconds=_PROFILING * request.seconds / len(request.attention_layers),
    )
    runtime = measure_network(network, asked, balance)
    flops = sum(entry.flops for entry in runtime.operators if entry.kind is Kind.MULTIPLICATION)
    return runtime, flops / 2 / request.throughput_batch


def _training(request: LayoutRequest) -> ShortTraining:
    from evit_edge.analysis.layout_training import ShortTraining

    return ShortTraining(
        request.train,
        image_size=request.image_size,
        epochs=request.epochs,
        batch_size=request.train_batch,
        device=request.processor.value,
        workers=request.workers,
        seed=request.seed,
    )


def _trained(
    configs: Sequence[LayoutConfig], training: ShortTraining, request: LayoutRequest, tell: Tell
) -> list[Accuracy]:
    found = []
    for i, config in enumerate(configs):
        torch.manual_seed(request.seed)
        network = PlainTransformer(replace(config, num_classes=training.classes))
        what = f"training {config.attention_layers} of {config.layers}"
        each = (1 - _AND_TRAINING) / len(configs)
        found.append(training.accuracy(network, _part(tell, what, _AND_TRAINING + i * each, each)))
    return found


def _part(tell: Tell, what: str, start: float, length: float) -> Callable[[float], None]:
    """Shares of a part as shares of the whole."""
    return lambda share: tell(what, start + share * length)
