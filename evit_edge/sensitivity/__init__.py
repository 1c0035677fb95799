"""Which operators int8 hurts: each is rounded alone, and the answers are compared with the float model's."""

from __future__ import annotations

from collections.abc import Callable

from evit_edge.errors import require_installed
from evit_edge.sensitivity.report import SensitivityReport, SensitivityRequest

__all__ = ["SensitivityReport", "SensitivityRequest", "sensitivity"]


def sensitivity(
    request: SensitivityRequest,
    tell: Callable[[str, float], None] = lambda _what, _share: None,
    remark: Callable[[str], None] = lambda _text: None,
) -> SensitivityReport:
    """Measure what each operator of a classifier costs when it alone is int8.

    Args:
        request: The model and the photos.
        tell: Called with what is being done and the share of it that is done, 0..1.
        remark: Called with what the user should read, such as photos that were left out.

    Raises:
        MissingExtraError: The extra ``convert`` is not installed.
        CheckpointError: The weights cannot be read or used.
        DataError: The photos cannot be used.
        ConversionError: The model cannot be exported.
    """
    for module in ("torch", "safetensors", "litert_torch", "ai_edge_quantizer"):
        require_installed(module, extra="convert")
    from evit_edge.sensitivity.measuring import measure

    return measure(request, tell, remark)
