"""Operators where int8 costs most and gains least: the residual stream, and what scores the classes.

An int8 result has 256 steps over the range of all photos. In a branch its rounding is scaled down with the branch;
in the stream that all branches are added to, and in the scores, it stays. Additions, depthwise convolutions in the
stream, pooling and the classifier are a small part of a network's arithmetic, and on the shipped model most of
int8's noise: SQNR at the output is 16 dB with all of them in int8, 24 dB with the scores in float, and 27 dB with
the stream in float as well, at the same speed within 2 % (M0 and M5, x86-64).
"""

from __future__ import annotations

from typing import Any

from evit_converters.tflite.graph import Graph
from evit_converters.tflite.placement import WEIGHTED_INT8

# Between the classifier and the output, such as the softmax.
_PASSED = frozenset({"SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "RESHAPE", "SQUEEZE", "MEAN", "ADD", "MUL"})
_POOLS = frozenset({"MEAN", "AVERAGE_POOL_2D"})
# Between the pooling and the classifier.
_FLATTENED = frozenset({"RESHAPE", "SQUEEZE"})


def delicate_operators(model_bytes: bytes) -> list[str]:
    """Names of the operators of the residual stream and of the scores, in execution order.

    Args:
        model_bytes: A float model.

    Returns:
        Names of their first output tensors.

    Raises:
        ModelFileError: The bytes are no TFLite model with one subgraph.
    """
    graph = Graph(model_bytes)
    found = _scores(graph) | _stream(graph)
    return [name for name in (graph.name(tensor) for tensor in graph.activations()) if name in found]


def score_operators(model_bytes: bytes) -> list[str]:
    """Names of the operators with weights from which the outputs follow, and of the pooling before them.

    Args:
        model_bytes: A float model.

    Returns:
        Names of their first output tensors, in execution order. Pooling counts where nothing but a change of shape
        lies between it and the classifier.

    Raises:
        ModelFileError: The bytes are no TFLite model with one subgraph.
    """
    graph = Graph(model_bytes)
    found = _scores(graph)
    return [name for name in (graph.name(tensor) for tensor in graph.activations()) if name in found]


def _scores(graph: Graph) -> set[str]:
    producers, waiting, found = graph.producers(), list(graph.outputs), set()
    while waiting:
        operator = producers.get(waiting.pop())
        if operator is None:
            continue
        if graph.kind(operator) in WEIGHTED_INT8:
            found.add(_name(graph, operator))
            found |= _pooling(graph, producers.get(int(operator.inputs[0])), producers)
        elif graph.kind(operator) in _PASSED:
            waiting += graph.data_inputs(operator)
    return found


def _pooling(graph: Graph, operator: Any, producers: dict[int, Any]) -> set[str]:
    """Name of the pooling that an operator is, or passes on."""
    while operator is not None and graph.kind(operator) in _FLATTENED:
        operator = producers.get(int(operator.inputs[0]))
    return {_name(graph, operator)} if operator is not None and graph.kind(operator) in _POOLS else set()


def _stream(graph: Graph) -> set[str]:
    """Additions of two planes, and depthwise convolutions that read their sums or make their operands."""
    sums = {int(op.outputs[0]): op for op in graph.operators if _adds_planes(graph, op)}
    operands = {tensor for op in sums.values() for tensor in graph.data_inputs(op)}
    found = set(sums)
    for operator in graph.operators:
        output = int(operator.outputs[0])
        if graph.kind(operator) == "DEPTHWISE_CONV_2D" and (
            output in operands or int(operator.inputs[0]) in found
        ):
            found.add(output)
    return {graph.name(tensor) for tensor in found}


def _adds_planes(graph: Graph, operator: Any) -> bool:
    shapes = [graph.shape(tensor) for tensor in graph.data_inputs(operator)]
    return (
        graph.kind(operator) == "ADD"
        and len(shapes) == 2
        and shapes[0] == shapes[1]
        and len(shapes[0]) == 4
        and graph.dtype(int(operator.outputs[0])) == "FLOAT32"
    )


def _name(graph: Graph, operator: Any) -> str:
    return graph.name(int(operator.outputs[0]))
