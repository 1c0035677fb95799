"""What is looked at before any conversion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from evit_converters.errors import ModuleError


def check_module(module: nn.Module, example: Tensor) -> None:
    """Find what would make a conversion fail late or a model answer nonsense.

    Raises:
        ModuleError: Training mode; NaN or infinity in a parameter or buffer, or in what the module answers to
            ``example``: the parameter or the layer is named; or the module does not map ``example`` to one tensor.
    """
    if module.training:
        raise ModuleError("the module is in training mode; call .eval() on it first")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not _finite(tensor):
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
    if not _finite(output):
        raise ModuleError(
            f"the module answers NaN or infinity: {broken_layer(module, example)}; check the weights"
        )


def broken_layer(module: nn.Module, example: Tensor) -> str | None:
    """Find where NaN or infinity first comes up in a forward pass.

    Args:
        module: In eval mode.
        example: An input that it runs.

    Returns:
        Name, type and count, such as ``blocks.1.bn (BatchNorm2d) gives 3 NaN or infinite values of 8``; None where
        every layer's output is finite. Of a layer's own arithmetic outside its parts the layer is named; of the
        outermost module's, ``the module itself``.
    """
    found: list[str] = []

    def looking(name: str, layer: nn.Module) -> Callable[..., None]:
        def look(_layer: nn.Module, _given: object, output: object) -> None:
            if not found and isinstance(output, Tensor) and not _finite(output):
                bad = int((~torch.isfinite(output)).sum())
                what = f"{name} ({type(layer).__name__})" if name else "the module itself"
                found.append(f"{what} gives {bad} NaN or infinite values of {output.numel()}")

        return look

    hooks = [layer.register_forward_hook(looking(name, layer)) for name, layer in module.named_modules()]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def first_line(exc: Exception) -> str:
    """What an exception says, shortened to a line."""
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:300]
