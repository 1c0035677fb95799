"""What runs in the process that :mod:`evit_edge.benchmark.apart` starts: one benchmark, told of as it goes."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace

from evit_edge.runtime.apart import enter
from evit_edge.runtime.wire import receive, send


def main() -> None:
    """Measure what is asked for, and answer with the report."""
    answers = enter()
    stop = threading.Event()
    order, _ = receive(0)
    if order["stopped"]:
        stop.set()
    threading.Thread(target=_listen, args=(stop,), daemon=True).start()
    try:
        _measure(answers, order["request"], stop)
    except BrokenPipeError:
        return
    except BaseException as exc:  # whatever it is, it is the parent's to tell
        send(answers, {"error": type(exc).__name__, "text": str(exc)[:4000]})


def _measure(answers: int, fields: object, stop: threading.Event) -> None:
    from evit_edge.benchmark.host import measure
    from evit_edge.benchmark.request import BenchmarkRequest, Progress
    from evit_edge.strict_json import from_json, to_json

    sent: dict[str, int] = {}

    def tell(progress: Progress) -> None:
        """Send what is new: all times at every step would take longer and longer."""
        times = {}
        for name, column in progress.times_s.items():
            start = sent.get(name, 0) if sent.get(name, 0) <= len(column) else 0
            times[name] = [start, list(column[start:])]
            sent[name] = len(column)
        send(answers, {"progress": to_json(replace(progress, times_s={})), "times": times})

    request = from_json(BenchmarkRequest, fields)
    report = measure(replace(request, limits=None), tell, stop)
    send(answers, {"report": to_json(report)})


def _listen(stop: threading.Event) -> None:
    """Stop when told to; end with the parent, and with all that was started for it."""
    try:
        while True:
            message, _ = receive(0)
            if message.get("stop"):
                stop.set()
    except (EOFError, ValueError, OSError):
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


if __name__ == "__main__":
    main()
