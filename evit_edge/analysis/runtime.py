"""``analyze runtime``: where a network's run time goes, as in figure 2 of the EfficientViT paper. Imports torch.

The method. ``torch.profiler`` gives the time of each operator without those that it calls. That time counts for
the outermost operator that is served, so that the buffers of a convolution are the convolution's and the copy
that a ``reshape`` has to make is the reshape's; ``linear``, ``matmul`` and the like only put others together,
and those count one by one. The profiler's own cost is spread over all: the network is timed without it too, and
every time is divided by the ratio of both. On CUDA the times are those of the kernels, which the profiler does
not slow down.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from evit_edge import __version__
from evit_edge.analysis.clock import (
    Balance,
    Processor,
    check_processor,
    forward,
    measure_balance,
    timed,
    unfused_attention,
    wait,
)
from evit_edge.analysis.kinds import COMPOSED, kind_of
from evit_edge.analysis.networks import Form, Network, open_network
from evit_edge.analysis.runtime_report import ModelRuntime, OperatorWork, RuntimeReport, join
from evit_edge.analysis.work import Work, work_of
from evit_edge.benchmark.environment import cpu
from evit_edge.benchmark.figures import Bound
from evit_edge.errors import RequestError
from evit_edge.profiling.request import Tell
from evit_edge.runtime.engines import native_log

_MARK = "evit_edge::pass"
_WARM_UP, _LEAST_PROFILED, _MOST_PROFILED = 3, 3, 200
_COPIES = frozenset({"aten::copy_", "aten::clone"})
_LARGE_RESIDUAL = 0.25


@dataclass(frozen=True)
class RuntimeRequest:
    """What to analyse.

    Attributes:
        models: As :func:`evit_edge.analysis.networks.open_network` takes them.
        form: Of EfficientViTs.
        processor: Where to run.
        batch: Pictures in a pass.
        image_size: Side of the input in pixels; each network's own where not given.
        threads: Of torch, on the CPU.
        seconds: How long to time each model, about; half of it without the profiler.
        unfused: Compute attention operator by operator, not by one fused kernel.
        channels_last: Lay planes in memory as NHWC.
        command: The command line, for the record.
    """

    models: tuple[str, ...]
    form: Form = Form.TRAIN
    processor: Processor = Processor.CPU
    batch: int = 1
    image_size: int | None = None
    threads: int = 1
    seconds: float = 10.0
    unfused: bool = False
    channels_last: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be timed."""
        if not self.models:
            raise RequestError("no model given; give at least one, such as efficientvit_m0")
        if self.threads < 1 or self.batch < 1:
            raise RequestError(f"{self.threads} threads, batch {self.batch} given; each at least 1")
        if not 0 < self.seconds < float("inf"):
            raise RequestError(f"{self.seconds} s given; more than 0 is needed")


def analyze_runtime(request: RuntimeRequest, tell: Tell = lambda _what, _share: None) -> RuntimeReport:
    """Time the models and find out where the time goes.

    Args:
        request: What, where and for how long.
        tell: Called with what is being timed and the share that is done.

    Raises:
        EvitEdgeError: A model or the device cannot be used.
    """
    check_processor(request.processor)
    torch.set_num_threads(request.threads)
    tell("the machine's balance", 0.0)
    networks = [
        open_network(source, form=request.form, image_size=request.image_size) for source in request.models
    ]
    balance = measure_balance(request.processor)
    measured = []
    for i, network in enumerate(networks):
        tell(network.name, i / len(networks))
        measured.append(measure_network(network, request, balance))
    cuda = request.processor is Processor.CUDA
    return RuntimeReport(
        device=torch.cuda.get_device_name() if cuda else cpu().model,
        processor=request.processor.value,
        threads=request.threads,
        engine=f"torch {torch.__version__}",
        flops_per_s=balance.flops_per_s,
        bytes_per_s=balance.bytes_per_s,
        models=tuple(measured),
        unfused=request.unfused,
        channels_last=request.channels_last,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        tool_version=__version__,
        remarks=tuple(_remarks(measured)),
    )


