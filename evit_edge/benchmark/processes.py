"""Cold start and memory, each in a fresh process, none of which outlives this one's interest in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

from evit_edge.benchmark.figures import ColdStart, MemoryUse
from evit_edge.errors import ArtefactError

_POLL_S, _LONGEST_S = 0.05, 120.0
MEMORY_METHOD = "peak resident set of a fresh process that loads the model and runs it"


def cold_start(artefact: str, threads: int, stop: threading.Event) -> ColdStart | None:
    """Start once from nothing; the file itself is in the system's cache by now. None when stopped.

    Raises:
        ArtefactError: The process failed.
    """
    answer = _ask("cold-start", artefact, threads, stop)
    if answer is None:
        return None
    return ColdStart(answer["process_s"], answer["load_s"], answer["first_inference_s"])


def memory_use(artefact: str, threads: int, stop: threading.Event) -> MemoryUse | None:
    """Peak memory of one process; None when stopped, or where the system does not tell.

    Raises:
        ArtefactError: The process failed.
    """
    answer = _ask("memory", artefact, threads, stop)
    if answer is None or answer["peak_bytes"] is None:
        return None
    return MemoryUse(answer["peak_bytes"], answer["before_bytes"], MEMORY_METHOD)


def _ask(task: str, artefact: str, threads: int, stop: threading.Event) -> dict[str, Any] | None:
    """Run :mod:`evit_edge.benchmark.child`; kill it when stopped, interrupted or late."""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-m", "evit_edge.benchmark.child", task, artefact, str(threads)]
    started = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - this very interpreter
        [*command, repr(started)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            while not stop.is_set() and time.perf_counter() - started < _LONGEST_S:
                try:
                    output, errors = child.communicate(timeout=_POLL_S)
                except subprocess.TimeoutExpired:
                    continue
                if stop.is_set():  # Ctrl-C in a terminal reaches the child too
                    return None
                return _answer(child.returncode, output, errors, task, artefact)
        finally:
            child.kill()
    if stop.is_set():
        return None
    raise ArtefactError(f"{artefact}: measuring its {task} took more than {_LONGEST_S:.0f} s; leave it out")


def _answer(code: int, output: str, errors: str, task: str, artefact: str) -> dict[str, Any]:
    if code != 0:
        reason = errors.strip().splitlines()[-1] if errors.strip() else f"it ended with {code}"
        raise ArtefactError(f"{artefact}: measuring its {task} in a fresh process failed: {reason}")
    answer: dict[str, Any] = json.loads(output)
    return answer
