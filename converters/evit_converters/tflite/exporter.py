"""Any ``torch.nn.Module`` to a float .tflite, by way of litert-torch and the rewrites."""

from __future__ import annotations

from importlib import import_module

from torch import Tensor, nn

from evit_converters.checks import check_module, first_line
from evit_converters.errors import ExportError
from evit_converters.quiet import quiet
from evit_converters.tflite.broadcasts import without_repetition
from evit_converters.tflite.rewrite import rewrite


def export(module: nn.Module, example: Tensor) -> bytes:
    """Convert a module of one input and one output to a float model.

    Args:
        module: In eval mode; any layout and input type that litert-torch accepts.
        example: An input of the shape and dtype that the model is to have; its values do not matter.

    Returns:
        The .tflite. Input and output have the module's shapes and types; equal modules give equal bytes.

    Raises:
        ModuleError: The module is in training mode, has NaN or infinite weights, or cannot run ``example``.
        ExportError: litert-torch cannot convert it.
    """
    check_module(module, example)
    try:
        with quiet():
            converter = import_module("litert_torch")
            content = bytes(converter.convert(without_repetition(module, example), (example,)).model_content())
    except ImportError as exc:
        raise ExportError("litert-torch is not installed; it has wheels for Linux only") from exc
    except Exception as exc:  # litert-torch raises errors of torch, MLIR and its own alike
        raise ExportError(f"litert-torch cannot convert {type(module).__name__}: {first_line(exc)}") from exc
    return rewrite(content)
