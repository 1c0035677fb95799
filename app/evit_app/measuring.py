"""The command line's benchmark inside the app: in a thread that can be told to end, with progress."""

from __future__ import annotations

import asyncio
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence

from evit_app.session import Session
from evit_edge.benchmark import BenchmarkRequest, Progress, Report, benchmark
from evit_edge.benchmark.html import html_page
from evit_edge.benchmark.report import report_text
from evit_edge.benchmark.request import Phase
from evit_edge.errors import EvitEdgeError

_TELL_EVERY_S = 1.0  # redrawing the page takes time from what is measured
_PHONES = ("android", "ios")
_JOIN_S = 5.0  # a process has to finish its turn and to end

Show = Callable[[Progress], None]


def request_for(sessions: Sequence[Session]) -> BenchmarkRequest:
    """What ``evit-edge benchmark`` does by default with these models and their threads; the first is the baseline.

    A phone's app can start no processes, so there is no cold start.
    """
    paths = [str(session.info.path) for session in sessions]
    threads = sessions[0].info.threads
    names = [session.info.path.name for session in sessions]
    command = shlex.join(["evit-edge", "benchmark", *names, "--threads", str(threads)])
    return BenchmarkRequest(
        artefacts=tuple(paths),
        threads=(threads,),
        cold_start=sys.platform not in _PHONES,
        command=f"{command}  # from the app",
        limits=sessions[0].limits,
    )


def report_files(report: Report) -> dict[str, bytes]:
    """A report as the command line writes it: content by file name."""
    return {
        "evit-edge-report.json": report_text(report).encode(),
        "evit-edge-report.html": html_page(report).encode(),
    }


class Measurement:
    """One benchmark. Its thread is a daemon, so that it never holds the program.

    Args:
        request: What is measured.
        show: Called on the event loop with progress, once a second or when something else begins.
    """

    def __init__(self, request: BenchmarkRequest, show: Show) -> None:
        self._request, self._show = request, show
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="evit-benchmark", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Future[Report] | None = None
        self._told: tuple[Phase, float] | None = None

    async def run(self) -> Report:
        """Measure to the end, or to where it is stopped; such a report is marked partial.

        Raises:
            EvitEdgeError: A model cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        self._thread.start()
        try:
            return await asyncio.shield(self._done)
        finally:
            self._stop.set()
            if self._done.done():
                self._thread.join(_JOIN_S)  # it has nothing left to do

    def stop(self) -> None:
        """End it after the turn at hand; from any thread."""
        self._stop.set()

    def end(self) -> None:
        """End it and wait for a moment, so that no process of it is left; blocks."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def _measure(self) -> None:
        try:
            report = benchmark(self._request, self._tell, self._stop)
        except EvitEdgeError as exc:
            self._settle(None, exc)
        except Exception as exc:  # nobody waits for a thread: an engine's own exceptions have to be handed over
            self._settle(None, EvitEdgeError(f"{type(exc).__name__}: {exc}"))
        else:
            self._settle(report, None)

    def _settle(self, report: Report | None, error: EvitEdgeError | None) -> None:
        def settle() -> None:
            if self._done is None or self._done.done():
                return
            if report is not None:
                self._done.set_result(report)
            elif error is not None:
                self._done.set_exception(error)

        self._call(settle)

    def _tell(self, progress: Progress) -> None:
        now = time.perf_counter()
        if self._told is None or self._told[0] is not progress.phase or now - self._told[1] >= _TELL_EVERY_S:
            self._told = (progress.phase, now)
            self._call(lambda: self._show(progress))

    def _call(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)
