"""What can be said of a package without the weights that it was made from."""

from __future__ import annotations

import numpy as np
import torch

from evit_edge.golden import Golden
from evit_edge.manifest import Manifest
from evit_edge.runtime.coreml.package import Package
from evit_edge.verification.coreml.answer_gates import (
    FORM,
    GRAPH,
    ROUNDING,
    STORED,
    kind_gate,
    value_gate,
)
from evit_edge.verification.coreml.case import Answered, centred
from evit_edge.verification.coreml.interface import Claims, Normalization, interface_gates
from evit_edge.verification.coreml.limits import Limits
from evit_edge.verification.gates import Gate, Thresholds, VerificationReport
from evit_edge.verification.parity import measure_parity

_NEEDED = "no weights to compare with (--weights CHECKPOINT)"


def prove_alone(
    package: Package, manifest: Manifest, golden: Golden, claims: Claims, thresholds: Thresholds
) -> VerificationReport:
    """Interface, golden answers and the range of the values; everything else is skipped, and says so.

    Args:
        package: As read.
        manifest: What the package is said to be.
        golden: Pictures, and what the source answered to them.
        claims: What it has to say of itself.
        thresholds: What counts as answering alike, for a compressed package.
    """
    rule, limits = manifest.preprocessing, Limits()
    answered = Answered(package, golden.images)
    normalization = Normalization(np.asarray(rule.mean), np.asarray(rule.std))
    gates = interface_gates(answered.view, manifest.source.image_size, normalization, claims)
    if package.image is None or golden.images.shape[1:3] != (package.image.height, package.image.width):
        measured = f"{golden.images.shape[1]} px"
        gates.append(Gate.check("golden", False, measured, "pictures of the package's size"))
        return VerificationReport(package.path, "", tuple(gates))
    parity, figures = golden_gates(answered, golden, thresholds, limits)
    gates += [kind_gate(answered, claims), *parity, value_gate(answered)]
    gates += [Gate.skip(name, _NEEDED, "the source's") for name in (STORED, FORM, GRAPH, ROUNDING)]
    return VerificationReport(package.path, "", tuple(gates), figures)


def golden_gates(
    answered: Answered, golden: Golden, thresholds: Thresholds, limits: Limits
) -> tuple[list[Gate], dict[str, float]]:
    """Replay golden vectors.

    A float package may be off by what its own values are rounded by, which its float64 evaluation shows; a
    compressed one is held to thresholds in decibels.
    """
    logits = answered.logits(answered.declared)
    wanted = centred(torch.from_numpy(golden.logits.astype(np.float64)))
    if logits.shape != wanted.shape or not bool(torch.isfinite(logits).all()):
        return [
            Gate.check("golden", False, f"{tuple(logits.shape)} answers, or not finite", "as many, finite")
        ], {}
    parity = measure_parity(logits.numpy(), wanted.numpy())
    exact = answered.logits(answered.unrounded)
    error = float((logits - wanted).norm() / wanted.norm())
    rounding = float((logits - exact).norm() / exact.norm())
    figures = {
        "golden_error": error,
        "golden_sqnr_db": min(parity.sqnr_db, 200.0),  # JSON knows no infinity
        "golden_min_cosine": parity.min_cosine,
        "own_rounding_error": rounding,
    }
    if not answered.is_compressed:
        required = f"at most {limits.rounding:g} of the error of its own rounding, {rounding:.2g}"
        ratio = error / max(rounding, 1e-300)
        return [
            Gate.check("golden", ratio <= limits.rounding, f"{error:.2g}: {ratio:.2g} of it", required)
        ], figures
    least_sqnr, least_cosine = thresholds.min_sqnr_db or limits.sqnr_db, thresholds.min_cosine or limits.cosine
    measured = f"{parity.sqnr_db:.1f} dB, smallest cosine {parity.min_cosine:.4f}"
    required = f"at least {least_sqnr:g} dB and a cosine of {least_cosine:g}"
    passed = parity.sqnr_db >= least_sqnr and parity.min_cosine >= least_cosine
    return [Gate.check("golden", passed, measured, required)], figures
