"""Exact normalisation: one factor and three offsets in front of the network, the rest in its weights.

Core ML scales an image by one factor for all colours, ``s * x + bias``. With ``s = 1 / (255 * mean(std))`` and
``bias = -255 * mean_c * s`` the result is the normalised image times ``std_c / mean(std)``, and zero stays
where the network pads with zeros. What is missing is a factor for each colour, which goes into the weights of
the first convolution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_converters.coreml.interface import Interface

CONVOLUTIONS = frozenset({"aten.conv2d.default", "aten.conv2d.padding", "aten.convolution.default"})


def image_scale(interface: Interface) -> tuple[float, Tensor]:
    """Factor of the image's values, and what is left for each colour.

    Returns:
        The factor, a number that float32 holds exactly, and float64 (3,): ``1 / (255 * std_c * factor)``.
    """
    std = torch.tensor(interface.std, dtype=torch.float64)
    factor = float(np.float32(1 / (255 * float(std.mean()))))
    return factor, 1 / (255 * std * factor)


class Scored(nn.Module):
    """A classifier with a factor for each colour in front, or a softmax behind, or both."""

    scale: Tensor

    def __init__(self, module: nn.Module, *, softmax: bool, scale: Tensor | None = None) -> None:
        super().__init__()
        self.module = module
        self.softmax = softmax
        self.register_buffer("scale", None if scale is None else scale.float()[:, None, None])  # (3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Image (1, 3, S, S) to scores (1, classes)."""
        x = image if self.scale is None else image * self.scale  # (1, 3, S, S)
        logits = self.module(x)  # (1, classes)
        return F.softmax(logits, dim=-1) if self.softmax else logits  # (1, classes)


def fold_into_convolution(exported: Any, rest: Tensor) -> bool:
    """Multiply the weights of the first convolution by a factor for each colour.

    Args:
        exported: A ``torch.export.ExportedProgram`` of one image; its table of weights is changed, the module
            that it was made from is not.
        rest: float64 (3,).

    Returns:
        False, and nothing is changed, where the image is read by anything but convolutions with weights of their
        own.
    """
    signature = exported.graph_signature
    nodes = {node.name: node for node in exported.graph.nodes}
    readers = list(nodes[signature.user_inputs[0]].users)
    weights = []
    for reader in readers:
        weight = reader.args[1] if str(reader.target) in CONVOLUTIONS else None
        if weight is None or weight.name not in signature.inputs_to_parameters or len(weight.users) > 1:
            return False
        weights.append(signature.inputs_to_parameters[weight.name])
    for name in weights:
        weight = exported.state_dict[name]
        scaled = weight.double() * _for_input_channels(rest, weight)
        exported.state_dict[name] = nn.Parameter(scaled.to(weight.dtype), requires_grad=False)
    return True


def _for_input_channels(rest: Tensor, weight: Tensor) -> Tensor:
    """The factor of each weight (C, 3/groups, k, k): output channels come in ``groups`` equal parts."""
    inputs = rest.reshape(-1, weight.shape[1])  # (groups, 3/groups)
    return inputs.repeat_interleave(weight.shape[0] // inputs.shape[0], dim=0)[:, :, None, None]
