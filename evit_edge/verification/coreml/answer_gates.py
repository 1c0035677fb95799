"""Gates on weights and answers: each tells one kind of error from the others."""

from __future__ import annotations

from evit_edge.tensors import OutputKind
from evit_edge.verification.coreml.answers import Extremes
from evit_edge.verification.coreml.case import Answered, Case
from evit_edge.verification.coreml.interface import Claims
from evit_edge.verification.coreml.limits import Limits
from evit_edge.verification.coreml.program import FLOAT16_MAX
from evit_edge.verification.gates import Gate
from evit_edge.verification.parity import measure_parity

FORM, GRAPH, ROUNDING, COMPRESSION = "converted form", "graph", "rounding", "compression"
STORED, ACTIVATIONS = "stored weights", "activations"
_SHOWN = 3


def kind_gate(case: Answered, claims: Claims) -> Gate:
    """Probabilities or logits: is the softmax there?"""
    found, stated = case.output_kind, claims.output_kind
    if stated is None:
        return Gate.skip("output kind", f"{found.value}; nothing is stated", "as stated")
    sums = case.declared.scores.sum(dim=1)
    told = f"{found.value} (a picture's scores add up to {float(sums.min()):.4g}..{float(sums.max()):.4g})"
    if found is not stated:
        told += "; the softmax is missing" if stated is OutputKind.PROBABILITIES else "; a softmax is inside"
    return Gate.check("output kind", found is stated, told, stated.value)


def weight_gate(case: Case) -> Gate:
    """Every stored weight is the source's, up to what its encoding rounds."""
    required = "each the source's, within rounding of its type, half a step, or to the nearest entry of its table"
    wrong = [entry for entry in case.compared if not entry.passed]
    if not wrong:
        worst = max((entry.excess for entry in case.compared), default=0.0)
        measured = f"all {len(case.compared)}; the largest error is {worst:.3f} of what its encoding allows"
        return Gate.check(STORED, bool(case.compared), measured, required)
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    told = "; ".join(map(str, wrong[:_SHOWN]))
    return Gate.check(STORED, False, f"{len(wrong)} of {len(case.compared)}: {told}{more}", required)


def form_gate(case: Case, limits: Limits) -> list[Gate]:
    """The form that was converted computes the network's function."""
    if case.network.form is None:
        return []
    return [
        _against_float32(FORM, case.form_error, case, limits, "the converted form in float64 against the network")
    ]


def graph_gate(case: Case, limits: Limits) -> Gate:
    """The program's operations compute the network's function: in float64, with the source's weights in place."""
    return _against_float32(GRAPH, case.graph_error, case, limits, "in float64 with the source's weights")


def _against_float32(name: str, error: float, case: Case, limits: Limits, how: str) -> Gate:
    own = case.float32_error
    ratio = error / own
    measured = f"{error:.2g} {how}: {ratio:.2g} of torch's float32 error"
    return Gate.check(name, ratio <= limits.graph, measured, f"at most {limits.graph:g} of {own:.2g}")


def rounding_gate(case: Case, limits: Limits) -> Gate:
    """The program in its declared precision errs about as much as torch in the same."""
    own, how = case.declared_reference
    error = case.rounding_error
    ratio = error / own
    source = ", the source's weights in place of the compressed ones" if case.is_compressed else ""
    measured = f"{error:.2g} in the declared precision{source}: {ratio:.2g} of the error of {how}"
    return Gate.check(ROUNDING, ratio <= limits.rounding, measured, f"at most {limits.rounding:g} of {own:.2g}")


def activation_gate(case: Case) -> Gate:
    """No value overflows float16."""
    required = f"below {FLOAT16_MAX:g}, the end of float16"
    if not case.view.is_float16:
        return Gate.skip(ACTIVATIONS, "the values are float32", required)
    return _within_float16(case.exact.extremes, case.declared.extremes.broken_at, required)


def _within_float16(extremes: Extremes, broken: str, required: str) -> Gate:
    told = f"at most {extremes.largest:.4g}, in {extremes.largest_at}"
    if broken:
        told += f"; NaN or infinity in the declared precision, first in {broken}"
    return Gate.check(ACTIVATIONS, not extremes.overflows and not broken, told, required)


def value_gate(answered: Answered) -> Gate:
    """No value of a package overflows float16, by its own weights alone."""
    required = f"below {FLOAT16_MAX:g}, the end of float16"
    if not answered.view.is_float16:
        return Gate.skip(ACTIVATIONS, "the values are float32", required)
    return _within_float16(answered.unrounded.extremes, answered.declared.extremes.broken_at, required)


def compression_gate(case: Case, limits: Limits) -> Gate:
    """A compressed package answers like the source."""
    required = f"at least {limits.sqnr_db:g} dB and a cosine of {limits.cosine:g}"
    logits = case.logits(case.declared)
    if not case.fits(logits):
        return Gate.check(COMPRESSION, False, f"answers of shape {tuple(logits.shape)}, or not finite", required)
    parity = measure_parity(logits.numpy(), case.truth.numpy())
    measured = (
        f"{parity.sqnr_db:.1f} dB, smallest cosine {parity.min_cosine:.4f}, "
        f"same top-1 on {100 * parity.top1_agreement:.0f} % of {len(logits)} pictures"
    )
    return Gate.check(
        COMPRESSION, parity.sqnr_db >= limits.sqnr_db and parity.min_cosine >= limits.cosine, measured, required
    )
