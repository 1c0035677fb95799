"""PyTorch image classifiers to ONNX models for ONNX Runtime.

The usual way: :func:`export` a module, collect ranges with :func:`activation_runner`, :func:`quantize`, then
:func:`describe`. Importing this package loads neither torch nor onnx: each name is imported from its module when
it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evit_converters.onnx.activations import activation_runner
    from evit_converters.onnx.exporter import export
    from evit_converters.onnx.graph import check, describe
    from evit_converters.onnx.modes import Quantization
    from evit_converters.onnx.quantization import activation_names, quantize

__all__ = [
    "Quantization",
    "activation_names",
    "activation_runner",
    "check",
    "describe",
    "export",
    "quantize",
]

_HOMES = {
    "Quantization": "modes",
    "activation_names": "quantization",
    "activation_runner": "activations",
    "check": "graph",
    "describe": "graph",
    "export": "exporter",
    "quantize": "quantization",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
