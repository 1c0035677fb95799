"""The order of a TFLite graph's operators, and which graphs call which."""

from __future__ import annotations

from collections.abc import Sequence

from evit_converters.tflite.flat import Table
from evit_edge.errors import ArtefactError

# The field of an operator that holds its options, and of which kind of options which fields name a graph:
# Call, If, While, CallOnce; of StableHLO Reduce, Scatter, ReduceWindow, Sort, While, Composite.
_CALLS = {
    4: {16: (0,), 92: (0, 1), 93: (0, 1), 103: (0,)},
    12: {6: (1,), 7: (6,), 13: (5,), 14: (2,), 15: (0, 1), 21: (1,)},
}
_CASES = (12, 23)  # StableHLO Case: field 0 is a vector of graphs
_NONE = 2**32 - 1


def check_order(graph: Table, constant: Sequence[bool], where: str) -> None:
    """Refuse operators that read what nothing before them has made, or write to what is constant.

    Args:
        graph: Its tensors' and operators' numbers are in range.
        constant: For every tensor, whether it has data in the file.
        where: For messages.

    Raises:
        ArtefactError: There is one, or an input or output of the graph is such a tensor.
    """
    tensors, inputs, outputs = graph.tables(0), graph.ints(1), graph.ints(2)
    for number in (*inputs, *outputs):
        if not 0 <= number < len(tensors):
            raise ArtefactError(f"{where}an input or output is tensor {number}; there are {len(tensors)}")
    # 5: is_variable. Constants without any entry have no data either.
    made = {i for i, tensor in enumerate(tensors) if constant[i] or tensor.u8(5) or 0 in tensor.ints(0)}
    _require(made, constant, (), inputs, f"{where}the graph")
    for i, operator in enumerate(graph.tables(3)):
        _require(made, constant, operator.ints(1), operator.ints(2), f"{where}operator {i}")
    _require(made, constant, outputs, (), f"{where}the graph's output")


def _require(
    made: set[int], constant: Sequence[bool], reads: Sequence[int], writes: Sequence[int], who: str
) -> None:
    """Refuse what reads too early or writes to a constant; note what it makes."""
    for number in reads:
        if number >= 0 and number not in made:
            raise ArtefactError(f"{who} reads tensor {number}, which nothing before it makes")
    for number in writes:
        if constant[number]:
            raise ArtefactError(f"{who} writes to tensor {number}, which is a constant")
        made.add(number)


def check_calls(graphs: Sequence[Table]) -> None:
    """Refuse control flow into graphs that do not exist, or round in circles, which would never end.

    Raises:
        ArtefactError: There is such a call.
    """
    calls = [sorted({n for operator in graph.tables(3) for n in _called(operator)}) for graph in graphs]
    for number in (number for called in calls for number in called):
        if number >= len(graphs):
            raise ArtefactError(f"an operator calls graph {number}; there are {len(graphs)}")
    # Graphs that call none but such are taken away; what stays calls itself.
    left = {i: set(called) for i, called in enumerate(calls)}
    while ended := [i for i, called in left.items() if not called & left.keys()]:
        for i in ended:
            del left[i]
    if left:
        raise ArtefactError(f"graph {min(left)} calls itself, directly or through others")


def _called(operator: Table) -> list[int]:
    found = []
    for field, kinds in _CALLS.items():
        options, kind = operator.table(field), operator.u8(field - 1)
        if options is None:
            continue
        found += [options.u32(number) for number in kinds.get(kind, ())]
        if (field, kind) == _CASES:
            found += [number % 2**32 for number in options.ints(0)]
    return [number for number in found if number != _NONE]
