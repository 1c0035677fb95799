"""Apple's own Core ML on a Mac, beside the reference evaluator.

On a Mac :func:`open_coreml` runs both on every picture, answers with Apple's scores, and says how far the two are
apart. Elsewhere it answers with the evaluator's. The seam to Apple is one class, coremltools' ``MLModel``, and one
call, ``predict``. No Mac was at hand when this was written: the tests put a stand-in in the seam's place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from evit_edge.errors import ArtefactError, require
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.checks.limits import Limits
from evit_edge.runtime.checks.memory import require_fits
from evit_edge.runtime.checks.package import declared_bytes
from evit_edge.runtime.coreml.package import Package, read_package
from evit_edge.runtime.coreml.runner import CoreMLRunner
from evit_edge.runtime.info import ModelInfo, Runner
from evit_edge.tensors import Float32Array, OutputKind, UInt8Images, centred_logits


class NativeModel(Protocol):
    """What is used of ``coremltools.models.MLModel``."""

    def predict(self, data: dict[str, Any]) -> Mapping[str, Any]:
        """Outputs by name for inputs by name; an image is a PIL image, one picture a call."""
        ...


NativeLoader = Callable[[Path], NativeModel]


@dataclass(frozen=True)
class Comparison:
    """How two engines' scores of the same pictures differ.

    Attributes:
        pictures: How many were compared.
        same_top1: On how many both name the same class.
        largest_difference: Between logits, each picture's mean taken out.
    """

    pictures: int
    same_top1: int
    largest_difference: float

    def joined(self, other: Comparison) -> Comparison:
        """Of both sets of pictures."""
        return Comparison(
            self.pictures + other.pictures,
            self.same_top1 + other.same_top1,
            max(self.largest_difference, other.largest_difference),
        )

    def __str__(self) -> str:
        return (
            f"the reference evaluator names the same class on {self.same_top1} of {self.pictures} pictures, "
            f"largest difference of a logit {self.largest_difference:.2g}"
        )


def compare(ours: Float32Array, apples: Float32Array, kind: OutputKind) -> Comparison:
    """Compare scores.

    Args:
        ours: float32 (B, classes), the evaluator's.
        apples: float32 (B, classes), Core ML's.
        kind: What both are.
    """
    gap = np.abs(centred_logits(ours, kind) - centred_logits(apples, kind))
    same = int((ours.argmax(-1) == apples.argmax(-1)).sum())
    return Comparison(len(ours), same, float(gap.max(initial=0.0)))


class ComparedRunner:
    """Core ML and the reference evaluator side by side; the scores are Core ML's.

    Args:
        package: As read.
        reference: The evaluator on the same package.
        native: Core ML on the same package.
        version: Of what runs it, such as ``macOS 15.1``.
    """

    def __init__(self, package: Package, reference: CoreMLRunner, native: NativeModel, version: str) -> None:
        self._package = package
        self._reference = reference
        self._native = native
        self._comparison = Comparison(0, 0, 0.0)
        self._info = replace(reference.info, runtime="coreml", runtime_version=version)

    @property
    def info(self) -> ModelInfo:
        """What is known about the model; the remark tells how far the evaluator was apart so far."""
        remark = f"run by Core ML on this Mac; {self._comparison}" if self._comparison.pictures else None
        return replace(self._info, remark=remark)

    @property
    def comparison(self) -> Comparison:
        """Over all pictures so far."""
        return self._comparison

    def run(self, images: UInt8Images) -> Float32Array:
        """Score uint8 (B, S, S, 3) pictures with both; float32 (B, classes), Core ML's."""
        ours = self._reference.run(images)
        apples = np.empty_like(ours)
        for row, image in zip(apples, images, strict=True):
            row[:] = self._predicted(image)
        self._comparison = self._comparison.joined(compare(ours, apples, self._info.output_kind))
        return apples

    def _predicted(self, image: UInt8Images) -> Any:
        """(classes,) of one picture (S, S, 3)."""
        try:
            outputs = self._native.predict({self._info.input.name: Image.fromarray(image)})
        except RuntimeError as exc:
            raise ArtefactError(f"{self._info.path}: Core ML fails: {exc}") from exc
        scores = outputs.get(self._info.output.name)
        if isinstance(scores, Mapping):
            return [scores[label] for label in self._package.labels or scores]
        if scores is None:
            raise ArtefactError(
                f"{self._info.path}: Core ML answers with {sorted(outputs)}; {self._info.output.name!r} is needed"
            )
        return np.asarray(scores).reshape(-1)


def open_coreml(
    path: Path,
    *,
    threads: int = 1,
    labels: tuple[str, ...] | None = None,
    preprocessing: Preprocessing | None = None,
    native: NativeLoader | None = None,
    limits: Limits | None = None,
) -> Runner:
    """Open a package in what this machine has.

    Args:
        path: The folder ``NAME.mlpackage``.
        threads: Threads of the evaluator.
        labels: Names of the classes, in place of the file's.
        preprocessing: The resize and crop rule, in place of the file's.
        native: How Core ML opens a package; by default coremltools on a Mac and nothing elsewhere.
        limits: For the memory that its program declares.

    Returns:
        On a Mac :class:`ComparedRunner`, elsewhere :class:`CoreMLRunner`.

    Raises:
        ArtefactError: The package is unusable, by the reader's or by Apple's word.
        MissingExtraError: coremltools is not installed.
    """
    package = read_package(path)
    try:
        require_fits(declared_bytes(package.function), limits or Limits())
    except ArtefactError as exc:
        raise ArtefactError(f"{path} is no usable .mlpackage: {exc}") from exc
    reference = CoreMLRunner(package, threads=threads, labels=labels, preprocessing=preprocessing)
    load = native or (_load_native if sys.platform == "darwin" else None)
    if load is None:
        return reference
    return ComparedRunner(package, reference, load(path), _version())


def _load_native(path: Path) -> NativeModel:
    module = require("coremltools", extra="convert")
    try:
        model: NativeModel = module.models.MLModel(str(path))
    except (RuntimeError, ValueError, OSError) as exc:
        raise ArtefactError(f"{path} is refused by Core ML: {exc}") from exc
    return model


def _version() -> str:
    import platform

    return f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else platform.platform(terse=True)
