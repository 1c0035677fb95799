"""The seam to coremltools: imported in silence, once, with what it lacks added."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from evit_converters.errors import ExportError
from evit_converters.quiet import quiet


@cache
def coremltools() -> Any:
    """The module, without what it says of torch's version and of the parts that only a Mac has.

    Raises:
        ExportError: It is not installed.
    """
    try:
        with quiet():
            module = importlib.import_module("coremltools")
            _register_alias()
    except ImportError as exc:
        raise ExportError("coremltools is not installed; pip install 'coremltools>=9,<10'") from exc
    return module


def internal(name: str) -> Any:
    """A submodule of coremltools, by its name below the package."""
    coremltools()
    with quiet():
        return importlib.import_module(f"coremltools.{name}")


def _register_alias() -> None:
    """Teach it the operation ``alias``, which torch.export leaves where a tensor gets a second name."""
    registry = importlib.import_module("coremltools.converters.mil.frontend.torch.torch_op_registry")
    operations = importlib.import_module("coremltools.converters.mil.frontend.torch.ops")

    def alias(context: Any, node: Any) -> None:
        context.add(operations._get_inputs(context, node, expected=1)[0], torch_name=node.name)

    if "alias" not in registry._TORCH_OPS_REGISTRY:
        registry.register_torch_op(alias)
