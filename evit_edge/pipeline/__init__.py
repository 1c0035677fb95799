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


_MODULES = {
    Target.TFLITE: ("convert", ("litert_torch", "ai_edge_quantizer")),
    Target.COREML: ("convert", ("coremltools",)),
    Target.ONNX: ("onnx", ("onnx", "onnxscript", "onnxruntime")),
}
"""For each format: the extra that installs what it needs beside torch, and what that is."""


def convert(request: ConvertRequest, tell: Callable[[Progress], None] = lambda _: None) -> ConvertResult:
    """Convert a classifier and prove that the file answers like it.

    Writes ``NAME-int8.tflite``, ``.mlpackage`` or ``.onnx`` (or ``-fp16``, ``-fp32`` and so on) into
    ``request.output``, and beside it, with its name in front, ``.json``, ``.golden.npz`` and, where photos were
    calibrated with, ``.calibration.json``: all of them, or none.

    Args:
        request: What to do.
        tell: Called at the start and end of each stage, and for each photo.

    Raises:
        MissingExtraError: The extra ``convert``, or ``onnx``, is not installed.
        CheckpointError: The weights cannot be read or used.
        DataError: The photos or labels cannot be used.
        RequestError: The request does not fit the model.
        ConversionError: The model could not be exported or quantized.
        BudgetError: No file that was tried keeps ``request.budget``; carries what was found.
        VerificationError: The file does not answer like the model.
        OutputError: The results cannot be written, or are there already.
    """
    extra, modules = _MODULES[request.target]
    for module in ("torch", "safetensors"):
        require_installed(module, extra="convert")
    for module in modules:
        require_installed(module, extra=extra)
    from evit_edge.pipeline import road

    return road.convert(request, tell)
