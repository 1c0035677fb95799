"""Rewrites of an exported float graph: what the exporter leaves that a runtime or a reader stumbles over.

Each rewrite keeps what the graph computes. They are found by pattern, never by name.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from evit_converters.tflite.graph import Graph

_MOST_DIMENSIONS, _FEW_VALUES = 4, 4096


def rewrite(model_bytes: bytes) -> bytes:
    """Apply all rewrites to an exported float model.

    Args:
        model_bytes: The exporter's .tflite.

    Returns:
        A .tflite with the same inputs, outputs and values.

    Raises:
        ModelFileError: The bytes are no TFLite model with one subgraph.
    """
    graph = Graph(model_bytes)
    computed_products_to_batch_matmul(graph)
    padding_before_max_pool_to_zero(graph)
    every_nth_to_convolution(graph)
    small_broadcasts_to_products(graph)
    name_tensors(graph)
    return graph.to_bytes()


def computed_products_to_batch_matmul(graph: Graph) -> None:
    """FULLY_CONNECTED whose second operand is computed becomes BATCH_MATMUL with ``adj_y``.

    The converter writes a product ``q @ k^T`` of batch 1 as FULLY_CONNECTED(q, k), with a bias if all that is
    added to the product is one number. XNNPACK takes that operation with constant weights alone, so each such
    product would end a partition. A bias becomes an ADD of its own, which takes the activation along.
    """
    operators: list[Any] = []
    for operator in graph.operators:
        operators.append(operator)
        if graph.kind(operator) != "FULLY_CONNECTED" or not _is_product(graph, operator):
            continue
        left, right, *bias = (int(i) for i in operator.inputs)
        if bias and bias[0] >= 0:
            operators.append(_split_off_bias(graph, operator, bias[0]))
        operator.inputs = [left, right]
        options = schema.BatchMatMulOptionsT()
        options.adjX, options.adjY, options.asymmetricQuantizeInputs = False, True, False
        _become(graph, operator, "BATCH_MATMUL", schema.BuiltinOptions.BatchMatMulOptions, options)
    graph.model.subgraphs[0].operators = operators


def _is_product(graph: Graph, operator: Any) -> bool:
    """Two computed operands, rows kept apart; an activation only where a bias makes room for it."""
    left, right, *bias = (int(i) for i in operator.inputs)
    if graph.is_constant(left) or graph.is_constant(right):
        return False
    rows = graph.shape(left)[:-1]
    biased = bool(bias) and bias[0] >= 0
    return (
        rows != ()
        and rows == graph.shape(int(operator.outputs[0]))[:-1]
        and (biased or operator.builtinOptions.fusedActivationFunction == 0)
    )


def _split_off_bias(graph: Graph, operator: Any, bias: int) -> Any:
    """An ADD that writes what ``operator`` wrote; ``operator`` writes a new tensor before it."""
    result = int(operator.outputs[0])
    product = copy(graph.tensors[result])
    graph.tensors.append(product)
    operator.outputs = [len(graph.tensors) - 1]
    add, options = schema.OperatorT(), schema.AddOptionsT()
    add.inputs, add.outputs = [len(graph.tensors) - 1, bias], [result]
    options.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
    _become(graph, add, "ADD", schema.BuiltinOptions.AddOptions, options)
    return add


def _become(graph: Graph, operator: Any, kind: str, options_type: int, options: Any) -> None:
    operator.opcodeIndex = graph.opcode(kind)
    operator.builtinOptionsType, operator.builtinOptions = options_type, options


def padding_before_max_pool_to_zero(graph: Graph) -> None:
    """PADV2 with the lowest value between a ReLU and MAX_POOL_2D becomes PAD with zeros.

    A maximum over values that are not negative does not see zeros. XNNPACK takes PAD, not PADV2, and an
    infinite value has no place in int8.
    """
    producers, consumers = graph.producers(), graph.consumers()
    for operator in graph.operators:
        if graph.kind(operator) != "PADV2":
            continue
        value = graph.constant(int(operator.inputs[2])) if graph.is_constant(int(operator.inputs[2])) else None
        producer = producers.get(int(operator.inputs[0]))
        readers = consumers.get(int(operator.outputs[0]), [])
        pooled = bool(readers) and all(graph.kind(reader) == "MAX_POOL_2D" for reader in readers)
        if value is None or producer is None or not pooled or not _never_negative(graph, producer):
            continue
        if float(value.max()) <= float(np.finfo(np.float32).min):
            operator.inputs = [int(i) for i in operator.inputs[:2]]
            _become(graph, operator, "PAD", schema.BuiltinOptions.PadOptions, schema.PadOptionsT())


def _never_negative(graph: Graph, operator: Any) -> bool:
    relus = (schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6)
    fused = getattr(operator.builtinOptions, "fusedActivationFunction", None)
    return graph.kind(operator) in {"RELU", "RELU6"} or fused in relus


def every_nth_to_convolution(graph: Graph) -> None:
    """STRIDED_SLICE that takes every n-th row or column becomes a depthwise convolution, 1x1, of ones.

    XNNPACK takes slices of stride 1 alone.
    """
    for operator in graph.operators:
        if graph.kind(operator) != "STRIDED_SLICE" or not _takes_every_nth(graph, operator):
            continue
        _, down, across, _ = (int(step) for step in graph.constant(int(operator.inputs[3])))
        source = int(operator.inputs[0])
        channels = graph.shape(source)[-1]
        options = schema.DepthwiseConv2DOptionsT()
        options.padding, options.strideH, options.strideW = schema.Padding.VALID, down, across
        options.depthMultiplier = options.dilationHFactor = options.dilationWFactor = 1
        ones = graph.store(np.ones((1, 1, 1, channels), np.float32))
        operator.inputs = [source, ones, graph.store(np.zeros(channels, np.float32))]
        _become(graph, operator, "DEPTHWISE_CONV_2D", schema.BuiltinOptions.DepthwiseConv2DOptions, options)


def _takes_every_nth(graph: Graph, operator: Any) -> bool:
    """Four axes of float, from the first element on, with a stride above 1 for rows or columns."""
    source, *bounds = (int(tensor) for tensor in operator.inputs)
    shape, options = graph.shape(source), operator.builtinOptions
    plain = options and not (options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask)
    if not plain or len(shape) != 4 or graph.dtype(source) != "FLOAT32" or graph.is_constant(source):
        return False
    if not all(graph.is_constant(bound) for bound in bounds):
        return False
    steps = [int(step) for step in graph.constant(bounds[2])]
    taken = tuple(-(-size // max(step, 1)) for size, step in zip(shape, steps, strict=True))
    begins = not graph.constant(bounds[0]).any() and min(steps) >= 1
    return (
        begins and steps[0] == steps[3] == 1 and max(steps) > 1 and graph.shape(int(operator.outputs[0])) == taken
    )


def small_broadcasts_to_products(graph: Graph) -> None:
    """BROADCAST_TO of float values to few becomes MUL by ones, which XNNPACK takes.

    The exporter writes group normalization with two of them for each.
    """
    for operator in graph.operators:
        source, result = int(operator.inputs[0]), int(operator.outputs[0])
        if graph.kind(operator) != "BROADCAST_TO" or graph.dtype(source) != "FLOAT32":
            continue
        shape = graph.shape(result)
        if graph.is_constant(source) or len(shape) > _MOST_DIMENSIONS or np.prod(shape) > _FEW_VALUES:
            continue
        options = schema.MulOptionsT()
        options.fusedActivationFunction = 0
        operator.inputs = [source, graph.store(np.ones(shape, np.float32))]
        _become(graph, operator, "MUL", schema.BuiltinOptions.MulOptions, options)


def name_tensors(graph: Graph) -> None:
    """Give every tensor a short name that is unique and says what computes it, such as ``conv_2d_17``.

    The exporter's names are paths of several hundred characters and need not be unique. The number is the
    operator's place in execution order, so that equal graphs get equal names: value ranges are kept under
    them. Inputs and outputs of the graph take their names from the signature where there is one.
    """
    names = {tensor: f"constant_{tensor}" for tensor in range(len(graph.tensors))}
    for place, operator in enumerate(graph.operators):
        for number, tensor in enumerate(operator.outputs):
            suffix = f"_{number}" if number else ""
            names[int(tensor)] = f"{graph.kind(operator).lower()}_{place}{suffix}"
    names |= {tensor: f"input_{i}" for i, tensor in enumerate(graph.inputs)}
    names |= {tensor: f"output_{i}" for i, tensor in enumerate(graph.outputs)}
    for tensor, name in names.items():
        graph.tensors[tensor].name = name.encode()
