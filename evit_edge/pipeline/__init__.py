"""The main road from a checkpoint to a proved artefact: ``convert(ConvertRequest(...))``."""

from __future__ import annotations

from collections.abc import Callable

from evit_edge.errors import require_installed
from evit_edge.pipeline.request import (
    Budget,
    ConvertRequest,
    ConvertResult,
    Progress,
    Stage,
    Target,
    Tuning,
    needs_ranges,
)

__all__ = [
    "Budget",
    "ConvertRequest",
    "ConvertResult",
    "Progress",
    "Stage",
    "Target",
    "Tuning",
    "convert",
    "needs_ranges",
]


_MODULES = {Target.TFLITE: ("litert_torch", "ai_edge_quantizer"), Target.COREML: ("coremltools",)}


def convert(request: ConvertRequest, tell: Callable[[Progress], None] = lambda _: None) -> ConvertResult:
    """Convert a classifier and prove that the file answers like it.

    Writes ``NAME-int8.tflite`` or ``.mlpackage`` (or ``-fp16``, ``-fp32`` and so on) into ``request.output``, and
    beside it, with its name in front, ``.json``, ``.golden.npz`` and, where photos were calibrated with,
    ``.calibration.json``: all of them, or none.

    Args:
        request: What to do.
        tell: Called at the start and end of each stage, and for each photo.

    Raises:
        MissingExtraError: The extra ``convert`` is not installed.
        CheckpointError: The weights cannot be read or used.
        DataError: The photos or labels cannot be used.
        RequestError: The request does not fit the model.
        ConversionError: The model could not be exported or quantized.
        BudgetError: No file that was tried keeps ``request.budget``; carries what was found.
        VerificationError: The file does not answer like the model.
        OutputError: The results cannot be written, or are there already.
    """
    for module in ("torch", "safetensors", *_MODULES[request.target]):
        require_installed(module, extra="convert")
    from evit_edge.pipeline import road

    return road.convert(request, tell)
