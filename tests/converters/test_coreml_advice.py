"""The static advice counts what is there, and says what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from evit_converters import coreml
from evit_converters.coreml import Concern, Interface, OutputKind, Program
from evit_converters.coreml.advice import REASONS
from evit_converters.errors import ModelFileError

LOGITS = Interface(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), output_kind=OutputKind.LOGITS)


class Traced(nn.Module):
    """One line between the image and its mean."""

    def __init__(self, line: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.line = line

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x).flatten(1).mean(1, keepdim=True)


def windows(x: Tensor) -> Tensor:
    """Cut as by a window partition: five dimensions and a transpose."""
    return x.reshape(3, 4, 8, 4, 8).transpose(2, 3).reshape(1, 48, 64)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (torch.relu, {}),
        (
            lambda x: x.reshape(1, 3, 1, 1024).transpose(2, 3) @ x.reshape(1, 3, 1, 1024),
            {Concern.DYNAMIC_MATMUL: 1},
        ),
        (lambda x: x @ torch.arange(32.0)[:, None].expand(32, 4), {}),
        (lambda x: torch.relu(x.permute(0, 2, 3, 1)), {Concern.TRANSPOSE: 1}),
        (lambda x: x.flatten(2).relu(), {Concern.RANK: 2}),
        (lambda x: x[:, :, torch.tensor([3, 1, 4, 1, 5])], {Concern.GATHER: 1}),
        (windows, {Concern.RANK: 2, Concern.TRANSPOSE: 1, Concern.WINDOW_RESHAPE: 2}),
    ],
    ids=["none", "two computed operands", "a constant operand", "transpose", "rank 3", "gather", "windows"],
)
def test_concerns_are_counted(line: Callable[[Tensor], Tensor], expected: dict[Concern, int]) -> None:
    advice = coreml.advise(coreml.export(Traced(line).eval(), LOGITS))
    assert {concern: len(names) for concern, names in advice.concerns.items() if names} == expected


def test_advice_on_a_package_is_that_on_its_program(float16_program: Program, tmp_path: Path) -> None:
    coreml.save(float16_program, tmp_path / "net.mlpackage")
    advice = coreml.advise(tmp_path / "net.mlpackage")
    assert advice == coreml.advise(float16_program)
    assert len(advice.concerns[Concern.DYNAMIC_MATMUL]) == 2  # query by key, value by attention
    assert advice.ranks[3] == len(advice.concerns[Concern.RANK]) + 2  # a split makes three tensors
    assert "no A13 was measured" in advice.remark
    assert set(REASONS) == set(Concern) == set(advice.concerns)


@pytest.mark.parametrize("content", [None, "{}", '{"rootModelIdentifier": "a", "itemInfoEntries": {}}'])
def test_what_is_no_package_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "net.mlpackage"
    if content is not None:
        path.mkdir()
        (path / "Manifest.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"net\.mlpackage"):
        coreml.advise(path)


def test_a_neural_network_is_no_ml_program(float16_program: Program, tmp_path: Path) -> None:
    path = tmp_path / "net.mlpackage"
    coreml.save(float16_program, path)
    (path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"")
    with pytest.raises(ModelFileError, match="an ML Program is needed"):
        coreml.advise(path)
