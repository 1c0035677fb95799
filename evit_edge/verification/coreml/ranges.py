"""Gates on quantized activations: are their ranges the calibrated ones, and do values fit into them?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor

from evit_edge.runtime.coreml import Evaluator, Precision
from evit_edge.verification.coreml.case import Case
from evit_edge.verification.coreml.codes import CodeBook, Codes, code_book
from evit_edge.verification.coreml.limits import Limits
from evit_edge.verification.coreml.program import title
from evit_edge.verification.gates import Gate

_NEAR = 0.01
"""Room for a scale that was rounded to float16, and for the choice of 127 or 128 codes."""
_PICTURES = 4
_SHOWN = 3
_PAIRS, _RANGES, _CLIPPING = "activation codes", "activation ranges", "clipping"


def range_gates(case: Case, ranges: Mapping[str, tuple[float, float]] | None, limits: Limits) -> list[Gate]:
    """All gates of quantized activations; none for a program without."""
    book = code_book(case.view)
    if not book.codes:
        return []
    return [_pair_gate(book), _range_gate(book.codes, ranges), _clipping_gate(case, book.codes, limits)]


def _pair_gate(book: CodeBook) -> Gate:
    """Codes are read as what was written."""
    required = "codes are read as the values that they were written for"
    told = "; ".join(book.faults[:_SHOWN]) if book.faults else f"all {book.read}"
    return Gate.check(_PAIRS, not book.faults, told, required)


def _range_gate(quantized: list[Codes], ranges: Mapping[str, tuple[float, float]] | None) -> Gate:
    """Each range is the calibrated one; wider only where several values share one."""
    required = f"the calibrated range of each value, to {100 * _NEAR:g} %"
    if ranges is None:
        return Gate.skip(_RANGES, "no calibrated ranges given", required)
    known = [codes for codes in quantized if codes.value in ranges]
    extents = sorted(max(-low, high) for low, high in ranges.values())
    wrong = [codes for codes in known if not _fits(codes, ranges[codes.value], extents)]
    if not wrong:
        told = f"all {len(known)} of known values"
        return Gate.check(_RANGES, bool(known), told if known else "none of these values was calibrated", required)
    worst = [
        f"{title(codes.operation)} of {codes.value} has {codes.low:.4g}..{codes.high:.4g}, "
        f"calibrated were {ranges[codes.value][0]:.4g}..{ranges[codes.value][1]:.4g}"
        for codes in wrong[:_SHOWN]
    ]
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Gate.check(_RANGES, False, f"{len(wrong)} of {len(known)}: {'; '.join(worst)}{more}", required)


def _fits(codes: Codes, span: tuple[float, float], extents: list[float]) -> bool:
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    room = _NEAR * max(-low, high) + codes.scale
    if codes.low > low + room or codes.high < high - room:
        return False
    reach = max(-codes.low, codes.high)
    return any(abs(reach - extent) <= _NEAR * extent + codes.scale for extent in extents)


def _clipping_gate(case: Case, quantized: list[Codes], limits: Limits) -> Gate:
    """Values of real pictures have codes."""
    required = f"at most {100 * limits.clipped:g} % of any value's elements outside its range"
    outside: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    wanted: dict[str, list[Codes]] = defaultdict(list)
    for codes in quantized:
        wanted[codes.value].append(codes)

    def observe(name: str, value: Tensor) -> None:
        for codes in wanted.get(name, ()):
            count = outside[codes.operation.outputs[0].name]
            half = codes.scale / 2
            count[0] += float(((value < codes.low - half) | (value > codes.high + half)).sum())
            count[1] += value.numel()

    Evaluator(case.float_package, Precision.FLOAT32, weights=case.replacements).run(
        case.images[:_PICTURES], observe
    )
    parts = [bad / max(1.0, seen) for bad, seen in (outside[c.operation.outputs[0].name] for c in quantized)]
    part = max(parts)
    worst = quantized[parts.index(part)]
    told = f"{100 * part:.2g} % of {worst.value} outside {worst.low:.4g}..{worst.high:.4g}"
    return Gate.check(_CLIPPING, part <= limits.clipped, told, required)
