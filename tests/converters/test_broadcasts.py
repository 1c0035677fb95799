"""Expansions and repetitions between convolutions convert to what the module computes.

Channels, height and width of 8 are what litert-torch answered wrongly without a word; others it refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evit_converters import tflite
from evit_converters.tflite.broadcasts import without_repetition
from evit_converters.tflite.graph import Graph

Answer = Callable[[bytes, np.ndarray], np.ndarray]
Middle = Callable[[Tensor, Tensor], Tensor]


class Between(nn.Module):
    """Two convolutions, an operation on their results, and a third."""

    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Conv2d(8, 8, 1) for _ in range(3))
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.middle(self.first(x), self.second(x)))
        return out


def rows(x: Tensor) -> Tensor:
    return x.sum(3, keepdim=True)  # (1, 8, H, 1)


# What computes it, and whether the repetition is left to the operator that reads it.
MIDDLES: dict[str, tuple[Middle, bool]] = {
    "expand_as": (lambda x, y: x * rows(y).expand_as(x), True),
    "expand": (lambda x, y: rows(y).expand(-1, -1, -1, x.shape[3]) - x, True),
    "broadcast_to": (lambda x, y: torch.maximum(rows(y).broadcast_to(x.shape), x), True),
    "gate": (lambda x, y: x * y.mean((2, 3)).sigmoid()[:, :, None, None].expand_as(x), True),
    "both": (lambda x, y: rows(y).expand_as(x) * x.sum(2, keepdim=True).expand_as(x), True),
    "with itself": (lambda x, y: rows(y).expand_as(x) * rows(y).expand_as(x), False),
    "vector": (lambda x, y: x * y.mean((0, 1, 2)).repeat(1, 8, x.shape[2], 1), True),
    "vector, joined": (lambda x, y: torch.cat([y.mean((0, 1, 2)).repeat(1, 8, 2, 1), x], 2), False),
    "repeat of one": (lambda x, y: x + rows(y).repeat(1, 1, 1, x.shape[3]), True),
    "repeat": (lambda x, y: x.repeat(1, 1, 2, 3), False),
    "tile": (lambda x, y: x.tile(2, 1), False),
    "relu": (lambda x, y: x * rows(y).expand_as(x).relu(), False),
    "comparison": (lambda x, y: torch.where(rows(y).expand_as(x) > 0, x, y), False),
    "join": (lambda x, y: torch.cat([rows(y).expand_as(x), x], 2), False),
    "alone": (lambda x, y: rows(y).expand_as(x), False),
}


def converted(module: nn.Module, x: Tensor, answer: Answer) -> set[str]:
    """Kinds of operators of the model, which answers as the module does."""
    model = tflite.export(module, x)
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(answer(model, x.numpy()), expected, rtol=1e-4, atol=1e-5)
    graph = Graph(model)
    return {graph.kind(operator) for operator in graph.operators}


@pytest.mark.parametrize(("middle", "left_to_reader"), MIDDLES.values(), ids=MIDDLES)
def test_repetition_between_convolutions(middle: Middle, left_to_reader: bool, answer: Answer) -> None:
    torch.manual_seed(0)
    kinds = converted(Between(middle).eval(), torch.randn(1, 8, 8, 8), answer)
    assert "BROADCAST_TO" not in kinds
    assert ("CONCATENATION" in kinds) is not left_to_reader


@pytest.mark.parametrize("name", ["expand_as", "gate", "join"])
def test_unequal_sizes(name: str, answer: Answer) -> None:
    torch.manual_seed(0)
    converted(Between(MIDDLES[name][0]).eval(), torch.randn(1, 8, 4, 16), answer)


@pytest.mark.parametrize(
    "module",
    [Between(torch.mul), Between(lambda x, y: x * rows(y)), Between(lambda x, y: x.expand_as(y))],
    ids=["no repetition", "broadcast", "same size"],
)
def test_a_module_that_repeats_nothing_is_converted_as_it_is(module: nn.Module) -> None:
    assert without_repetition(module.eval(), torch.randn(1, 8, 8, 8)) is module


def test_the_module_stays_as_it_was() -> None:
    module, x = Between(MIDDLES["expand_as"][0]).eval(), torch.randn(1, 8, 8, 8)
    before = module(x)
    changed = without_repetition(module, x)
    assert changed is not module
    torch.testing.assert_close(changed(x), before)
    torch.testing.assert_close(module(x), before)
