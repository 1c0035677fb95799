"""Cutting a graph into pieces, each a model of its own, so that each can be run and timed by itself.

Run one after the other, each fed with what the ones before it gave, the pieces compute what the whole computes.
Operators that read constants alone (the widening of float16 weights) are no work at inference: a runtime does it
once, at loading. They come along, repeated, with every piece that reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from evit_converters.errors import ModelFileError
from evit_converters.tflite.graph import Graph

PADDING = frozenset({"PAD", "PADV2"})
PADDED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
STATEFUL = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"})
SCHEMA_VERSION = 3


@dataclass(frozen=True)
class Piece:
    """A part of a graph.

    Attributes:
        content: A .tflite file's content. Inputs and outputs are in the order of the two fields below.
        places: Its operators, by their number in the whole's execution order, without those that came along.
        inputs: What it reads, by the tensors' numbers in the whole.
        outputs: What it computes for others, likewise.
    """

    content: bytes
    places: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def single_operators(graph: Graph) -> list[tuple[int, ...]]:
    """The finest division that makes sense: one operator a piece, but padding together with its convolution.

    A delegate makes one operator of padding and a convolution after it; cut apart, the padding would be a copy
    that the whole does not make.

    Returns:
        Places of the operators of each piece, in execution order; operators on constants alone are in none.

    Raises:
        ModelFileError: The graph keeps state between inferences, so that pieces cannot stand for it.
    """
    stateful = sorted({graph.kind(operator) for operator in graph.operators} & STATEFUL)
    if stateful:
        raise ModelFileError(f"a graph with state ({', '.join(stateful)}); pieces of it cannot run alone")
    constant = _computed_at_loading(graph)
    places = {id(operator): place for place, operator in enumerate(graph.operators)}
    readers = graph.consumers()
    joined: dict[int, list[int]] = {}  # a convolution's place -> its paddings
    for place, operator in enumerate(graph.operators):
        read_by = readers.get(int(operator.outputs[0]), [])
        if graph.kind(operator) in PADDING and len(read_by) == 1 and graph.kind(read_by[0]) in PADDED:
            joined.setdefault(places[id(read_by[0])], []).append(place)
    taken = {place for group in joined.values() for place in group} | constant
    return [(*joined.get(place, ()), place) for place in range(len(graph.operators)) if place not in taken]


def cut(graph: Graph, groups: Sequence[Sequence[int]]) -> list[Piece]:
    """Make a model of each group of operators.

    Args:
        graph: The whole.
        groups: Places of the operators of each piece, each operator in one of them at most.

    Returns:
        The pieces, in the order of the groups.
    """
    constant = _computed_at_loading(graph)
    owner = {place: number for number, group in enumerate(groups) for place in group}
    readers: dict[int, set[int | None]] = {}
    for place, operator in enumerate(graph.operators):
        for tensor in operator.inputs:
            readers.setdefault(int(tensor), set()).add(owner.get(place))
    answers = set(graph.outputs)
    pieces = []
    for number, group in enumerate(groups):
        made = [int(t) for place in group for t in graph.operators[place].outputs]
        outputs = tuple(t for t in made if t in answers or readers.get(t, set()) - {number})
        pieces.append(_piece(graph, tuple(group), outputs, constant))
    return pieces


def _computed_at_loading(graph: Graph) -> set[int]:
    """Places of operators whose inputs are constant or made by such operators."""
    known: set[int] = set()
    places: set[int] = set()
    for place, operator in enumerate(graph.operators):
        if all(tensor in known for tensor in graph.data_inputs(operator)) and len(operator.inputs):
            places.add(place)
            known.update(int(t) for t in operator.outputs)
    return places


def _with_ancestors(graph: Graph, group: Iterable[int], constant: set[int]) -> list[int]:
    """The group and the operators on constants that it reads from, in execution order."""
    makers = {int(t): place for place in constant for t in graph.operators[place].outputs}
    chosen: set[int] = set()
    waiting = list(group)
    while waiting:
        place = waiting.pop()
        chosen.add(place)
        waiting += [makers[int(t)] for t in graph.operators[place].inputs if int(t) in makers]
    return sorted(chosen)


def _piece(graph: Graph, group: tuple[int, ...], outputs: tuple[int, ...], constant: set[int]) -> Piece:
    operators = [graph.operators[place] for place in _with_ancestors(graph, group, constant)]
    made = {int(t) for operator in operators for t in operator.outputs}
    read = dict.fromkeys(t for operator in operators for t in graph.data_inputs(operator))
    inputs = tuple(t for t in read if t not in made)
    model, main = schema.ModelT(), schema.SubGraphT()
    model.version, model.operatorCodes, model.subgraphs = SCHEMA_VERSION, graph.model.operatorCodes, [main]
    model.buffers, main.tensors = [schema.BufferT()], []
    numbers: dict[int, int] = {}

    def number(tensor: int) -> int:
        if tensor >= 0 and tensor not in numbers:
            numbers[tensor] = len(main.tensors)
            main.tensors.append(_moved(graph, tensor, model.buffers))
        return numbers.get(tensor, tensor)  # -1: an input that is absent

    main.inputs = [number(t) for t in inputs]
    main.operators = [_renumbered(operator, number) for operator in operators]
    main.outputs = [number(t) for t in outputs]
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return Piece(content, group, inputs, outputs)


def _moved(graph: Graph, tensor: int, buffers: list[Any]) -> Any:
    twin = copy(graph.tensors[tensor])
    if graph.is_constant(tensor):
        buffers.append(graph.model.buffers[graph.tensors[tensor].buffer])
        twin.buffer = len(buffers) - 1
    else:
        twin.buffer = 0
    return twin


def _renumbered(operator: Any, number: Any) -> Any:
    twin = copy(operator)
    twin.inputs = [number(int(t)) for t in operator.inputs]
    twin.outputs = [number(int(t)) for t in operator.outputs]
    return twin


def smallest_graph() -> bytes:
    """A model that adds a number to itself: what calling an interpreter costs."""
    model, main, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = schema.BuiltinOperator.ADD, 0, 1
    model.version, model.operatorCodes, model.subgraphs = SCHEMA_VERSION, [code], [main]
    model.buffers, main.tensors = [schema.BufferT()], [schema.TensorT(), schema.TensorT()]
    for number, tensor in enumerate(main.tensors):
        tensor.shape, tensor.type = np.array([1, 1], np.int32), schema.TensorType.FLOAT32
        tensor.buffer, tensor.name = 0, f"number_{number}".encode()
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 0], [1]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    main.operators, main.inputs, main.outputs = [operator], [0], [1]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
