"""What in a program is said to trouble the Neural Engine; counted, not measured.

The habits come from Apple's "Deploying Transformers on the Apple Neural Engine" (machinelearning.apple.com, 2022):
four dimensions with the channels second, and as few operations as possible that only move data about.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from evit_converters.coreml.library import internal
from evit_converters.coreml.program import Program
from evit_converters.errors import ModelFileError

REMARK = "advice from the program's form; no A13 was measured"


class Concern(StrEnum):
    """What an operation may be slow for, or be sent to another processor for."""

    RANK = "rank"
    DYNAMIC_MATMUL = "dynamic matmul"
    GATHER = "gather"
    TRANSPOSE = "transpose"
    WINDOW_RESHAPE = "window reshape"


REASONS: Mapping[Concern, str] = {
    Concern.RANK: "a tensor of other than four dimensions is laid out anew, or kept off the Neural Engine",
    Concern.DYNAMIC_MATMUL: "both operands are computed; the Neural Engine is made for weights that stand still",
    Concern.GATHER: "indexing is said to leave the Neural Engine",
    Concern.TRANSPOSE: "it moves data and computes nothing",
    Concern.WINDOW_RESHAPE: "a reshape from or to five and more dimensions, as windows are cut",
}


@dataclass(frozen=True)
class Advice:
    """What was counted in a program.

    Attributes:
        operations: Number of operations, constants and their decoding apart.
        ranks: Number of computed tensors by their dimensions.
        concerns: Names of the operations for each concern; empty where there are none. Tensors of fewer than
            three dimensions are no concern: a classifier ends in (1, classes).
        remark: What this advice is worth.
    """

    operations: int
    ranks: Mapping[int, int]
    concerns: Mapping[Concern, tuple[str, ...]]
    remark: str = REMARK


def advise(source: Program | Path) -> Advice:
    """Count what is said to trouble the Neural Engine.

    Args:
        source: A program, or an ``.mlpackage`` with an ML Program.

    Raises:
        ModelFileError: There is no such package, or it holds no ML Program.
        ExportError: coremltools is not installed.
    """
    specification = source.model.get_spec() if isinstance(source, Program) else _read(source)
    if specification.WhichOneof("Type") != "mlProgram":
        raise ModelFileError(f"{specification.WhichOneof('Type') or 'nothing'} found; an ML Program is needed")
    function = specification.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    computed = [operation for operation in block.operations if not _is_constant(operation)]
    ranks = {value.name: value.type.tensorType.rank for value in function.inputs}
    for operation in block.operations:
        ranks |= {value.name: value.type.tensorType.rank for value in operation.outputs}
    constants = {value.name for op in block.operations if _is_constant(op) for value in op.outputs}
    names: dict[Concern, list[str]] = {concern: [] for concern in Concern}
    for operation in computed:
        for concern in _concerns(operation, ranks, constants):
            names[concern].append(operation.outputs[0].name)
    tensors = [value.name for op in computed if op.type != "classify" for value in op.outputs]
    return Advice(
        operations=len(computed),
        ranks=dict(sorted(Counter(ranks[name] for name in tensors).items())),
        concerns={concern: tuple(found) for concern, found in names.items()},
    )


def _is_constant(operation: Any) -> bool:
    return operation.type == "const" or str(operation.type).startswith("constexpr_")


def _concerns(operation: Any, ranks: Mapping[str, int], constants: set[str]) -> list[Concern]:
    own = [value.type.tensorType.rank for value in operation.outputs]
    read = {key: [a.name for a in argument.arguments if a.name] for key, argument in operation.inputs.items()}
    found = []
    if any(rank == 3 or rank > 4 for rank in own):
        found.append(Concern.RANK)
    if operation.type == "matmul" and not any(name in constants for key in "xy" for name in read[key]):
        found.append(Concern.DYNAMIC_MATMUL)
    if str(operation.type).startswith("gather"):
        found.append(Concern.GATHER)
    if operation.type == "transpose":
        found.append(Concern.TRANSPOSE)
    if operation.type == "reshape" and max(own + [ranks.get(name, 0) for name in read["x"]]) > 4:
        found.append(Concern.WINDOW_RESHAPE)
    return found


def _read(path: Path) -> Any:
    """The specification inside a package, by way of its manifest."""
    model = internal("proto.Model_pb2").Model()
    try:
        manifest = json.loads((path / "Manifest.json").read_text())
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        model.ParseFromString((path / "Data" / item["path"]).read_bytes())
    except Exception as exc:  # a missing file, JSON without these keys, bytes that are no protobuf
        raise ModelFileError(f"{path} is no Core ML package that can be read: {exc}") from exc
    return model
