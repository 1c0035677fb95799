"""Every weight of a program against the source's: raw ones to rounding, compressed ones to half a step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evit_edge.runtime.coreml import DecodedWeight, Encoding
from evit_edge.runtime.coreml.elements import Element
from evit_edge.runtime.coreml.program import Operation
from evit_edge.verification.coreml.diagnosis import diagnose
from evit_edge.verification.coreml.folding import Expected
from evit_edge.verification.coreml.interface import Normalization
from evit_edge.verification.coreml.network import Network
from evit_edge.verification.coreml.program import ProgramView, title

_SUFFIX = re.compile(r"(_to_fp(16|32)|_(de)?quantized|_palettized|_sparsified|_cast_fp(16|32))+(_\d+)?$")
_WRAPPER = re.compile(r"^([pbc])_module_")
_ROUGH = 1 + 2.0**-9
"""Room for rounding twice, float64 to float32 to float16."""
_LARGEST_TABLE = 256
_SMALLEST = 2.0**-24
"""The smallest positive float16."""


@dataclass(frozen=True)
class Comparison:
    """One weight of the program and the source's.

    Attributes:
        name: As the program calls it.
        operation: Where it goes in.
        encoding: How it is stored.
        source: What it has to be, in its own shape; None where the source has nothing like it.
        origin: The source's parameter.
        error: Largest difference; infinity where there is no source.
        excess: Largest difference over what its encoding allows; at most 1 passes.
        diagnosis: What the stored values are, where they are wrong.
    """

    name: str
    operation: str
    encoding: str
    source: Tensor | None
    origin: str
    error: float
    excess: float
    diagnosis: str = ""

    @property
    def passed(self) -> bool:
        """Whether the program holds the source's weight."""
        return self.excess <= 1

    def __str__(self) -> str:
        where = f"{self.name} ({self.encoding}, in {self.operation})"
        if self.source is None:
            return f"{where} has no counterpart in the source"
        told = f"; {self.diagnosis}" if self.diagnosis else ""
        return f"{where} is off {self.origin} by {self.error:.2g}, {self.excess:.3g} times what is allowed{told}"


def compare_weights(
    view: ProgramView, weights: Iterable[DecodedWeight], network: Network, normalization: Normalization
) -> list[Comparison]:
    """Compare all weights of more than one element, in the program's order.

    Args:
        view: The program.
        weights: Its weights.
        network: The source.
        normalization: Of the source's input.
    """
    preparing = normalization.preparing(view)
    compared = []
    for weight in weights:
        uses = view.uses.get(weight.name, ())
        if weight.value.size < 2 or any(use.operation.outputs[0].name in preparing for use in uses):
            continue
        compared.append(_Place(view, network, weight, normalization).comparison())
    return compared


def exact_scalars(view: ProgramView, network: Network, preparing: frozenset[str]) -> dict[str, Tensor]:
    """Single numbers, such as a layer norm's epsilon, as they were before they were rounded to the program's type.

    A number of the source that rounds to the stored one stands for it; one that nothing rounds to stays as it is,
    and whether it is right is for the answers to tell. Whole numbers and halves are what they are.
    """
    exact: dict[str, Tensor] = {}
    for name, literal in view.literals.items():
        used = view.uses.get(name, ())
        if (
            not used
            or literal.array is None
            or literal.array.size != 1
            or literal.array.dtype not in (np.float16, np.float32)
        ):
            continue
        stored = float(literal.array.reshape(-1)[0])
        if (2 * stored).is_integer() or any(use.operation.outputs[0].name in preparing for use in used):
            continue
        if (found := network.scalar_behind(stored, _float_type(literal.array.dtype))) is not None:
            exact[name] = torch.full(literal.array.shape, found, dtype=torch.float64)
    return exact


def source_values(compared: Iterable[Comparison]) -> Mapping[str, Tensor]:
    """The source's weights by the program's names, for an evaluator."""
    return {entry.name: entry.source for entry in compared if entry.source is not None}


