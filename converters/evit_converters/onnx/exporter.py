"""Any ``torch.nn.Module`` to a float ONNX model, by way of torch.export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from evit_converters.checks import check_module, first_line
from evit_converters.errors import ExportError
from evit_converters.onnx.graph import anonymous
from evit_converters.onnx.library import library
from evit_converters.quiet import quiet

INPUT_NAME = "image"
OPSET = 18


def export(module: nn.Module, example: Tensor, *, output_name: str = "scores") -> bytes:
    """Convert a module of one input and one output to a float model.

    Args:
        module: In eval mode; any layout and input type.
        example: An input of batch size 1, of the shape and dtype that the model is to have; its values do not
            matter. Where the module takes other batch sizes, so does the model.
        output_name: What the output is called.

    Returns:
        The .onnx, opset 18. Its input is ``image``; equal modules give equal bytes, since nothing in it tells
        where and from which lines of code it was made.

    Raises:
        ModuleError: The module is in training mode, has NaN or infinite weights, or cannot run ``example``.
        ExportError: torch cannot convert it, or onnxscript is not installed.
    """
    check_module(module, example)
    library("onnxscript")
    free = _takes_pairs(module, example)
    try:
        return anonymous(_program(module, example, output_name, free=free))
    except ExportError:
        if not free:
            raise
    return anonymous(_program(module, example, output_name, free=False))


def _takes_pairs(module: nn.Module, example: Tensor) -> bool:
    with torch.no_grad():
        try:
            answered = module(torch.cat([example, example]))
        except Exception:  # whatever the user's module raises for a batch that it was not written for
            return False
    return isinstance(answered, Tensor) and len(answered) == 2


def _program(module: nn.Module, example: Tensor, output_name: str, *, free: bool) -> Any:
    """The ModelProto, with a free batch size or that of the example."""
    # A free size is traced with two: one would be taken for a constant.
    traced = torch.cat([example, example]) if free else example
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (traced,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[output_name],
                dynamic_shapes=shapes,
                verbose=False,
            )
            if program is None:
                raise ExportError("torch.onnx gave nothing")
            return program.model_proto
    except Exception as exc:  # torch, onnxscript and onnx raise errors of their own alike
        raise ExportError(f"torch.onnx cannot convert {type(module).__name__}: {first_line(exc)}") from exc
