"""Models in a process of their own: what kills an engine then ends that process, and is one line of error here."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from evit_edge.errors import ArtefactError, RequestError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.apart import Apart, can_run_apart
from evit_edge.runtime.checks.limits import Limits
from evit_edge.runtime.info import ModelInfo, Runner, check_images
from evit_edge.runtime.opening import is_checkpoint, open_runner
from evit_edge.runtime.pixels import InputRange
from evit_edge.strict_json import MismatchError, from_json
from evit_edge.tensors import Float32Array, UInt8Images
from evit_edge.zoo import artefact_path, is_shipped

_WORKER = "evit_edge.runtime.worker"


class IsolatedRunner:
    """A model behind a pipe. Its process ends with this object, or with :meth:`close`.

    Args:
        path: As :func:`evit_edge.runtime.open_runner` takes it.
        limits: For the process.
        threads: Of the engine.
        labels: Names of the classes, in place of the file's.
        input_range: What a float input expects of a pixel.
        preprocessing: The resize and crop rule, in place of the file's.

    Raises:
        EvitEdgeError: As :func:`evit_edge.runtime.open_runner`; also when the process dies or exceeds its limits.
    """

    def __init__(
        self,
        path: str | Path,
        limits: Limits,
        *,
        threads: int = 1,
        labels: tuple[str, ...] | None = None,
        input_range: InputRange | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self._limits, self._path = limits, str(path)
        self._lock = threading.Lock()  # a question, its answer, and only then the next
        self._apart = Apart(_WORKER, limits, self._path)
        order = {
            "path": self._path,
            "threads": threads,
            "labels": labels,
            "input_range": input_range,
            "preprocessing": None if preprocessing is None else preprocessing.to_json(),
            "memory_bytes": limits.memory_bytes,
            "time_s": limits.time_s,
        }
        try:
            answer, _ = self._apart.ask(order, doing="opening it", time_s=limits.time_s)
            self._info = self._described(answer.get("info"))
        except BaseException:
            self._apart.close()
            raise

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        return self._info

    @property
    def process_id(self) -> int:
        """Of the process that runs the model."""
        return self._apart.process_id

    @property
    def alive(self) -> bool:
        """Whether that process still runs."""
        return self._apart.alive

    def run(self, images: UInt8Images) -> Float32Array:
        """Score uint8 (B, S, S, 3) pictures; float32 (B, classes), as ``info.output_kind`` says.

        Raises:
            ArtefactError: The process died or exceeded a limit. It is not started again.
            RequestError: The pictures have another shape or type.
        """
        check_images(images, self._info.image_size)
        count, classes = len(images), self._info.num_classes
        body = np.ascontiguousarray(images).data.cast("B") if count else b""
        size = 4 * count * classes
        doing = f"scoring {count} picture{'s' * (count != 1)}"
        with self._lock:
            answer, scores = self._apart.ask(
                {"pictures": count}, body, doing=doing, time_s=self._limits.time_s, most_bytes=size
            )
        if answer.get("shape") != [count, classes] or len(scores) != size:
            raise ArtefactError(
                f"{self._path}: scores of shape {answer.get('shape')}; ({count}, {classes}) expected"
            )
        remark = answer.get("remark")
        if remark != self._info.remark:
            self._info = replace(self._info, remark=None if remark is None else str(remark))
        return np.frombuffer(scores, dtype=np.float32).reshape(count, classes)

    def close(self) -> None:
        """End the process. Any number of times."""
        self._apart.close()

    def _described(self, stated: object) -> ModelInfo:
        try:
            return from_json(ModelInfo, stated)
        except MismatchError as exc:
            raise ArtefactError(f"{self._path}: the process that opened it answered nonsense: {exc}") from exc


def open_isolated(
    path: str | Path,
    *,
    limits: Limits | None = None,
    threads: int = 1,
    labels: tuple[str, ...] | None = None,
    input_range: InputRange | None = None,
    preprocessing: Preprocessing | None = None,
) -> Runner:
    """Open a model in a process of its own, with limits on its memory and time.

    What this package ships (by its SHA-256) is opened in this process, as is everything where no processes can be
    started, on phones.

    Args:
        path: As :func:`evit_edge.runtime.open_runner` takes it.
        limits: For the process; the default limits where None.
        threads: Of the engine.
        labels: Names of the classes, in place of the file's.
        input_range: What a float input expects of a pixel.
        preprocessing: The resize and crop rule, in place of the file's.

    Raises:
        EvitEdgeError: As :func:`evit_edge.runtime.open_runner`; also when the process dies or exceeds its limits.
    """
    limits = limits or Limits()
    if threads < 1:
        raise RequestError(f"{threads} threads given; at least 1 is needed")
    path = artefact_path(path)
    if is_shipped(path) or not can_run_apart():
        return open_runner(
            path,
            threads=threads,
            labels=labels,
            input_range=input_range,
            preprocessing=preprocessing,
            limits=limits,
        )
    if is_checkpoint(path) and str(path).startswith("hf:"):
        from evit_edge.models.sources import resolve

        resolve(path)  # a download takes what it takes; the process then finds the file in the cache
    return IsolatedRunner(
        path, limits, threads=threads, labels=labels, input_range=input_range, preprocessing=preprocessing
    )


def is_alive(runner: Runner) -> bool:
    """Whether a runner can still be asked: its process, if it has one, has not ended."""
    return not isinstance(runner, IsolatedRunner) or runner.alive


def close(runner: Runner) -> None:
    """Let go of a runner's process at once, if it has one."""
    if isinstance(runner, IsolatedRunner):
        runner.close()
