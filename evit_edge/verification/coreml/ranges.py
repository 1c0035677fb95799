"""Gates on the ranges of quantized activations: are they the calibrated ones, and do values fit into them?"""

from __future__ import annotations

from collections.abc import Mapping

from evit_edge.verification.coreml.case import Case
from evit_edge.verification.coreml.limits import Limits
from evit_edge.verification.gates import Gate


def range_gates(case: Case, ranges: Mapping[str, tuple[float, float]] | None, limits: Limits) -> list[Gate]:
    return []
