"""What coremltools 9.0's reader of torch graphs lacks or gets wrong, mended in its own table of operations.

- ``alias``, which torch.export leaves where a tensor gets a second name, is unknown to it.
- ``gelu`` loses ``approximate="tanh"``, which torch.export gives by keyword: another function came out.
- ``reciprocal`` becomes ``inverse`` with its default epsilon of 1e-4: every result was a little too small.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

_TORCH = "coremltools.converters.mil.frontend.torch"


def mend_frontend() -> None:
    """Register the mended operations, once or again."""
    registry = importlib.import_module(f"{_TORCH}.torch_op_registry")
    for operation in (alias, gelu, reciprocal):
        registry.register_torch_op(operation, override=True)


def alias(context: Any, node: Any) -> None:
    """The tensor itself."""
    context.add(_inputs(context, node)[0], torch_name=node.name)


def gelu(context: Any, node: Any) -> None:
    """Exact or by tanh, as the keyword or the second argument says."""
    x, *positional = _inputs(context, node)
    keyword = _operations()._get_kwinputs(context, node, "approximate", default=[])
    stated = [getattr(value, "val", value) for value in (*positional, *keyword)]
    mode = "TANH_APPROXIMATION" if "tanh" in stated else "EXACT"
    context.add(_builder().gelu(x=x, mode=mode, name=node.name))


def reciprocal(context: Any, node: Any) -> None:
    """A division, which has no epsilon."""
    x = _inputs(context, node)[0]
    context.add(_builder().real_div(x=np.float32(1), y=x, name=node.name))


def _inputs(context: Any, node: Any) -> list[Any]:
    inputs: list[Any] = _operations()._get_inputs(context, node)
    return inputs


def _operations() -> Any:
    return importlib.import_module(f"{_TORCH}.ops")


def _builder() -> Any:
    return importlib.import_module("coremltools.converters.mil.mil").Builder
