"""Which operators of a float graph run in int8 and which stay in float: the guess before the runtime is asked.

Three kinds of operator have no choice. One that is known to have no int8 kernel in XNNPACK stays in float, since
in int8 it would fall out of the partition. So does arithmetic with a stored operand, such as a mean to subtract:
stored in int8 it would lose digits, and XNNPACK refuses scales that lie far apart. One with weights that has an
int8 kernel goes to int8: that is what int8 is for. All others (additions, reshapes, slices ...) go where the whole
graph needs the fewest QUANTIZE and DEQUANTIZE between the two sides. That is a minimum cut: operators are nodes,
the forced ones are joined to source and sink, and a tensor whose producer and consumer fall on different sides
costs one conversion, however many consumers share it.

The guess need not be right: :mod:`evit_converters.tflite.delegation` corrects it by what the runtime says.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from itertools import count
from typing import Any

import networkx
from networkx import DiGraph

from evit_converters.tflite.graph import Graph


class Side(StrEnum):
    """Arithmetic of an operator."""

    INT8 = "int8"
    FLOAT = "float"
    EITHER = "either"


WEIGHTED_INT8 = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
# Other operators that XNNPACK's delegate takes in int8 with per-tensor activations (ai-edge-litert 2.3) and that
# ai-edge-quantizer can write. Left out for a measured refusal: SOFTMAX, RELU on its own, HARD_SWISH, GELU, RSQRT,
# SQRT, DIV, MAXIMUM, SQUARED_DIFFERENCE, AVERAGE_POOL_2D, and BATCH_MATMUL, which is taken with zero points of 0
# alone.
PLAIN_INT8 = frozenset(
    {
        "ADD",
        "CONCATENATION",
        "LOGISTIC",
        "MAX_POOL_2D",
        "MEAN",
        "MUL",
        "PAD",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "SLICE",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "STRIDED_SLICE",
        "SUB",
        "SUM",
        "TANH",
        "TRANSPOSE",
    }
)
# Operators that ai-edge-quantizer can write and nobody has tried: the runtime is asked.
UNTRIED_INT8 = frozenset(
    {
        "BROADCAST_TO",
        "GATHER",
        "GATHER_ND",
        "MIRROR_PAD",
        "PACK",
        "PADV2",
        "REDUCE_MIN",
        "RESIZE_NEAREST_NEIGHBOR",
        "SELECT_V2",
        "UNPACK",
    }
)

# Operators that stay in float where an operand is stored; ai-edge-quantizer fails on such concatenations.
JOINS = frozenset({"ADD", "CONCATENATION", "MUL", "SUB"})
# Operators that only move values: their int8 result is exact.
MOVES = frozenset(
    {"MAX_POOL_2D", "PAD", "RESHAPE", "SLICE", "SPACE_TO_DEPTH", "SPLIT", "STRIDED_SLICE", "TRANSPOSE"}
)
# Operators that cost what they move.
COPIES = MOVES | {"CONCATENATION"}

# A conversion costs about 0.3 us and 0.2 ns an element, moving an element in float instead of int8 about 0.35 ns
# (measured within whole models, x86-64). In units of 0.03 ns:
_CONVERSION = 10_000
_CONVERTED_ELEMENT = 7
_MOVED_ELEMENT = 12
# Arithmetic in int8 rounds once more; where all else is equal it stays in float.
_ROUNDING = 1


def float_operators(graph: Graph, barred: Collection[int] = ()) -> list[int]:
    """Places of the operators that stay in float, in execution order.

    Args:
        graph: A float graph.
        barred: Places of operators that shall not be int8, whatever they are.
    """
    network = _network(graph, frozenset(barred))
    _, (int8_side, _) = networkx.minimum_cut(network, "int8", "float")
    return [place for place in range(len(graph.operators)) if ("op", place) not in int8_side]


def permitted(graph: Graph, operator: Any) -> Side:
    """The side on which an operator has to be, or that it may be on either."""
    kind = graph.kind(operator)
    output = int(operator.outputs[0])
    if kind in WEIGHTED_INT8 and graph.is_constant(int(operator.inputs[1])):
        return Side.INT8
    if kind not in PLAIN_INT8 | UNTRIED_INT8 or graph.dtype(output) != "FLOAT32":
        return Side.FLOAT
    if kind in JOINS and any(graph.is_constant(int(tensor)) for tensor in operator.inputs):
        return Side.FLOAT
    return Side.EITHER


def _network(graph: Graph, barred: frozenset[int]) -> DiGraph[Any]:
    """The flow network: source ``int8``, sink ``float``, a node for each operator and helper nodes."""
    network: DiGraph[Any] = DiGraph()
    network.add_nodes_from(("int8", "float"))
    places = {id(operator): ("op", place) for place, operator in enumerate(graph.operators)}
    for operator in graph.operators:
        node = places[id(operator)]
        side = Side.FLOAT if node[1] in barred else permitted(graph, operator)
        if side is Side.INT8:
            network.add_edge("int8", node)  # without capacity: infinite
        elif side is Side.FLOAT:
            network.add_edge(node, "float")
        elif graph.kind(operator) in COPIES:
            network.add_edge("int8", node, capacity=_MOVED_ELEMENT * _elements(graph, int(operator.outputs[0])))
        else:
            network.add_edge(node, "float", capacity=_ROUNDING)
    _add_tensors(graph, network, places)
    return network


def _add_tensors(graph: Graph, network: DiGraph[Any], places: dict[int, tuple[str, int]]) -> None:
    """Charge one conversion for a tensor whose producer is on another side than any of its consumers."""
    producers, consumers, fresh = graph.producers(), graph.consumers(), count()
    for tensor in graph.activations():
        if graph.dtype(tensor) != "FLOAT32":
            continue
        # What the caller feeds and reads is float.
        source = places[id(producers[tensor])] if tensor in producers else "float"
        targets: list[Any] = [places[id(operator)] for operator in consumers.get(tensor, [])]
        targets += ["float"] if tensor in graph.outputs else []
        cost = _CONVERSION + _CONVERTED_ELEMENT * _elements(graph, tensor)
        dequantized, quantized = ("dequantized", next(fresh)), ("quantized", next(fresh))
        network.add_edge(source, dequantized, capacity=cost)
        network.add_edge(quantized, source, capacity=cost)
        for target in targets:
            network.add_edge(dequantized, target)
            network.add_edge(target, quantized)


def _elements(graph: Graph, tensor: int) -> int:
    product = 1
    for size in graph.shape(tensor):
        product *= size
    return product
