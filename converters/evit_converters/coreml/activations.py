"""int8 activations: pairs of quantize and dequantize around what an int8 engine computes.

coremltools' two passes place the pairs around convolutions, linear layers, poolings and additions, and take
their scales from a table of ranges. It fills that table by running the model, which needs a Mac, and keeps the
range of the last sample only. Here the table comes from outside and its calibration is never called.

Imported only after :func:`evit_converters.coreml.library.coremltools`, which silences it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coremltools.converters.mil.mil.passes.defs.optimize_activation_quantization import (
    insert_suffix_quantize_dequantize_pair,
)
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig
from coremltools.optimize.coreml._quantization_passes import insert_prefix_quantize_dequantize_pair


class _Table(dict[str, dict[str, float]]):
    """Any range for any name, and which names were asked for."""

    def __missing__(self, name: str) -> dict[str, float]:
        self[name] = {"rmin": -1.0, "rmax": 1.0}
        return self[name]


class QuantizeActivations(AbstractGraphPass):  # type: ignore[misc]  # coremltools has no types
    """Put the pairs in, with symmetric int8 codes of the given ranges."""

    def __init__(
        self, ranges: Mapping[str, tuple[float, float]] | None, exempt: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.exempt = exempt
        self.table = _Table()
        for name, (low, high) in (ranges or {}).items():
            self.table[name] = {"rmin": low, "rmax": high}

    def apply(self, program: Any) -> None:
        """Change the program; without ranges it notes the names that it would need in :attr:`table`."""
        block = program.functions["main"]
        _share_between_concatenated(block, self.table)
        config = OptimizationConfig(global_config=OpLinearQuantizerConfig(mode="linear_symmetric"))
        for name in (*_additions_of_constants(block), *_readers(block, self.exempt)):
            config.set_op_name(name, None)
        for kind in (insert_prefix_quantize_dequantize_pair, insert_suffix_quantize_dequantize_pair):
            graph_pass = kind()
            graph_pass.config = config
            graph_pass.activation_stats = self.table
            graph_pass(program)
        PASS_REGISTRY["common::dequantize_quantize_pair_elimination"](program)


def _additions_of_constants(block: Any) -> list[str]:
    """Names of the additions of a constant: the offsets of the image and the attention biases stay float."""
    return [
        operation.name
        for operation in block.operations
        if operation.op_type == "add" and any(operation.inputs[side].val is not None for side in "xy")
    ]


def _readers(block: Any, weights: frozenset[str]) -> list[str]:
    """Names of the layers with these weights."""
    layers = (operation for operation in block.operations if operation.op_type in {"conv", "linear"})
    return [layer.name for layer in layers if layer.inputs["weight"].name in weights]


def _share_between_concatenated(block: Any, table: _Table) -> None:
    """Give one range to all that is concatenated, so that codes are copied and not computed anew."""
    for operation in block.operations:
        if operation.op_type == "concat":
            values = [*operation.inputs["values"], operation.outputs[0]]
            known = [table[value.name] for value in values if value.name in table]
            for entry in known:
                entry.update(rmin=min(e["rmin"] for e in known), rmax=max(e["rmax"] for e in known))
