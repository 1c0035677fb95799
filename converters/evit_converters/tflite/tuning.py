"""What is faster in float on this very machine: by measurement, not by rule.

int8 kernels are not faster everywhere: depthwise convolutions, for one, are slower than float's on x86 and faster
on Arm. Each kind of operator that int8 changes is put into float as a whole, and stays there if the whole model,
its conversions included, gets faster: each time that both are loaded anew, since where weights lie in memory
changes a model's time by several per cent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ai_edge_litert.interpreter import Interpreter

from evit_converters.errors import ModelFileError
from evit_converters.tflite.modes import Precision, QuantizableOperator, Quantization
from evit_converters.tflite.partitioning import partitions
from evit_converters.tflite.quantization import quantizable_operators, quantize

LEAST_GAIN = 0.02
"""Less than this share of the time is not told from chance."""
LOADS, ROUNDS = 4, 40


def faster_in_float(
    model_bytes: bytes,
    ranges: Mapping[str, tuple[float, float]],
    *,
    exempt: Mapping[str, Precision] | None = None,
    num_threads: int = 1,
) -> dict[str, Precision]:
    """Find the kinds of operator that this machine computes faster in float.

    Takes about a minute for a large model: each kind costs a quantization and 320 inferences.

    Args:
        model_bytes: A float model.
        ranges: Minimum and maximum of the activations, by tensor name.
        exempt: Operators that are not int8 for other reasons.
        num_threads: Threads of the interpreter that is timed.

    Returns:
        ``exempt`` and the operators of all kinds found, for :func:`~evit_converters.tflite.quantize`.

    Raises:
        QuantizationError: The ranges are not the model's, or it cannot be quantized.
        ModelFileError: The bytes are no float model, or the runtime cannot run what was made of it.
    """
    chosen = dict(exempt or {})
    best = quantize(model_bytes, Quantization.INT8, ranges, exempt=chosen)
    for members in _by_kind(quantizable_operators(model_bytes)):
        trial = chosen | {member.name: Precision.FLOAT for member in members if member.name not in chosen}
        model = quantize(model_bytes, Quantization.INT8, ranges, exempt=trial)
        if model == best or partitions(model).partitions > partitions(best).partitions:
            continue
        if _faster(model, best, num_threads):
            chosen, best = trial, model
    return chosen


def _by_kind(operators: list[QuantizableOperator]) -> list[list[QuantizableOperator]]:
    """Operators of each kind, the kinds by name."""
    kinds = sorted({operator.kind for operator in operators})
    return [[operator for operator in operators if operator.kind == kind] for kind in kinds]


def _faster(model: bytes, other: bytes, num_threads: int) -> bool:
    """Whether a model is the faster each time that both are loaded and run in turns.

    Raises:
        ModelFileError: The runtime cannot run a model.
    """
    try:
        for _ in range(LOADS):
            model_s, other_s = _in_turns([_loaded(content, num_threads) for content in (model, other)])
            if model_s > (1 - LEAST_GAIN) * other_s:
                return False
    except (RuntimeError, ValueError) as exc:
        raise ModelFileError(f"LiteRT cannot run the model: {exc}") from exc
    return True


def _in_turns(interpreters: list[Any]) -> list[float]:
    """Least seconds of one inference of each."""
    best = [float("inf")] * len(interpreters)
    for _ in range(ROUNDS):
        for place, interpreter in enumerate(interpreters):
            start = time.perf_counter()
            interpreter.invoke()
            best[place] = min(best[place], time.perf_counter() - start)
    return best


def _loaded(model: bytes, num_threads: int) -> Any:
    interpreter = Interpreter(model_content=model, num_threads=num_threads)
    interpreter.allocate_tensors()
    interpreter.invoke()
    return interpreter
