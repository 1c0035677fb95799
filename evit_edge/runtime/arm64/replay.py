"""Runs in the root, under the emulator: a model and pictures in on stdin, its answers out on stdout.

Numpy, the runtimes and the standard library are all there is, and evit_edge is not. The protocol, in order:
a line of JSON ``{"module": M, "size": N, "threads": T, "marks": [A, B]}`` and N bytes of the model; back comes a
line of JSON that describes it; then for each input tensor's bytes the output tensor's bytes, until stdin ends.
System calls of the numbers A and B come before and after each inference; with null for marks there are none.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

import numpy as np


def _described(detail: dict[str, Any]) -> dict[str, Any]:
    parameters = detail["quantization_parameters"]
    return {
        "index": int(detail["index"]),
        "name": str(detail["name"]),
        "shape": [int(n) for n in detail["shape"]],
        "dtype": np.dtype(detail["dtype"]).name,
        "scales": [float(value) for value in parameters["scales"]],
        "zero_points": [int(value) for value in parameters["zero_points"]],
    }


def _description(interpreter: Any) -> dict[str, Any]:
    nodes = [
        {
            "op_name": str(node["op_name"]),
            "inputs": [int(n) for n in node["inputs"]],
            "outputs": [int(n) for n in node["outputs"]],
        }
        for node in interpreter._get_ops_details()
    ]
    return {
        "inputs": [_described(detail) for detail in interpreter.get_input_details()],
        "outputs": [_described(detail) for detail in interpreter.get_output_details()],
        "nodes": nodes,
        "machine": os.uname().machine,
    }


def _write(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
    stream.flush()


def _marked(invoke: Callable[[], None], marks: list[int] | None) -> Callable[[], None]:
    """The inference between two system calls that the emulator sees and Linux does not know."""
    if marks is None:
        return invoke
    start, stop = (partial(ctypes.CDLL(None).syscall, ctypes.c_long(number)) for number in marks)

    def run() -> None:
        start()
        invoke()
        stop()

    return run


def _serve(source: BinaryIO, target: BinaryIO) -> None:
    header = json.loads(source.readline())
    module = importlib.import_module(header["module"])
    interpreter = module.Interpreter(model_content=source.read(header["size"]), num_threads=header["threads"])
    interpreter.allocate_tensors()
    description = _description(interpreter)
    _write(target, (json.dumps(description) + "\n").encode())
    invoke = _marked(interpreter.invoke, header["marks"])
    given, asked = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    dtype, shape = np.dtype(given["dtype"]), tuple(int(n) for n in given["shape"])
    size = dtype.itemsize * int(np.prod(shape))
    while len(content := source.read(size)) == size:
        interpreter.set_tensor(given["index"], np.frombuffer(content, dtype).reshape(shape))
        invoke()
        _write(target, np.ascontiguousarray(interpreter.get_tensor(asked["index"])).tobytes())


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the runtime prints must not end up among the answers
    _serve(sys.stdin.buffer, answers)
