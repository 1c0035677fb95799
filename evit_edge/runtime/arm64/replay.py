"""Runs in the root, under the emulator: a model and pictures in on stdin, its answers out on stdout.

Numpy, the runtimes and the standard library are all there is, and evit_edge is not. The protocol, in order:
a line of JSON ``{"module": M, "size": N, "threads": T}`` and N bytes of the model; back comes a line of JSON that
describes it; then for each input tensor's bytes the output tensor's bytes, until stdin ends.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
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


def _serve(source: BinaryIO, target: BinaryIO) -> None:
    header = json.loads(source.readline())
    module = importlib.import_module(header["module"])
    interpreter = module.Interpreter(model_content=source.read(header["size"]), num_threads=header["threads"])
    interpreter.allocate_tensors()
    description = _description(interpreter)
    _write(target, (json.dumps(description) + "\n").encode())
    given, asked = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    dtype, shape = np.dtype(given["dtype"]), tuple(int(n) for n in given["shape"])
    size = dtype.itemsize * int(np.prod(shape))
    while len(content := source.read(size)) == size:
        interpreter.set_tensor(given["index"], np.frombuffer(content, dtype).reshape(shape))
        interpreter.invoke()
        _write(target, np.ascontiguousarray(interpreter.get_tensor(asked["index"])).tobytes())


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the runtime prints must not end up among the answers
    _serve(sys.stdin.buffer, answers)