class _Place:
    """A stored weight with all that the source may have for it."""

    def __init__(
        self, view: ProgramView, network: Network, weight: DecodedWeight, normalization: Normalization
    ) -> None:
        self._network = network
        self._weight = weight
        self._factor = torch.from_numpy(normalization.remaining(normalization.found(view)))
        self._preparing = normalization.preparing(view)
        self._stored = torch.from_numpy(np.array(weight.value, dtype=np.float64))
        uses = view.uses.get(weight.name, ())
        self._use = uses[0] if uses else None
        self._is_known = False

    def comparison(self) -> Comparison:
        attempts = [self._against(expected) for expected in self._named()]
        for attempt in attempts:  # the likeliest first: a fold that changes little leaves two that would do
            if attempt.passed:
                return attempt
        best = min(attempts, key=lambda entry: entry.excess, default=None)
        if not self._is_known:  # what has a parameter's own name is compared with no other
            for attempt in map(self._against, self._valued()):
                if attempt.passed:
                    return attempt
        if best is None and _is_neutral(self._stored):
            return self._result(self._stored, "nothing: zeros or ones", 0.0, 0.0, "")
        return best if best is not None else self._result(None, "", np.inf, np.inf, "")

    def _named(self) -> list[Expected]:
        """What the source has under this name, and in the place where the operation stands."""
        base = _WRAPPER.sub(r"\1_", _SUFFIX.sub("", self._weight.name))
        found = self._fitting(self._network.by_name(base))
        self._is_known = bool(found)
        if self._use is not None and not any(self._against(expected).passed for expected in found):
            output = self._use.operation.outputs[0].name
            found += self._fitting(self._network.by_place(output, base, self._use.parameter))
        return found

    def _fitting(self, found: list[Expected]) -> list[Expected]:
        """Those of the right size; with the rest of the normalisation, where the operation reads the image."""
        if self._use is not None and self._reads_image(self._use.operation):
            found = [self._for_image(expected) for expected in found]
        return [expected for expected in found if expected.value.numel() == self._stored.numel()]

    def _valued(self) -> list[Expected]:
        """All of the source's weights of the same shape, as they are and transposed."""
        return [e for e in self._network.pool() if _squeezed(e.value) == _squeezed(self._stored)]

    def _reads_image(self, operation: Operation) -> bool:
        bound = operation.inputs.get("x", ())
        return self._weight.value.ndim == 4 and bool(bound) and bound[0] in self._preparing

    def _for_image(self, expected: Expected) -> Expected:
        """With the part of the normalisation that a colour image cannot carry."""
        value = expected.value
        if value.dim() != 4 or 3 % value.shape[1]:
            return expected
        groups = self._factor.reshape(-1, value.shape[1])  # (groups, 3/groups)
        rows = groups.repeat_interleave(value.shape[0] // groups.shape[0], dim=0)  # (O, 3/groups)
        return expected.scaled(rows[:, :, None, None])

    def _against(self, expected: Expected) -> Comparison:
        source = expected.value.reshape(self._stored.shape)
        error = (self._stored - source).abs()
        allowed = self._allowed(source, expected.slack)
        excess = torch.nan_to_num(error / allowed, nan=np.inf)
        worst = float(excess.max())
        told = "" if worst <= 1 else diagnose(self._stored, source, allowed)
        return self._result(source, expected.origin, float(torch.nan_to_num(error, nan=np.inf).max()), worst, told)

    def _allowed(self, source: Tensor, slack: Tensor | None) -> Tensor:
        """Largest difference that the encoding explains, for each element."""
        rounding = half_spacing(source, self._weight.element)
        if slack is not None:
            rounding = rounding + slack.reshape(source.shape)
        table = torch.from_numpy(np.unique(self._stored.numpy()))
        if self._weight.encoding is Encoding.PALETTE and len(table) <= _LARGEST_TABLE:
            return 2 * rounding + to_nearest(source, table)  # a source near the middle may have been rounded over
        return rounding + torch.from_numpy(np.array(np.broadcast_to(self._weight.half_step, source.shape)))

    def _result(self, source: Tensor | None, origin: str, error: float, excess: float, told: str) -> Comparison:
        operation = title(self._use.operation) if self._use else "no operation"
        encoding = f"{self._weight.element} {self._weight.encoding}"
        return Comparison(self._weight.name, operation, encoding, source, origin, error, excess, told)


def half_spacing(source: Tensor, element: Element) -> Tensor:
    """Half the distance between neighbouring numbers of a type at each value: what rounding may change."""
    kind = np.float16 if element is Element.FLOAT16 else np.float32
    with np.errstate(over="ignore"):
        spacing = np.spacing(np.abs(source.numpy()).astype(kind)).astype(np.float64)
    rounding = np.nan_to_num(spacing, nan=np.inf) / 2 * _ROUGH
    if element is Element.FLOAT16:  # coremltools raises what would become 0 to the smallest number
        rounding = np.where(np.abs(source.numpy()) < _SMALLEST, _SMALLEST * _ROUGH, rounding)
    return torch.from_numpy(rounding)


def _float_type(dtype: np.dtype[np.generic]) -> type[np.floating[Any]]:
    return np.float16 if dtype == np.float16 else np.float32


def to_nearest(source: Tensor, table: Tensor) -> Tensor:
    """Distance of each value to the nearest entry of a sorted table."""
    above = torch.searchsorted(table, source).clamp(1, max(1, len(table) - 1))
    below = table[above - 1]
    return torch.minimum((source - below).abs(), (source - table[above.clamp(max=len(table) - 1)]).abs())


def _is_neutral(values: Tensor) -> bool:
    """All zeros or all ones: what passes of coremltools fill in. Whether they belong there the answers tell."""
    return bool((values == 0).all()) or bool((values == 1).all())


def _squeezed(tensor: Tensor) -> tuple[int, ...]:
    return tuple(size for size in tensor.shape if size != 1)
