"""Any ``torch.nn.Module`` to a float .tflite, by way of litert-torch and the rewrites."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor, nn

from evit_converters.errors import ExportError, ModuleError
from evit_converters.tflite.quiet import quiet
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
            content = bytes(import_module("litert_torch").convert(module, (example,)).model_content())
    except ImportError as exc:
        raise ExportError("litert-torch is not installed; it has wheels for Linux only") from exc
    except Exception as exc:  # litert-torch raises errors of torch, MLIR and its own alike
        raise ExportError(f"litert-torch cannot convert {type(module).__name__}: {_first_line(exc)}") from exc
    return rewrite(content)


def check_module(module: nn.Module, example: Tensor) -> None:
    """Find what would make a conversion fail late or a model answer nonsense.

    Raises:
        ModuleError: Training mode; NaN or infinity in a parameter or buffer, which is named; or the module
            does not map ``example`` to one tensor.
    """
    if module.training:
        raise ModuleError("the module is in training mode; call .eval() on it first")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ModuleError(f"{name} holds {bad} NaN or infinite values of {tensor.numel()}; check the weights")
    try:
        with torch.no_grad():
            output = module(example)
    except Exception as exc:  # whatever the user's module raises
        shape = tuple(example.shape)
        raise ModuleError(
            f"the module cannot run an input of {example.dtype} {shape}: {_first_line(exc)}"
        ) from exc
    if not isinstance(output, torch.Tensor):
        raise ModuleError(f"the module returns {type(output).__name__}; one tensor is needed")


def _first_line(exc: Exception) -> str:
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:300]
