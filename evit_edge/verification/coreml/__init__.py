"""The proof that a Core ML package computes a network's function, on any machine: no Apple software is needed.

Importing this package loads neither torch nor coremltools: each name is imported from its module when it is first
asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evit_edge.verification.coreml.interface import Claims
    from evit_edge.verification.coreml.limits import Limits
    from evit_edge.verification.coreml.network import Network
    from evit_edge.verification.coreml.proof import prove

__all__ = ["Claims", "Limits", "Network", "prove"]

_HOMES = {
    "Claims": "interface",
    "Limits": "limits",
    "Network": "network",
    "prove": "proof",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
