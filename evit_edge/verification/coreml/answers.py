"""What a program answers: scores, logits, and the extremes of its values, in one pass of the evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from evit_edge.runtime.coreml import Evaluator, Precision
from evit_edge.runtime.coreml.package import Package
from evit_edge.tensors import UInt8Images
from evit_edge.verification.coreml.program import FLOAT16_MAX, ProgramView, title

_BATCH = 8


@dataclass
class Extremes:
    """The largest magnitudes that operations made, and where.

    Attributes:
        largest: Largest magnitude.
        largest_at: The operation that made it.
        broken_at: The first operation that made NaN or infinity; empty where none did.
    """

    largest: float = 0.0
    largest_at: str = ""
    broken_at: str = ""

    def see(self, value: Tensor, operation: str) -> None:
        """Take an operation's output into account."""
        peak = float(value.abs().max()) if value.numel() else 0.0
        if not np.isfinite(peak):
            self.broken_at = self.broken_at or operation
        elif peak > self.largest:
            self.largest, self.largest_at = peak, operation

    @property
    def overflows(self) -> bool:
        """Whether float16 cannot hold what was seen."""
        return self.largest >= FLOAT16_MAX or bool(self.broken_at)


@dataclass(frozen=True)
class Answers:
    """What a program answered.

    Attributes:
        scores: float64 (B, classes), as the program gives them.
        logits: float64 (B, classes), what its softmax took; the scores where it has none.
        extremes: Of all computed floating-point values.
    """

    scores: Tensor
    logits: Tensor
    extremes: Extremes = field(default_factory=Extremes)


def ask(
    package: Package, images: UInt8Images, precision: Precision, weights: Mapping[str, Tensor] | None = None
) -> Answers:
    """Evaluate a program.

    Args:
        package: The package.
        images: RGB uint8 (B, S, S, 3).
        precision: In what to compute.
        weights: In place of the package's, by name.

    Raises:
        ArtefactError: It has operations that the evaluator does not know.
    """
    view = ProgramView(package)
    evaluator = Evaluator(package, precision, weights=weights)
    titles = {name: title(operation) for name, operation in view.producers.items()}
    prepared = {step.value for step in view.prepared}
    extremes = Extremes()
    logits: list[Tensor] = []

    def observe(name: str, value: Tensor) -> None:
        if name == view.logits:
            logits.append(value.double().flatten(1))
        if value.is_floating_point() and name not in prepared:  # the image is prepared in float32
            extremes.see(value, titles[name])

    parts = np.array_split(images, -(-len(images) // _BATCH))
    scores = torch.cat([evaluator.run(part, observe).double() for part in parts])
    return Answers(scores, torch.cat(logits), extremes)


def values(
    package: Package,
    images: UInt8Images,
    precision: Precision,
    weights: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Every value that a program computes, by name, with the images' axis in front."""
    seen: dict[str, Tensor] = {}

    def observe(name: str, value: Tensor) -> None:
        if value.is_floating_point():
            seen[name] = value.clone()

    Evaluator(package, precision, weights=weights).run(images, observe)
    return seen
