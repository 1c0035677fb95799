"""Core ML packages without Apple software: a reader of ``.mlpackage`` and an evaluator of ML Programs on torch.

Importing this package loads neither torch nor coremltools: each name is imported from its module when it is first
asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evit_edge.runtime.coreml.apple import ComparedRunner, Comparison, open_coreml
    from evit_edge.runtime.coreml.encodings import Encoding
    from evit_edge.runtime.coreml.evaluator import Evaluator
    from evit_edge.runtime.coreml.interface import ColorOrder, ImageInput, Output, OutputType
    from evit_edge.runtime.coreml.package import Package, read_package
    from evit_edge.runtime.coreml.precision import Precision
    from evit_edge.runtime.coreml.runner import CoreMLRunner
    from evit_edge.runtime.coreml.weights import DecodedWeight, decoded_weights

__all__ = [
    "ColorOrder",
    "ComparedRunner",
    "Comparison",
    "CoreMLRunner",
    "DecodedWeight",
    "Encoding",
    "Evaluator",
    "ImageInput",
    "Output",
    "OutputType",
    "Package",
    "Precision",
    "decoded_weights",
    "open_coreml",
    "read_package",
]

_HOMES = {
    "ColorOrder": "interface",
    "ComparedRunner": "apple",
    "Comparison": "apple",
    "CoreMLRunner": "runner",
    "DecodedWeight": "weights",
    "Encoding": "encodings",
    "Evaluator": "evaluator",
    "ImageInput": "interface",
    "Output": "interface",
    "OutputType": "interface",
    "Package": "package",
    "Precision": "precision",
    "decoded_weights": "weights",
    "open_coreml": "apple",
    "read_package": "package",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
