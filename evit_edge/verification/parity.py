"""Gates on the answers: does the artefact say what the model says?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evit_edge.golden import Golden
from evit_edge.runtime.info import ModelInfo, Runner
from evit_edge.tensors import Float32Array, OutputKind, centred_logits, probabilities
from evit_edge.verification.gates import Gate, Thresholds

_TINY = float(np.finfo(np.float64).tiny)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parity:
    """How far two sets of logits are apart; NaN in, NaN out, and NaN passes no gate.

    Attributes:
        relative_error: Largest error over the largest reference value.
        sqnr_db: Energy of the reference over energy of the error, dB.
        min_cosine: Smallest cosine over the pictures.
        top1_agreement: Part of the pictures with the same best class.
    """

    relative_error: float
    sqnr_db: float
    min_cosine: float
    top1_agreement: float


def measure_parity(measured: FloatArray, reference: FloatArray) -> Parity:
    """Compare logits.

    Args:
        measured: (N, classes), centred.
        reference: (N, classes), centred, not all 0.
    """
    error = measured - reference
    noise, signal = float((error**2).sum()), float((reference**2).sum())
    norms = np.linalg.norm(measured, axis=1) * np.linalg.norm(reference, axis=1)  # (N,)
    products = (measured * reference).sum(axis=1)  # (N,)
    cosines = np.where(norms == 0, 0.0, products / np.where(norms == 0, 1.0, norms))
    return Parity(
        relative_error=float(np.abs(error).max()) / max(float(np.abs(reference).max()), _TINY),
        sqnr_db=math.inf if noise == 0 else 10 * math.log10(max(signal, _TINY) / noise),
        min_cosine=float(cosines.min()),
        top1_agreement=float((measured.argmax(axis=1) == reference.argmax(axis=1)).mean()),
    )


def golden_gates(runner: Runner, golden: Golden, thresholds: Thresholds) -> tuple[list[Gate], dict[str, float]]:
    """The gates that the thresholds name on golden vectors, and all figures."""
    gates, figures, _ = replay_golden(runner, golden, thresholds)
    return gates, figures


def replay_golden(
    runner: Runner, golden: Golden, thresholds: Thresholds
) -> tuple[list[Gate], dict[str, float], Float32Array | None]:
    """Replay golden vectors.

    Returns:
        The gates that the thresholds name, all figures, and the scores (N, classes); where nothing can be compared
        no figures and no scores.
    """
    info = runner.info
    wanted = (len(golden.images), info.num_classes)
    if golden.logits.shape != wanted or golden.images.shape[1] != info.image_size:
        measured = f"{golden.images.shape[1]} px, {golden.logits.shape[1]} classes"
        return (
            [Gate.check("golden", False, measured, f"{info.image_size} px, {info.num_classes} classes")],
            {},
            None,
        )
    scores = runner.run(golden.images)  # (N, classes)
    if not np.isfinite(scores).all():
        return [Gate.check("golden", False, "NaN or infinity in the scores", "finite scores")], {}, None
    parity = measure_parity(*_in_one_unit(scores, golden.logits, info))
    figures = {
        "golden_relative_error": parity.relative_error,
        "golden_sqnr_db": min(parity.sqnr_db, 200.0),  # JSON knows no infinity
        "golden_min_cosine": parity.min_cosine,
        "golden_top1_agreement": parity.top1_agreement,
    }
    return _parity_gates(parity, thresholds), figures, scores


def _in_one_unit(scores: Float32Array, logits: Float32Array, info: ModelInfo) -> tuple[FloatArray, FloatArray]:
    """What a model said and what the golden vectors say: logits, or probabilities where those come in steps.

    A step of 1/256 is nothing to a probability and everything to the logarithm of a small one.
    """
    if info.output.scale is not None and info.output_kind is OutputKind.PROBABILITIES:
        expected = probabilities(logits, OutputKind.LOGITS)
        return scores.astype(np.float64), expected.astype(np.float64)
    return centred_logits(scores, info.output_kind), centred_logits(logits, OutputKind.LOGITS)


def _parity_gates(parity: Parity, thresholds: Thresholds) -> list[Gate]:
    gates = []
    if (limit := thresholds.max_relative_error) is not None:
        error = parity.relative_error
        gates.append(Gate.check("relative error", error <= limit, f"{error:.1e}", f"at most {limit:.0e}"))
    if (least := thresholds.min_sqnr_db) is not None:
        ratio = parity.sqnr_db
        gates.append(Gate.check("sqnr", ratio >= least, f"{ratio:.1f} dB", f"at least {least:g} dB"))
    if (least := thresholds.min_cosine) is not None:
        cosine = parity.min_cosine
        gates.append(Gate.check("cosine", cosine >= least, f"{cosine:.4f}", f"at least {least:g}"))
    return gates
