"""PyTorch image classifiers to Core ML packages, on any machine that runs coremltools.

The usual way: :func:`export` a module, :func:`quantize` the program, :func:`save` it. Importing this package
loads neither torch nor coremltools: each name is imported from its module when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evit_converters.coreml.advice import Advice, Concern, advise
    from evit_converters.coreml.exporter import export
    from evit_converters.coreml.interface import Interface, OutputKind
    from evit_converters.coreml.modes import (
        ComputePrecision,
        DeploymentTarget,
        Quantization,
        check_target,
        lowest_target,
    )
    from evit_converters.coreml.package import save
    from evit_converters.coreml.program import Program
    from evit_converters.coreml.quantization import (
        QuantizableWeight,
        activation_names,
        quantizable_weights,
        quantize,
    )

__all__ = [
    "Advice",
    "ComputePrecision",
    "Concern",
    "DeploymentTarget",
    "Interface",
    "OutputKind",
    "Program",
    "QuantizableWeight",
    "Quantization",
    "activation_names",
    "advise",
    "check_target",
    "export",
    "lowest_target",
    "quantizable_weights",
    "quantize",
    "save",
]

_HOMES = {
    "Advice": "advice",
    "ComputePrecision": "modes",
    "Concern": "advice",
    "DeploymentTarget": "modes",
    "Interface": "interface",
    "OutputKind": "interface",
    "Program": "program",
    "Quantization": "modes",
    "activation_names": "quantization",
    "advise": "advice",
    "check_target": "modes",
    "export": "exporter",
    "lowest_target": "modes",
    "QuantizableWeight": "quantization",
    "quantizable_weights": "quantization",
    "quantize": "quantization",
    "save": "package",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
