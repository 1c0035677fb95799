"""What is looked at before any conversion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evit_converters.errors import ModuleError


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
        raise ModuleError(f"the module cannot run an input of {example.dtype} {shape}: {first_line(exc)}") from exc
    if not isinstance(output, torch.Tensor):
        raise ModuleError(f"the module returns {type(output).__name__}; one tensor is needed")


def first_line(exc: Exception) -> str:
    """What an exception says, shortened to a line."""
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:300]
