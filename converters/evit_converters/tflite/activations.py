"""Every value that a float model computes for an image: what calibration takes its ranges from."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from evit_converters.errors import ModelFileError
from evit_converters.tflite.graph import NUMPY_TYPES, Graph

Float32Array = npt.NDArray[np.float32]


def activation_runner(
    model_bytes: bytes, *, num_threads: int = 2
) -> Callable[[npt.NDArray[Any]], dict[str, Float32Array]]:
    """Prepare a model for looking at all of its float activations.

    The model runs on LiteRT's own kernels, since a delegate keeps intermediate values to itself: several times
    slower than otherwise, and every activation takes memory at once.

    Args:
        model_bytes: A float .tflite with one input.
        num_threads: Threads of the interpreter.

    Returns:
        A function from one input, of the model's shape and dtype (uint8 (1, H, W, 3) for an artefact), to all
        float activations by tensor name, the graph's own float inputs and outputs included. The arrays belong
        to the caller. The function raises ModelFileError for an input of another shape or dtype, or if the
        runtime fails.

    Raises:
        ModelFileError: The bytes are no such model.
    """
    graph = Graph(model_bytes)
    if len(graph.inputs) != 1:
        raise ModelFileError(f"the model has {len(graph.inputs)} inputs; one is needed")
    entrance = graph.inputs[0]
    shape, dtype = graph.shape(entrance), np.dtype(NUMPY_TYPES[graph.dtype(entrance)])
    wanted = {graph.name(t): t for t in graph.activations() if graph.dtype(t) == "FLOAT32"}
    interpreter = _interpreter(model_bytes, num_threads)

    def run(image: npt.NDArray[Any]) -> dict[str, Float32Array]:
        if image.shape != shape or image.dtype != dtype:
            raise ModelFileError(f"input {image.dtype} {image.shape} given; the model takes {dtype} {shape}")
        try:
            interpreter.set_tensor(entrance, image)
            interpreter.invoke()
            return {name: interpreter.get_tensor(tensor) for name, tensor in wanted.items()}
        except (RuntimeError, ValueError) as exc:
            raise ModelFileError(f"LiteRT cannot run the model: {exc}") from exc

    return run


def _interpreter(model_bytes: bytes, num_threads: int) -> Any:
    try:
        with warnings.catch_warnings():
            # It warns that keeping all tensors takes memory, which is what is asked for here.
            warnings.simplefilter("ignore")
            interpreter = Interpreter(
                model_content=model_bytes,
                num_threads=num_threads,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as exc:
        raise ModelFileError(f"LiteRT cannot load the model: {exc}") from exc
    return interpreter
