"""NaN and infinity are found and named before anything is exported, for every target; nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from evit_converters.checks import broken_layer, check_module
from evit_converters.errors import ModuleError
from evit_edge.cli.main import app
from evit_edge.errors import CheckpointError
from evit_edge.models.checkpoints import load_checkpoint, save_checkpoint
from evit_edge.pipeline import ConvertRequest, Target, convert

Change = Callable[[dict[str, torch.Tensor]], None]


def set_nan(state: dict[str, torch.Tensor]) -> None:
    state["stages.1.blocks.0.ffn0.m.pw1.conv.weight"][3, 2] = torch.nan


def set_infinity(state: dict[str, torch.Tensor]) -> None:
    state["patch_embed.conv1.bn.running_mean"][0] = -torch.inf


def negative_variance(state: dict[str, torch.Tensor]) -> None:
    state["patch_embed.conv2.bn.running_var"][1] = -1.0


def huge_weights(state: dict[str, torch.Tensor]) -> None:
    state["patch_embed.conv1.bn.weight"].fill_(1e38)


@pytest.fixture
def altered(m0_checkpoint: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """Function: a checkpoint with changed weights."""

    def alter(change: Change) -> Path:
        checkpoint = load_checkpoint(m0_checkpoint)
        change(checkpoint.model.state_dict())
        path = tmp_path / "altered.safetensors"
        save_checkpoint(
            path,
            checkpoint.model,
            name="altered",
            labels=checkpoint.labels,
            preprocessing=checkpoint.preprocessing,
        )
        return path

    return alter


@pytest.mark.parametrize("target", list(Target), ids=str)
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (set_nan, r"NaN or infinity in stages\.1\.blocks\.0\.ffn0\.m\.pw1\.conv\.weight"),
        (set_infinity, r"NaN or infinity in patch_embed\.conv1\.bn\.running_mean"),
        (negative_variance, r"patch_embed\.conv2\.bn \(\w+\) gives \d+ NaN or infinite values of \d+"),
        (huge_weights, r"patch_embed\.conv\d(\.conv|\.bn)? \(\w+\) gives \d+ NaN or infinite values of \d+"),
    ],
    ids=["nan weight", "infinite buffer", "nan activation", "infinite activation"],
)
def test_it_is_named_and_nothing_is_written(
    altered: Callable[[Change], Path], tmp_path: Path, target: Target, change: Change, named: str
) -> None:
    with pytest.raises(CheckpointError, match=named):
        convert(ConvertRequest(output=tmp_path / "out", weights=str(altered(change)), target=target))
    assert not (tmp_path / "out").exists()


def test_the_command_line_says_it_in_one_line(altered: Callable[[Change], Path], tmp_path: Path) -> None:
    path = altered(negative_variance)
    result = CliRunner().invoke(app, ["convert", "--weights", str(path), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("evit-edge: error: altered overflows on ordinary photos: patch_embed.conv2.bn")


class Root(nn.Module):
    """The square root of its part's answer."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.part = nn.Linear(4, 2)
        nn.init.constant_(self.part.bias, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(x).sqrt()


def test_a_foreign_module_is_looked_at_too() -> None:
    net = nn.Sequential(nn.Linear(4, 4), Root(-1.0)).eval()
    with pytest.raises(ModuleError, match=r"1 \(Root\) gives 2 NaN or infinite values of 2"):
        check_module(net, torch.zeros(1, 4))
    assert broken_layer(Root(-1.0), torch.zeros(1, 4)) == ("the module itself gives 2 NaN or infinite values of 2")


def test_a_sound_module_passes_and_keeps_no_hook() -> None:
    net = nn.Sequential(nn.Linear(4, 4), Root(1.0)).eval()
    assert broken_layer(net, torch.zeros(1, 4)) is None
    assert not any(layer._forward_hooks for layer in net.modules())
    check_module(net, torch.zeros(1, 4))
    assert np.isfinite(net(torch.zeros(1, 4)).detach().numpy()).all()
