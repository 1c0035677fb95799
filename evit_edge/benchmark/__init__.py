"""Measuring how long models take, and how far that can be trusted.

:func:`benchmark` is the one door: a :class:`BenchmarkRequest` in, a :class:`Report` out, whatever the device.
"""

from __future__ import annotations

import importlib
import threading

from evit_edge.benchmark.device import DeviceKind, Judgement
from evit_edge.benchmark.report import Report, Status, read_report, write_report
from evit_edge.benchmark.request import BenchmarkRequest, DeviceChoice, Progress, Tell

__all__ = [
    "BenchmarkRequest",
    "DeviceChoice",
    "DeviceKind",
    "Judgement",
    "Progress",
    "Report",
    "Status",
    "benchmark",
    "read_report",
    "write_report",
]

_HOMES = {
    DeviceKind.HOST: "host",
    DeviceKind.ANDROID: "android",
    DeviceKind.MAC: "apple",
    DeviceKind.IOS: "apple",
}


def _ignore(_: Progress) -> None:
    pass


def benchmark(request: BenchmarkRequest, tell: Tell = _ignore, stop: threading.Event | None = None) -> Report:
    """Measure.

    Args:
        request: What, where and for how long.
        tell: Called with what is being done, from the calling thread; must return at once.
        stop: Set it to end early; Ctrl-C does the same. The report then is marked partial.

    Returns:
        The report. Nothing is printed or written.

    Raises:
        EvitEdgeError: An artefact or a device cannot be used; nothing was measured.
        KeyboardInterrupt: Ctrl-C before there was anything to report.
    """
    stop = stop or threading.Event()
    if request.device.kind is DeviceKind.HOST and request.limits is not None:
        from evit_edge.benchmark.apart import measure_apart, needs_own_process

        if needs_own_process(request):
            return measure_apart(request, request.limits, tell, stop)
    home = importlib.import_module(f"evit_edge.benchmark.{_HOMES[request.device.kind]}")
    report: Report = home.measure(request, tell, stop)
    return report