def measure_network(network: Network, request: RuntimeRequest, balance: Balance) -> ModelRuntime:
    """Time one network.

    Args:
        network: In eval mode.
        request: Where, how and for how long; its models do not matter.
        balance: Of the machine, measured with as many threads.

    Raises:
        RequestError: The network does not take such a batch.
    """
    run = _prepared(network, request)
    with unfused_attention() if request.unfused else nullcontext():
        try:
            for _ in range(_WARM_UP):
                run()
        except RuntimeError as exc:  # torch's, for shapes
            raise RequestError(
                f"{network.name} does not run at {network.image_size} px: {str(exc).splitlines()[0]}"
            ) from exc
        plain = timed(run, request.seconds / 2, request.processor)
        whole_s = statistics.median(plain)
        profiled = min(_MOST_PROFILED, max(_LEAST_PROFILED, int(request.seconds / 2 / whole_s / 2)))
        events = _profiled(run, profiled, request.processor)
    slower = 1.0
    if request.processor is Processor.CPU:
        passes_us = [event.cpu_time_total for event in events if event.name == _MARK]
        slower = 1e-6 * statistics.fmean(passes_us) / whole_s
    return ModelRuntime(
        name=network.name,
        form=network.form.value,
        image_size=network.image_size,
        batch=request.batch,
        parameters=sum(parameter.numel() for parameter in network.module.parameters()),
        whole_s=whole_s,
        runs=len(plain),
        profiled=profiled,
        slower=slower,
        operators=join(_operators(events, 1e-6 / profiled / slower, profiled, balance, request.processor)),
    )


def _prepared(network: Network, request: RuntimeRequest) -> Callable[[], Any]:
    module, batch = network.module.to(request.processor.value), network.noise(request.batch)
    batch = batch.to(request.processor.value)
    if request.channels_last and network.form is Form.TRAIN:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = batch.contiguous(memory_format=torch.channels_last)
    return forward(module, batch)


def _profiled(run: Callable[[], Any], times: int, processor: Processor) -> list[Any]:
    """The profiler's events, each with the operator that called it."""
    activities = [ProfilerActivity.CPU]
    if processor is Processor.CUDA:
        activities.append(ProfilerActivity.CUDA)
    with native_log(), profile(activities=activities, record_shapes=True, acc_events=True) as profiler:
        for _ in range(times):
            with record_function(_MARK):
                run()
        wait(processor)
    return list(profiler.events())


def _operators(
    events: Iterable[Any], scale: float, passes: int, balance: Balance, processor: Processor
) -> Iterable[OperatorWork]:
    """Every event as work of the operator that it counts for, in one pass."""
    copying = {id(_counted_for(event)) for event in events if event.name in _COPIES}
    for event in events:
        if not event.name.startswith("aten::"):
            continue
        time_us = event.self_cpu_time_total if processor is Processor.CPU else event.self_device_time_total
        served = _counted_for(event)
        kind, leads = kind_of(served.name), served is event
        counted = leads and event.name not in COMPOSED
        shapes, concrete = served.input_shapes, served.concrete_inputs or ()
        work = work_of(served.name, kind, shapes, concrete, moves=id(served) in copying)
        mine = work if counted else Work()
        yield OperatorWork(
            name=served.name,
            kind=kind,
            bound=Bound.COMPUTE if work.intensity >= balance.flops_per_byte else Bound.MEMORY,
            calls=1 / passes if counted else 0,
            time_s=time_us * scale,
            flops=mine.flops / passes,
            bytes_moved=mine.bytes_moved / passes,
            least_s=balance.least_s(mine.flops, mine.bytes_moved) / passes,
        )


def _counted_for(event: Any) -> Any:
    """The outermost operator that an event serves, but for those that only put others together."""
    served, caller = event, event.cpu_parent
    while caller is not None:
        if caller.name.startswith("aten::") and caller.name not in COMPOSED:
            served = caller
        caller = caller.cpu_parent
    return served


def _remarks(measured: Iterable[ModelRuntime]) -> Iterable[str]:
    for model in measured:
        if abs(model.outside_share) > _LARGE_RESIDUAL:
            yield (
                f"{model.name}: {100 * model.outside_share:.0f} % of the time is spent in no operator; a larger "
                "batch makes that less"
            )
