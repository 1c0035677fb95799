"""What is required of an artefact, and how it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from evit_edge.errors import RequestError, VerificationError
from evit_edge.manifest import Quantization


class GateStatus(StrEnum):
    """Outcome of one gate."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Gate:
    """One requirement.

    Attributes:
        name: Short, such as ``sqnr``.
        status: How it went.
        measured: What was found; for a skipped gate, why.
        required: What is accepted.
    """

    name: str
    status: GateStatus
    measured: str
    required: str

    @classmethod
    def check(cls, name: str, passed: bool, measured: str, required: str) -> Gate:
        """A gate that was measured."""
        return cls(name, GateStatus.PASSED if passed else GateStatus.FAILED, measured, required)

    @classmethod
    def skip(cls, name: str, reason: str, required: str) -> Gate:
        """A gate that could not be measured."""
        return cls(name, GateStatus.SKIPPED, reason, required)


@dataclass(frozen=True)
class Thresholds:
    """What counts as answering alike.

    Attributes:
        max_relative_error: Largest error of a golden logit over the largest golden logit; None to leave it out.
        min_sqnr_db: Signal to quantization noise of the golden logits, dB; None to leave it out.
        min_cosine: Smallest cosine between a picture's logits and its golden ones; None to leave it out.
        min_agreement: Part of real photos with the reference's top-1, 0..1.
    """

    max_relative_error: float | None
    min_sqnr_db: float | None
    min_cosine: float | None
    min_agreement: float

    def __post_init__(self) -> None:
        """Refuse gates that nothing or everything passes."""
        if not 0 <= self.min_agreement <= 1:
            raise RequestError(f"agreement of at least {self.min_agreement} asked for; 0 to 1 is accepted")
        if self.max_relative_error is not None and self.max_relative_error <= 0:
            raise RequestError(f"relative error of at most {self.max_relative_error} given; above 0 is accepted")

    @classmethod
    def of(cls, quantization: Quantization) -> Thresholds:
        """The gates of a kind of artefact.

        Float keeps torch's answers but for rounding. Half floats keep 11 bits of each weight. For int8 the least
        agreement is what users are promised; SQNR and cosine are set below what sound calibrations reach on the
        shipped model and above what clipped ranges give; int8 weights alone, and 16-bit or run-time quantized
        activations, lose less and are held to more. Palettes lose visibly, and are held to less; a palette of
        16 values that loses more than every fifth answer is refused.
        """
        return _THRESHOLDS[quantization]


_THRESHOLDS = {
    Quantization.NONE: Thresholds(1e-4, None, None, 0.995),
    Quantization.FP16: Thresholds(1e-2, None, None, 0.985),
    Quantization.INT8_WEIGHTS: Thresholds(None, 16.0, 0.97, 0.96),
    Quantization.INT8_DYNAMIC: Thresholds(None, 14.0, 0.96, 0.95),
    Quantization.INT16_ACT: Thresholds(None, 14.0, 0.96, 0.95),
    Quantization.INT8: Thresholds(None, 12.0, 0.95, 0.94),
    Quantization.INT8_FULL: Thresholds(None, 12.0, 0.95, 0.94),
    Quantization.PALETTE6: Thresholds(None, 6.0, 0.85, 0.92),
    Quantization.PALETTE4: Thresholds(None, 6.0, 0.85, 0.80),
}


@dataclass(frozen=True)
class VerificationReport:
    """All gates of one artefact.

    Attributes:
        artefact: The file.
        runtime: Engine and version that ran it.
        gates: In the order they were measured.
        figures: Parity figures by name, for the manifest.
        remarks: What a reader has to know of how it was measured, a sentence each.
    """

    artefact: Path
    runtime: str
    gates: tuple[Gate, ...]
    figures: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that failed."""
        return tuple(gate for gate in self.gates if gate.status is GateStatus.FAILED)

    @property
    def passed(self) -> bool:
        """Whether no gate failed."""
        return not self.failed

    def raise_if_failed(self) -> None:
        """Turn a failure into an error.

        Raises:
            VerificationError: Names every gate that failed, with what was measured and what is required.
        """
        if self.failed:
            told = "; ".join(f"{gate.name}: {gate.measured} (required: {gate.required})" for gate in self.failed)
            raise VerificationError(f"{self.artefact.name} fails {told}")
