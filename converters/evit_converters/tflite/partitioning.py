"""How a runtime's XNNPACK delegate divides a model: partitions, and what stays on native kernels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ai_edge_litert.interpreter import Interpreter

from evit_converters.errors import ModelFileError


@dataclass(frozen=True)
class PartitionReport:
    """The delegate's share of a model.

    Attributes:
        partitions: Subgraphs that XNNPACK runs; 1 is best, since each border costs a hand-over.
        native_ops: Kinds of the operators that run on native kernels, in execution order.
    """

    partitions: int
    native_ops: tuple[str, ...]

    def __str__(self) -> str:
        """As a reader wants it: ``1 partition, native: CAST``."""
        counts = Counter(self.native_ops)
        native = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in counts.items()) or "none"
        return f"{self.partitions} partition{'s' if self.partitions != 1 else ''}, native: {native}"


def partitions(model_bytes: bytes, num_threads: int = 1) -> PartitionReport:
    """Load a model with XNNPACK and report how it was divided.

    Args:
        model_bytes: A .tflite file's content.
        num_threads: Threads of the interpreter; does not change the division.

    Raises:
        ModelFileError: The runtime cannot load the model.
    """
    try:
        interpreter = Interpreter(model_content=model_bytes, num_threads=num_threads)
        interpreter.allocate_tensors()
        nodes = interpreter._get_ops_details()
    except (RuntimeError, ValueError) as exc:
        raise ModelFileError(f"LiteRT cannot load the model: {exc}") from exc
    # The list holds the original nodes and one DELEGATE node for each partition. A node that a partition
    # replaced stays in the list: its outputs are the partition's, or are read by replaced nodes alone.
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    produced = {int(t) for node in delegates for t in node["outputs"]}
    wanted = {int(t) for node in delegates for t in node["inputs"]}
    wanted |= {int(detail["index"]) for detail in interpreter.get_output_details()}
    native: list[str] = []
    for node in reversed([node for node in nodes if node["op_name"] != "DELEGATE"]):
        outputs = {int(t) for t in node["outputs"]}
        if outputs & wanted and not outputs & produced:
            native.append(node["op_name"])
            wanted |= {int(t) for t in node["inputs"]}
    return PartitionReport(len(delegates), tuple(reversed(native)))
