"""A runtime for aarch64 in a process of the emulator, with the interface of the interpreter at home."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evit_edge.errors import ArtefactError
from evit_edge.runtime.arm64.root import Arm64Root
from evit_edge.runtime.engines import Engine

if TYPE_CHECKING:
    from evit_converters.tflite import PartitionReport

_REPLAY = Path(__file__).with_name("replay.py")
_LIMIT_S = 300.0


class EmulatedInterpreter:
    """One model in one process; the methods are those of a runtime's ``Interpreter`` that we use.

    Args:
        root: The emulator and its root.
        engine: One of the root's.
        path: The model.
        threads: Of the interpreter.
        limit_s: Longest wait for an answer; the process is ended then.
        marks: Numbers of system calls, for the emulator, that come before and after each inference.

    Raises:
        ArtefactError: The runtime refuses the file, or the process ends or gives no answer in time.
    """

    def __init__(
        self,
        root: Arm64Root,
        engine: Engine,
        path: Path,
        threads: int = 1,
        *,
        limit_s: float = _LIMIT_S,
        marks: tuple[int, int] | None = None,
    ) -> None:
        self._path, self._limit_s = path, limit_s
        model = _read(path)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - the emulator
            root.command(str(_REPLAY)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        self._finalizer = weakref.finalize(self, _end, self._process, self._log)
        header = {"module": engine.module, "size": len(model), "threads": threads, "marks": marks}
        described = json.loads(self._ask(json.dumps(header).encode() + b"\n" + model, None))
        self._inputs, self._outputs = (
            [_detail(entry) for entry in described[name]] for name in ("inputs", "outputs")
        )
        self._nodes: list[dict[str, Any]] = described["nodes"]
        self.machine: str = described["machine"]
        self._given: npt.NDArray[Any] | None = None
        self._answer: npt.NDArray[Any] | None = None

    def get_input_details(self) -> list[dict[str, Any]]:
        """Of each input: index, name, shape, dtype and quantization_parameters."""
        return self._inputs

    def get_output_details(self) -> list[dict[str, Any]]:
        """Of each output: index, name, shape, dtype and quantization_parameters."""
        return self._outputs

    def set_tensor(self, index: int, value: npt.NDArray[Any]) -> None:
        """Give the input of the next :meth:`invoke`; ``index`` is the only input's."""
        del index
        self._given = np.ascontiguousarray(value)

    def invoke(self) -> None:
        """Run the model.

        Raises:
            ArtefactError: The process ended or gave no answer in time.
            RuntimeError: No input was given.
        """
        if self._given is None:
            raise RuntimeError("no input was given")
        detail = self._outputs[0]
        size = detail["dtype"].itemsize * math.prod(detail["shape"])
        content = self._ask(self._given.tobytes(), size)
        self._answer = np.frombuffer(content, detail["dtype"]).reshape(detail["shape"])

    def get_tensor(self, index: int) -> npt.NDArray[Any]:
        """The output of the last :meth:`invoke`; ``index`` is the only output's.

        Raises:
            RuntimeError: Nothing was run.
        """
        del index
        if self._answer is None:
            raise RuntimeError("nothing was run")
        return self._answer

    def close(self) -> None:
        """End the process."""
        self._finalizer()

    def partitions(self) -> PartitionReport:
        """How XNNPACK divided the model there.

        Raises:
            MissingExtraError: ai-edge-litert is not installed, which the converters stand on.
        """
        from evit_converters.tflite import partition_report

        return partition_report(self._nodes, {int(detail["index"]) for detail in self._outputs})

    def _ask(self, content: bytes, size: int | None) -> bytes:
        """Send, and wait for an answer of so many bytes, or for a line, for as long as is allowed."""
        source, target = self._process.stdout, self._process.stdin
        if source is None or target is None:  # never, but mypy cannot know that both are pipes
            raise RuntimeError("the process has no pipes")
        watch = threading.Timer(self._limit_s, self._process.kill)
        watch.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # the process ended; what it said comes below
                target.write(content)
                target.flush()
            answer = source.readline() if size is None else source.read(size)
        finally:
            late = not watch.is_alive()
            watch.cancel()
        if len(answer) != size if size is not None else not answer.endswith(b"\n"):
            raise ArtefactError(f"{self._path} failed on arm64: {self._reason(late)}")
        return answer

    def _reason(self, late: bool) -> str:
        status = self._process.wait()
        if late:
            return f"no answer in {self._limit_s:g} s"
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").split("\n")
        told = [line.strip() for line in lines if line.strip() and not line.startswith(("INFO", "WARNING"))]
        return told[-1] if told else f"the emulator ended with status {status}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ArtefactError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def _detail(entry: dict[str, Any]) -> dict[str, Any]:
    quantization = {
        "scales": np.array(entry.pop("scales"), np.float32),
        "zero_points": np.array(entry.pop("zero_points"), np.int32),
    }
    return {**entry, "dtype": np.dtype(entry["dtype"]), "quantization_parameters": quantization}


def _end(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.kill()
    process.wait()
    log.close()
