"""The seams to onnx, onnxscript and onnxruntime: each said to be missing by the name of what to install."""

from __future__ import annotations

import importlib
from typing import Any

from evit_converters.errors import ExportError
from evit_converters.quiet import quiet


def library(name: str) -> Any:
    """Import one of them, or a submodule of it, in silence.

    Raises:
        ExportError: It is not installed.
    """
    try:
        with quiet():
            return importlib.import_module(name)
    except ImportError as exc:
        package = name.partition(".")[0]
        raise ExportError(f"{package} is not installed; pip install onnx onnxscript onnxruntime") from exc
