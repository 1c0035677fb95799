"""The source of a package: a network in torch, what it answers in three precisions, and what its weights are."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evit_edge.errors import RequestError
from evit_edge.tensors import UInt8Images
from evit_edge.verification.coreml.folding import Expected, Layers
from evit_edge.verification.coreml.source import SourceGraph

_BATCH = 8


class Network:
    """A classifier that a package is held against; all that is slow is done once, when it is first asked for.

    Args:
        module: In eval mode, normalised float32 (B, 3, S, S) to logits (B, classes); left as it is. What it
            answers is the truth.
        image_size: S, pixels.
        mean: Of R, G and B, of values scaled to 0..1.
        std: The same, positive.
        form: The form of the network that was converted, if another: its weights are the package's. It computes
            the same function (which is checked), best in float64.

    Raises:
        RequestError: The module is in training mode, or mean and std are not three numbers.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        form: nn.Module | None = None,
    ) -> None:
        if module.training:
            raise RequestError(f"{type(module).__name__} is in training mode; call eval() on it first")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise RequestError(f"mean {tuple(mean)} and std {tuple(std)} given; three values each, std positive")
        self.module = module
        self.form = form
        self.image_size = image_size
        self.mean = np.asarray(mean, dtype=np.float64)
        self.std = np.asarray(std, dtype=np.float64)

    @cached_property
    def _wide(self) -> nn.Module:
        return copy.deepcopy(self.module).double()

    @cached_property
    def wide_form(self) -> nn.Module:
        """The converted form in float64."""
        return self._wide if self.form is None else copy.deepcopy(self.form).double()

    @cached_property
    def graph(self) -> SourceGraph:
        """The converted form, exported: takes seconds."""
        return SourceGraph(self.form or self.module, self.image_size)

    @cached_property
    def layers(self) -> Layers:
        """The layers of the graph, with what is folded into them."""
        return Layers(self.graph)

    def normalised(self, images: UInt8Images) -> Tensor:
        """RGB uint8 (B, S, S, 3) to float64 (B, 3, S, S)."""
        pixels = torch.from_numpy(images.astype(np.float64)).permute(0, 3, 1, 2)  # (B, 3, S, S)
        mean, std = (torch.from_numpy(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (pixels / 255 - mean) / std

    def logits(self, images: UInt8Images, dtype: torch.dtype = torch.float64) -> Tensor:
        """Answers of torch with weights and values of a type; float64 (B, classes)."""
        x = self.normalised(images).to(dtype)
        module = self._wide if dtype is torch.float64 else copy.deepcopy(self.module).to(dtype)
        with torch.inference_mode():
            return torch.cat([module(part).double() for part in torch.split(x, _BATCH)])

    def half_logits(self, images: UInt8Images) -> tuple[Tensor, str]:
        """Answers of torch in half floats, and how they were had; float64 (B, classes)."""
        try:
            return self.logits(images, torch.float16), "torch half"
        except RuntimeError:  # not every operation has a half form on the CPU
            x = self.normalised(images)
            rows = [self.graph.rounded(image[None], torch.float16) for image in x]
            return torch.cat(rows), "torch rounded to half after each operation"

    def form_logits(self, images: UInt8Images) -> Tensor:
        """Answers of the converted form in float64; (B, classes)."""
        with torch.inference_mode():
            return torch.cat([self.wide_form(part) for part in torch.split(self.normalised(images), _BATCH)])

    @cached_property
    def _names(self) -> dict[str, Expected]:
        """torch.export's names of parameters and buffers, which coremltools keeps."""
        form = self.wide_form
        named: list[tuple[str, str, Tensor]] = [
            ("p", name, tensor) for name, tensor in form.named_parameters(remove_duplicate=False)
        ]
        named += [("b", name, tensor) for name, tensor in form.named_buffers(remove_duplicate=False)]
        return {
            f"{kind}_{name.replace('.', '_')}": Expected(tensor.detach().double(), name)
            for kind, name, tensor in named
            if tensor.is_floating_point()
        }

    def by_name(self, name: str) -> list[Expected]:
        """The parameter or buffer of a name as coremltools writes it."""
        return [self._names[name]] if name in self._names else []

    def by_place(self, output: str, name: str, parameter: str) -> list[Expected]:
        """What the graph computes from parameters under a name, and what is folded into a value's operation."""
        found = []
        if (named := self.graph.node(name)) is not None and (value := self.graph.constant(named)) is not None:
            found.append(Expected(value, self.graph.origin(named)))
        if (anchored := self.graph.node(output)) is not None and parameter in ("weight", "bias"):
            found += [getattr(layer, parameter) for layer in self.layers.of(anchored)]
        return found

    def pool(self) -> Iterator[Expected]:
        """All that a program may hold: parameters, and layers with what is folded into them."""
        for expected in (*self._names.values(), *self.layers.tensors()):
            yield expected
            if expected.value.squeeze().dim() == 2:
                yield Expected(expected.value.squeeze().T, expected.origin, expected.slack)

    def scalar_behind(self, stored: float, kind: type[np.floating[Any]]) -> float | None:
        """The number of the source that a stored one was rounded from; None where there is none."""
        for group in self.graph.scalars:
            with np.errstate(over="ignore"):
                fitting = [value for value in group if float(kind(value)) == stored]
            if fitting:
                return min(fitting, key=lambda value: abs(value - stored))
        return None
