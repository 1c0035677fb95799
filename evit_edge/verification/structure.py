"""Gates on the file itself: is it the one that the manifest describes?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evit_converters import onnx
from evit_converters.errors import ModelFileError
from evit_edge.errors import MissingExtraError, require
from evit_edge.files import sha256_of, size_of
from evit_edge.manifest import Manifest
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.engines import delegate_partitions
from evit_edge.runtime.info import ModelInfo
from evit_edge.tensors import TensorSpec
from evit_edge.verification.gates import Gate

if TYPE_CHECKING:
    from evit_converters.tflite import PartitionReport


def structure_gates(carried: Preprocessing | None, info: ModelInfo, manifest: Manifest) -> list[Gate]:
    """Compare a file with its manifest.

    Args:
        carried: The resize and crop rule inside the file.
        info: What the engine sees.
        manifest: What is stated.
    """
    artefact, stated = info.path, manifest.artefact
    labels = len(info.labels or ())
    return [
        same_sha256("sha256", sha256_of(artefact), stated.sha256),
        _equal("size", f"{size_of(artefact)} bytes", f"{stated.size_bytes} bytes"),
        _equal("input", _shown(info.input), _shown(stated.input)),
        _equal("output", _shown(info.output), _shown(stated.output)),
        _equal("output kind", info.output_kind.value, stated.output_kind.value),
        _equal("labels", str(labels), str(stated.labels)),
        rule_gate(carried, manifest.preprocessing),
        *budget_gates(manifest),
    ]


def rule_gate(carried: Preprocessing | None, stated: Preprocessing) -> Gate:
    """Compare the resize and crop rule inside an artefact with the manifest's."""
    required = f"{stated.image_size} px of {stated.resize_to}, {stated.interpolation}"
    if carried is None:
        return Gate.skip("resize rule", "the file carries none", required)
    measured = f"{carried.image_size} px of {carried.resize_to}, {carried.interpolation}"
    return Gate.check("resize rule", carried == stated, measured, required)


def budget_gates(manifest: Manifest) -> list[Gate]:
    """Whether the loss that the manifest records keeps the promise that it records; none where none was made."""
    entry = manifest.budget
    if entry is None:
        return []
    low, high = entry.interval
    measured = (
        f"{entry.drop:.2f} points [{low:.2f}, {high:.2f}] on {entry.photos} photos, "
        f"{len(manifest.exempt)} operators exempted"
    )
    end = "with the interval's upper end " if entry.strict else ""
    return [Gate.check("accuracy budget", entry.kept, measured, f"{end}at most {entry.max_drop:g} points")]


def partitions_gate(artefact: Path, stated: int | None) -> Gate:
    """Compare the pieces that XNNPACK runs a ``.tflite`` in with the manifest's.

    Raises:
        ArtefactError: The engine refuses the file.
    """
    if stated is None:
        return Gate.skip("partitions", "the manifest states none", "as stated")
    found = delegate_partitions(artefact)
    if found is None:
        return Gate.skip("partitions", "only ai-edge-litert tells them", f"at most {stated}")
    return division_gate(found, stated)


def division_gate(found: PartitionReport, stated: int) -> Gate:
    """Compare how XNNPACK divides a model with the manifest's number of pieces."""
    required = f"at most {stated}"
    return Gate.check("partitions", min(stated, 1) <= found.partitions <= stated, str(found), required)


def checker_gate(artefact: Path) -> Gate:
    """What onnx's own checker says of an ``.onnx``."""
    required = "a valid model"
    try:
        require("onnx", extra="onnx")
    except MissingExtraError as exc:
        return Gate.skip("onnx.checker", str(exc), required)
    try:
        onnx.check(artefact.read_bytes())
    except ModelFileError as exc:
        return Gate.check("onnx.checker", False, str(exc), required)
    return Gate.check("onnx.checker", True, required, required)


def same_sha256(name: str, measured: str, required: str) -> Gate:
    """Compare two hashes; 16 digits are shown, which is enough to see them differ."""
    return Gate.check(name, measured == required, f"{measured[:16]}…", f"{required[:16]}…")


def _equal(name: str, measured: str, required: str) -> Gate:
    return Gate.check(name, measured == required, measured, required)


def _shown(spec: TensorSpec) -> str:
    quantized = "" if spec.scale is None else f", scale {spec.scale:.6g}, zero point {spec.zero_point}"
    return f"{spec.dtype} {list(spec.shape)}{quantized}"
