"""A package beside its source, with what several gates ask of the two, each computed once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from evit_edge.errors import RequestError
from evit_edge.runtime.coreml import DecodedWeight, Encoding, Precision, decoded_weights
from evit_edge.runtime.coreml.package import Package
from evit_edge.tensors import OutputKind, UInt8Images
from evit_edge.verification.coreml.answers import Answers, ask
from evit_edge.verification.coreml.interface import Normalization
from evit_edge.verification.coreml.network import Network
from evit_edge.verification.coreml.program import ProgramView, without_activation_quantization
from evit_edge.verification.coreml.weights import Comparison, compare_weights, exact_scalars, source_values

_FLOAT32_ROUNDING, _HALF_ROUNDING = 2.0**-24, 2.0**-11
_ONE = 1e-2
"""How far the sum of float16 probabilities may be from 1."""


@dataclass(frozen=True)
class Answered:
    """A package, and what it answers to some pictures.

    Attributes:
        package: As read.
        images: RGB uint8 (N, S, S, 3).
    """

    package: Package
    images: UInt8Images = field(repr=False)

    @cached_property
    def view(self) -> ProgramView:
        """The program."""
        return ProgramView(self.package)

    @cached_property
    def weights(self) -> tuple[DecodedWeight, ...]:
        """Its weights."""
        return tuple(decoded_weights(self.package))

    @cached_property
    def is_compressed(self) -> bool:
        """Whether weights are stored in fewer bits, or values quantized on the way."""
        raw = all(weight.encoding in (Encoding.RAW, Encoding.CAST) for weight in self.weights)
        return not raw or any(operation.type == "quantize" for operation in self.package.function.operations)

    @cached_property
    def declared(self) -> Answers:
        """The package as it is."""
        return ask(self.package, self.images, Precision.DECLARED)

    @cached_property
    def unrounded(self) -> Answers:
        """The package with its own weights, in float64: what its file says exactly."""
        return ask(self.package, self.images, Precision.FLOAT64)

    @cached_property
    def output_kind(self) -> OutputKind:
        """What the scores are: probabilities are not negative and have the sum 1."""
        scores = self.declared.scores
        sums = bool(((scores.sum(dim=1) - 1).abs() <= _ONE).all())
        return OutputKind.PROBABILITIES if sums and float(scores.min()) >= 0 else OutputKind.LOGITS

    def logits(self, answers: Answers) -> Tensor:
        """Logits of a program, centred, whichever it gives."""
        if self.output_kind is OutputKind.PROBABILITIES and self.view.softmax is None:
            return centred(answers.scores.clamp_min(torch.finfo(torch.float64).tiny).log())
        return centred(answers.logits)


@dataclass(frozen=True)
class Case(Answered):
    """A package and the network that it was made from; both answer to the same pictures.

    Attributes:
        network: The source.
    """

    network: Network

    def __post_init__(self) -> None:
        """The pictures are of the source's size."""
        side = self.network.image_size
        if self.images.dtype != np.uint8 or self.images.shape[1:] != (side, side, 3) or not len(self.images):
            raise RequestError(
                f"images of {self.images.dtype} {self.images.shape} given; uint8 (N, {side}, {side}, 3) is needed"
            )

    @cached_property
    def compared(self) -> list[Comparison]:
        """Its weights beside the source's."""
        return compare_weights(self.float_view, self.weights, self.network, self.normalization)

    @cached_property
    def replacements(self) -> dict[str, Tensor]:
        """The source's weights and numbers by the program's names, float64."""
        view, normalization = self.float_view, self.normalization
        scalars = exact_scalars(view, self.network, normalization.preparing(view))
        return {**normalization.exact(view), **scalars, **source_values(self.compared)}

    @cached_property
    def float_package(self) -> Package:
        """The package without quantization of activations."""
        return without_activation_quantization(self.package)

    @cached_property
    def float_view(self) -> ProgramView:
        """The program without quantization of activations."""
        return ProgramView(self.float_package)

    @cached_property
    def truth(self) -> Tensor:
        """Torch's logits in float64, centred; (N, classes)."""
        return centred(self.network.logits(self.images))

    @cached_property
    def float32_error(self) -> float:
        """Torch's own error in float32, relative; at least one rounding."""
        return max(_FLOAT32_ROUNDING, self.distance(self.network.logits(self.images, torch.float32)))

    @cached_property
    def half_error(self) -> tuple[float, str]:
        """Torch's own error in half floats, relative and at least one rounding, and how it was had."""
        logits, how = self.network.half_logits(self.images)
        return max(_HALF_ROUNDING, self.distance(logits)), how

    @cached_property
    def uncompressed(self) -> Answers:
        """The package in its declared precision, with the source's weights in place of compressed ones."""
        return ask(self.float_package, self.images, Precision.DECLARED, self.replacements)

    @cached_property
    def exact(self) -> Answers:
        """The package's program in float64, with the source's weights."""
        return ask(self.float_package, self.images, Precision.FLOAT64, self.replacements)

    @cached_property
    def normalization(self) -> Normalization:
        """Of the source."""
        return Normalization(self.network.mean, self.network.std)

    @cached_property
    def form_error(self) -> float:
        """Of the converted form in float64, relative."""
        return self.distance(self.network.form_logits(self.images))

    @cached_property
    def graph_error(self) -> float:
        """Of the float64 program with the source's weights: its logits or its scores, whichever is worse."""
        error = self.distance(self.logits(self.exact))
        if self.output_kind is OutputKind.LOGITS or not math.isfinite(error):
            return error
        wanted = self.truth.softmax(dim=1)
        return max(error, float((self.exact.scores - wanted).norm() / wanted.norm()))

    @cached_property
    def rounding_error(self) -> float:
        """Of the program in its declared precision; without what compression does to weights."""
        return self.distance(self.logits(self.uncompressed if self.is_compressed else self.declared))

    @cached_property
    def declared_reference(self) -> tuple[float, str]:
        """Torch's own error in the precision that the program declares."""
        return self.half_error if self.view.is_float16 else (self.float32_error, "torch float32")

    def fits(self, logits: Tensor) -> bool:
        """Whether answers are as many as torch's, and finite."""
        return logits.shape == self.truth.shape and bool(torch.isfinite(logits).all())

    def figures(self) -> dict[str, float]:
        """Measured figures by name; those that are no numbers are left out."""
        found = {
            "torch_float32_error": self.float32_error,
            "graph_error": self.graph_error,
            "rounding_error": self.rounding_error,
            "torch_declared_error": self.declared_reference[0],
            "declared_error": self.distance(self.logits(self.declared)),
            "largest_activation": self.exact.extremes.largest,
        }
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def distance(self, logits: Tensor) -> float:
        """Norm of the error over norm of torch's float64 logits, centred; infinity where one is not finite."""
        if not self.fits(logits):
            return math.inf
        return float((centred(logits) - self.truth).norm() / self.truth.norm())


def centred(logits: Tensor) -> Tensor:
    """Without each row's constant, which softmax forgets; float64 (B, classes)."""
    return logits - logits.mean(dim=1, keepdim=True)
