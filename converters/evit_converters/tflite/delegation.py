"""Placement by what the runtime really takes: build, ask, leave in float what was refused, build again.

:mod:`evit_converters.tflite.placement` knows what the runtime is known to take. Where that knowledge is right, the
first build is the last. Where it is not, because a graph uses an operator in a way or of a kind that nobody
tried, the delegate's own answer corrects it.
"""

from __future__ import annotations

from collections.abc import Callable

from evit_converters.tflite.graph import Graph
from evit_converters.tflite.partitioning import PartitionReport, partitions

MOST_ROUNDS = 5
CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})

Build = Callable[[frozenset[int]], bytes]


def settled(graph: Graph, build: Build, barred: frozenset[int]) -> bytes:
    """Build a model that is divided as little as its operators allow.

    Args:
        graph: The float graph.
        build: Makes the int8 model, given the places of the operators that shall not be int8.
        barred: Those that shall not be int8 for other reasons.

    Returns:
        Of the models built, the first of those with the fewest partitions.

    Raises:
        ModelFileError: The runtime cannot load a model that was built.
    """
    places = {graph.name(int(operator.outputs[0])): place for place, operator in enumerate(graph.operators)}
    models: list[tuple[tuple[int, int], bytes]] = []
    for _ in range(MOST_ROUNDS):
        model = build(barred)
        report = partitions(model)
        models.append((_division(report), model))
        refused = _refused(Graph(model), report, places) - barred
        if not refused:
            break
        barred |= refused
    return min(models, key=lambda entry: entry[0])[1]


def _division(report: PartitionReport) -> tuple[int, int]:
    """How badly a model is divided, the best first; one that the delegate does not take at all is the worst."""
    return (report.partitions or len(report.native_ops) + 1, len(report.native_ops))


def _refused(model: Graph, report: PartitionReport, places: dict[str, int]) -> frozenset[int]:
    """Places in the float graph of operators that are integer in the model and that the delegate did not take.

    A change from one int8 scale to another that is refused, since the scales lie too far apart, is laid to the
    operators that read its result: without them it would not be there.
    """
    tensors = {model.name(tensor): tensor for tensor in range(len(model.tensors))}
    readers = model.consumers()
    refused = set()
    for native in report.native:
        tensor = tensors.get(native.name)
        if tensor is None or model.dtype(tensor) not in {"INT8", "INT16"}:
            continue
        guilty = [model.name(int(op.outputs[0])) for op in readers.get(tensor, [])]
        for name in guilty if native.kind in CONVERSIONS else [native.name]:
            refused.add(places.get(name, places.get(name.removesuffix("_quantized"), -1)))
    return frozenset(refused - {-1})
