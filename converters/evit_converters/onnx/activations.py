"""Every value that a float model computes for an image: what calibration takes its ranges from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_converters.checks import first_line
from evit_converters.errors import ModelFileError
from evit_converters.onnx.graph import inferred, serialized
from evit_converters.onnx.library import library
from evit_converters.onnx.quantization import float_values

Float32Array = npt.NDArray[np.float32]
_ERRORS_ONLY = 3


def activation_runner(
    model_bytes: bytes, *, num_threads: int = 2
) -> Callable[[npt.NDArray[Any]], dict[str, Float32Array]]:
    """Prepare a model for looking at all of its float activations.

    Args:
        model_bytes: A float .onnx with one input.
        num_threads: Threads of ONNX Runtime.

    Returns:
        A function from one input, of the model's shape and dtype, to all float activations by name, in execution
        order. The arrays belong to the caller. The function raises ModelFileError if the runtime fails.

    Raises:
        ModelFileError: The bytes are no such model.
    """
    model = inferred(model_bytes)
    if len(model.graph.input) != 1:
        raise ModelFileError(f"the model has {len(model.graph.input)} inputs; one is needed")
    names = list(float_values(model))
    known = {value.name: value for value in model.graph.value_info}
    shown = {value.name for value in model.graph.output}
    model.graph.output.extend(known[name] for name in names if name not in shown)
    session = _session(serialized(model), num_threads)
    entrance = model.graph.input[0].name

    def run(image: npt.NDArray[Any]) -> dict[str, Float32Array]:
        try:
            return dict(zip(names, session.run(names, {entrance: image}), strict=True))
        except Exception as exc:  # ONNX Runtime's own exceptions have no common base
            raise ModelFileError(f"ONNX Runtime cannot run the model: {first_line(exc)}") from exc

    return run


def _session(model_bytes: bytes, num_threads: int) -> Any:
    runtime = library("onnxruntime")
    runtime.disable_telemetry_events()  # its Windows builds send them by default
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = num_threads, _ERRORS_ONLY
    try:
        return runtime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # ONNX Runtime's own exceptions have no common base
        raise ModelFileError(f"ONNX Runtime cannot load the model: {first_line(exc)}") from exc
