"""How a runtime's XNNPACK delegate divides a model: partitions, and what stays on native kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evit_converters.errors import ModelFileError


@dataclass(frozen=True)
class NativeOperator:
    """An operator that the delegate does not take.

    Attributes:
        kind: In the schema's spelling, such as ``SOFTMAX``.
        name: Of its first output tensor.
        divides: Whether it stands between two parts that the delegate takes, and so divides them.
    """

    kind: str
    name: str
    divides: bool


@dataclass(frozen=True)
class PartitionReport:
    """The delegate's share of a model.

    Attributes:
        partitions: Subgraphs that XNNPACK runs; 1 is best, since each border costs a hand-over.
        native_ops: Kinds of the operators that run on native kernels, in execution order.
        native: The same with their names.
    """

    partitions: int
    native_ops: tuple[str, ...]
    native: tuple[NativeOperator, ...] = ()

    @property
    def at_fault(self) -> tuple[NativeOperator, ...]:
        """What keeps the delegate from taking the model in one piece."""
        return tuple(operator for operator in self.native if operator.divides)

    def __str__(self) -> str:
        """As a reader wants it: ``1 partition, native: CAST``."""
        return (
            f"{self.partitions} partition{'s' if self.partitions != 1 else ''}, native: {counted(self.native_ops)}"
        )


def counted(kinds: tuple[str, ...]) -> str:
    """Kinds with how often they occur, such as ``2 CAST, PAD``."""
    return ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in Counter(kinds).items()) or "none"


def partitions(model_bytes: bytes, num_threads: int = 1) -> PartitionReport:
    """Load a model with XNNPACK and report how it was divided.

    Args:
        model_bytes: A .tflite file's content.
        num_threads: Threads of the interpreter; does not change the division.

    Raises:
        ModelFileError: The runtime cannot load the model.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=model_bytes, num_threads=num_threads)
        interpreter.allocate_tensors()
        nodes = interpreter._get_ops_details()
        names = {int(detail["index"]): str(detail["name"]) for detail in interpreter.get_tensor_details()}
    except (RuntimeError, ValueError) as exc:
        raise ModelFileError(f"LiteRT cannot load the model: {exc}") from exc
    return partition_report(nodes, {int(detail["index"]) for detail in interpreter.get_output_details()}, names)


def partition_report(
    nodes: list[Any], outputs: set[int], names: Mapping[int, str] | None = None
) -> PartitionReport:
    """Read the division off a runtime's own list.

    Args:
        nodes: What an interpreter's ``_get_ops_details`` gives after ``allocate_tensors``.
        outputs: Indices of the model's output tensors.
        names: Names of tensors by index, for the report; none are needed.
    """
    names = names or {}
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    native = _native(nodes, delegates, outputs)
    divides = _between(native, delegates)
    named = tuple(
        NativeOperator(node["op_name"], names.get(int(node["outputs"][0]), ""), divided)
        for node, divided in zip(native, divides, strict=True)
    )
    return PartitionReport(len(delegates), tuple(operator.kind for operator in named), named)


def _native(nodes: list[Any], delegates: list[Any], outputs: set[int]) -> list[Any]:
    """The nodes that no partition replaced, in execution order.

    The list holds the original nodes and one DELEGATE node for each partition. A node that a partition replaced
    stays in the list: its outputs are the partition's, or are read by replaced nodes alone.
    """
    produced = {int(t) for node in delegates for t in node["outputs"]}
    wanted = {int(t) for node in delegates for t in node["inputs"]} | outputs
    native = []
    for node in reversed([node for node in nodes if node["op_name"] != "DELEGATE"]):
        results = {int(t) for t in node["outputs"]}
        if results & wanted and not results & produced:
            native.append(node)
            wanted |= {int(t) for t in node["inputs"]}
    return native[::-1]


def _between(native: list[Any], delegates: list[Any]) -> list[bool]:
    """For each native node: whether it reads what a partition wrote and is read by one, maybe by way of others."""
    after = {int(t) for node in delegates for t in node["outputs"]}
    before = {int(t) for node in delegates for t in node["inputs"]}
    follows = []
    for node in native:
        follows.append(bool(after & {int(t) for t in node["inputs"]}))
        after |= {int(t) for t in node["outputs"]} if follows[-1] else set()
    leads = []
    for node in reversed(native):
        leads.append(bool(before & {int(t) for t in node["outputs"]}))
        before |= {int(t) for t in node["inputs"]} if leads[-1] else set()
    return [a and b for a, b in zip(follows, reversed(leads), strict=True)]
