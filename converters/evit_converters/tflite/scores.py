"""The operator that scores the classes: where int8 costs most and gains least.

An int8 result has 256 steps over the range of all logits of all photos, so close classes get equal scores. On the
shipped model rounding the classifier makes four fifths of int8's noise at the output, and saves one part in a
thousand of its arithmetic.
"""

from __future__ import annotations

from evit_converters.tflite.graph import Graph
from evit_converters.tflite.placement import WEIGHTED_INT8

# Between the classifier and the output, such as the softmax.
_PASSED = frozenset({"SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "RESHAPE", "SQUEEZE", "MEAN", "ADD", "MUL"})


def score_operators(model_bytes: bytes) -> list[str]:
    """Names of the operators with weights from which a float model's outputs follow without another such operator.

    Args:
        model_bytes: A float model.

    Returns:
        Names of their first output tensors, in execution order.

    Raises:
        ModelFileError: The bytes are no TFLite model with one subgraph.
    """
    graph = Graph(model_bytes)
    producers, waiting, found = graph.producers(), list(graph.outputs), set()
    while waiting:
        operator = producers.get(waiting.pop())
        if operator is None:
            continue
        if graph.kind(operator) in WEIGHTED_INT8:
            found.add(graph.name(int(operator.outputs[0])))
        elif graph.kind(operator) in _PASSED:
            waiting += graph.data_inputs(operator)
    names = (graph.name(tensor) for tensor in graph.activations())
    return [name for name in names if name in found]
