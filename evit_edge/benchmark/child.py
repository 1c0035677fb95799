"""What runs in a fresh process: one cold start, or a few runs to see the memory they need.

Started by :mod:`evit_edge.benchmark.processes` as ``python -m evit_edge.benchmark.child``; writes one JSON object.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

_RUNS = 10


def main(task: str, artefact: str, threads: int, started_s: float) -> None:
    """Do a task.

    Args:
        task: ``cold-start`` or ``memory``.
        artefact: What to open.
        threads: Of the engine.
        started_s: The parent's ``time.perf_counter`` just before it started this process: the clock is the
            system's, the same in both.
    """
    import numpy as np

    from evit_edge.runtime.opening import open_runner

    _import_engine(artefact)
    before_bytes, ready_s = peak_bytes(), time.perf_counter()
    runner = open_runner(artefact, threads=threads, checked=True)  # the parent has checked it
    loaded_s = time.perf_counter()
    side = runner.info.image_size
    picture = np.zeros((1, side, side, 3), dtype=np.uint8)
    runner.run(picture)
    done_s = time.perf_counter()
    if task == "cold-start":
        answer: dict[str, float | int | None] = {
            "process_s": ready_s - started_s,
            "load_s": loaded_s - ready_s,
            "first_inference_s": done_s - loaded_s,
        }
    else:
        for _ in range(_RUNS):
            runner.run(picture)
        answer = {"peak_bytes": peak_bytes(), "before_bytes": before_bytes}
    sys.stdout.write(json.dumps(answer))


def _import_engine(artefact: str) -> None:
    """What opening would import anyway; it belongs to the start of the process, not to the model's loading."""
    from evit_edge.runtime.engines import preferred_engine
    from evit_edge.runtime.opening import is_checkpoint

    if is_checkpoint(artefact):
        importlib.import_module("evit_edge.runtime.torch_checkpoint")
    elif artefact.endswith(".onnx"):
        importlib.import_module("onnxruntime")
    elif artefact.endswith(".tflite"):
        preferred_engine()


def peak_bytes() -> int | None:
    """The most memory that this process has held; None where the system does not tell.

    Linux: VmHWM. ``getrusage`` would count what the parent held, if that was more.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
