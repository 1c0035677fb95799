"""A whole benchmark in a child process: what kills an engine ends that process, and no pipe is timed."""

from __future__ import annotations

import threading
from contextlib import suppress

import numpy as np

from evit_edge.benchmark.report import Report
from evit_edge.benchmark.request import BenchmarkRequest, Phase, Progress, Tell
from evit_edge.errors import ArtefactError
from evit_edge.runtime.apart import Apart, can_run_apart
from evit_edge.runtime.checks.limits import Limits
from evit_edge.runtime.isolated import close, open_isolated
from evit_edge.runtime.wire import Message
from evit_edge.strict_json import MismatchError, from_json, to_json
from evit_edge.zoo import is_shipped

_WORKER = "evit_edge.benchmark.worker"
_LOOK_S = 0.2
_SILENCE = 10
"""Between two messages of a benchmark lie many runs, so it may be silent for as many time limits."""


def needs_own_process(request: BenchmarkRequest) -> bool:
    """Whether limits are asked for, and there is a file that did not come with this package."""
    sources = [*request.artefacts, *([] if request.baseline is None else [request.baseline])]
    return request.limits is not None and can_run_apart() and not all(map(is_shipped, sources))


def measure_apart(request: BenchmarkRequest, limits: Limits, tell: Tell, stop: threading.Event) -> Report:
    """Measure on this machine, in a process of its own; see :func:`evit_edge.benchmark.benchmark`.

    Each model is first opened and run once, alone and under the time limit, so that one that hangs is told soon.

    Raises:
        EvitEdgeError: As measuring in this process; also when that process dies or exceeds its limits.
    """
    _rehearse(request, limits, tell, stop)
    whole = Apart(_WORKER, limits, ", ".join(request.artefacts))
    done = threading.Event()
    try:
        whole.tell({"request": to_json(request), "stopped": stop.is_set()})
        # Not before: the request has to be the first that the process hears.
        threading.Thread(target=_pass_on, args=(stop, done, whole), daemon=True).start()
        told = _Told(tell)
        while True:
            message, _ = whole.hear("the benchmark", time_s=_SILENCE * limits.time_s)
            if "report" in message:
                return from_json(Report, message["report"])
            told.tell(message)
    except MismatchError as exc:
        raise ArtefactError(f"the process that measured answered nonsense: {exc}") from exc
    finally:
        done.set()
        whole.close()


def _rehearse(request: BenchmarkRequest, limits: Limits, tell: Tell, stop: threading.Event) -> None:
    from evit_edge.benchmark.artefacts import refuse_references

    sources = [*request.artefacts, *([] if request.baseline is None else [request.baseline])]
    refuse_references(sources, accepted=request.reference)
    for source in dict.fromkeys(sources):
        if is_shipped(source) or stop.is_set():
            continue
        tell(Progress(Phase.LOAD, source))
        runner = open_isolated(source, limits=limits)
        side = runner.info.image_size
        runner.run(np.zeros((1, side, side, 3), dtype=np.uint8))
        close(runner)


def _pass_on(stop: threading.Event, done: threading.Event, whole: Apart) -> None:
    """Tell the process to stop when this one is told."""
    while not done.is_set():
        if stop.wait(_LOOK_S):
            with suppress(ArtefactError):
                whole.tell({"stop": True})
            return


class _Told:
    """Progress as it is put together again from what is new in each message."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._times: dict[str, list[float]] = {}

    def tell(self, message: Message) -> None:
        try:
            for name, (start, new) in message["times"].items():
                self._times[name] = [*self._times.get(name, [])[:start], *map(float, new)]
            progress = from_json(Progress, message["progress"])
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise MismatchError(f"progress {exc!r}") from exc
        times = {name: tuple(self._times[name]) for name in message["times"]}
        self._tell(
            Progress(progress.phase, progress.subject, progress.done, progress.remaining_s, times, progress.remark)
        )
