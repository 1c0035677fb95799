"""Which channels count, what a budget leaves, and that the smaller network is the masked one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from typer.testing import CliRunner

from evit_edge.analysis.channel_gates import importances
from evit_edge.analysis.channels import ChannelsRequest, prune_in_steps
from evit_edge.analysis.channels_report import ChannelGroup, ChannelKind, kept_channels
from evit_edge.cli.main import app
from evit_edge.errors import RequestError
from evit_edge.models.checkpoints import load_checkpoint
from evit_edge.models.complexity import count
from evit_edge.models.config import EfficientViTConfig
from evit_edge.models.design import Ablation, HeadInput
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.models.pruning import KeptChannels, attention_at, prune

SMALL = EfficientViTConfig(
    "small", (16, 32, 48), (1, 1, 1), (2, 2, 3), (5, 3, 3), key_dim=4, num_classes=7, image_size=128
)
DESIGNS = {
    "cascade": SMALL,
    "splits": SMALL.ablated([Ablation.NO_CASCADE, Ablation.NO_QUERY_DEPTHWISE]),
    "full": SMALL.ablated([Ablation.MHSA, Ablation.SWIN_BLOCK, Ablation.EQUAL_QKV]),
}
designs = pytest.mark.parametrize("config", DESIGNS.values(), ids=DESIGNS)


def randomised(config: EfficientViTConfig, seed: int = 0) -> EfficientViT:
    """In float64, with no branch that is an identity."""
    torch.manual_seed(seed)
    model = EfficientViT(config)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.6, 1.4)
        elif name.endswith(("running_mean", "bn.bias", "attention_biases")):
            tensor.normal_(0, 0.3)
        elif name.endswith("linear.weight"):
            tensor.normal_(0, 0.2)
    return model.double().eval()


def batch(photos: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(photos, 3, 128, 128, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 7, (photos,), generator=generator)


def some_kept(config: EfficientViTConfig, seed: int) -> list[KeptChannels]:
    """A random choice in every part, at least one channel of each head."""
    rng = np.random.default_rng(seed)

    def choose(width: int) -> tuple[int, ...]:
        return tuple(sorted(int(i) for i in rng.choice(width, rng.integers(1, width + 1), replace=False)))

    return [
        KeptChannels(
            widths.part,
            tuple(choose(width) for width in widths.keys),
            tuple(choose(width) for width in widths.values),
            choose(widths.hidden) if widths.hidden else (),
        )
        for widths in config.parts()
    ]


@contextmanager
def masked(model: EfficientViT, kept: list[KeptChannels]) -> Iterator[None]:
    """Set the activations of all other channels to zero meanwhile: of keys, values and hidden channels."""
    handles = []

    def mask(module: nn.Module, width: int, channels: list[int]) -> None:
        gate = torch.zeros(width, 1, 1, dtype=torch.float64).index_fill(0, torch.tensor(channels), 1)
        handles.append(module.register_forward_hook(lambda _m, _i, y: y * gate))

    for part in kept:
        attention = attention_at(model, part.part)
        if attention is None:
            ffn = model.get_submodule(f"{part.part}.m")
            mask(ffn.act, ffn.pw1.conv.out_channels, list(part.hidden))
            continue
        for head, qkv in enumerate(attention.qkvs):
            key, _, value = attention.parts(head)
            stay = [*part.keys[head], *(key + i for i in part.keys[head])]
            mask(qkv, 2 * key + value, stay + [2 * key + i for i in part.values[head]])
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def zero_channels(model: EfficientViT, groups: list[ChannelGroup]) -> set[tuple[str, ChannelKind, int, int]]:
    """Scale the most important channel of each kind to zero, in its weights; what they are."""
    state = model.state_dict()
    best = {(g.part, g.kind, g.head): int(np.argmax(g.importance)) for g in groups}
    attention, first, second = "stages.2.blocks.0.mixer", "stages.1.downsample.res1.1", "stages.0.blocks.0.ffn1"
    key, local = attention_at(model, attention).parts(1)[0], bool(attention_at(model, attention).dws)
    value, pair, query, hidden, unread = chosen = (
        (attention, ChannelKind.V, 1),
        (attention, ChannelKind.QK, 1),
        (attention, ChannelKind.QK, 2),
        (first, ChannelKind.FFN, 0),
        (second, ChannelKind.FFN, 0),
    )
    for layer, channel in (
        (f"{attention}.m.attn.qkvs.1", 2 * key + best[value]),
        (f"{attention}.m.attn.qkvs.1", key + best[pair]),
        (f"{attention}.m.attn.{'dws' if local else 'qkvs'}.2", best[query]),
        (f"{first}.m.pw1", best[hidden]),
    ):
        state[f"{layer}.bn.weight"][channel] = 0
        state[f"{layer}.bn.bias"][channel] = 0
    state[f"{second}.m.pw2.conv.weight"][:, best[unread]] = 0
    return {(*group, best[group]) for group in chosen}


def without_effect(groups: list[ChannelGroup]) -> set[tuple[str, ChannelKind, int, int]]:
    """Channels that count exactly nothing."""
    return {
        (group.part, group.kind, group.head, i)
        for group in groups
        for i, value in enumerate(group.importance)
        if value == 0
    }


def pruned_to(
    model: EfficientViT, photos: tuple[Tensor, Tensor], keep: float, steps: int
) -> tuple[EfficientViT, set[Any]]:
    """The pruned network, and what was taken."""
    chosen, pruned = prune_in_steps(model, lambda: [photos], keep, steps)
    taken = {
        (group.part, group.kind, group.head, i)
        for group in chosen
        for i in range(len(group.importance))
        if i not in group.kept
    }
    return pruned, taken


@designs
@pytest.mark.parametrize("seed", [0, 1])
def test_the_pruned_network_is_the_masked_one(config: EfficientViTConfig, seed: int) -> None:
    model, (images, _) = randomised(config), batch()
    kept = some_kept(config, seed)
    pruned = prune(model, kept)
    with torch.no_grad():
        with masked(model, kept):
            expected = model(images)  # (B, 7)
        assert (pruned(images) - expected).abs().max() < 1e-12
        assert (model(images) - expected).abs().max() > 1e-3  # the channels counted, and count still
        again = some_kept(pruned.config, seed + 7)
        with masked(pruned, again):
            expected = pruned(images)
        assert (prune(pruned, again)(images) - expected).abs().max() < 1e-12
    assert count(pruned.config).parameters == sum(p.numel() for p in pruned.parameters())


@designs
@pytest.mark.parametrize("steps", [1, 3])
def test_a_channel_scaled_to_zero_counts_nothing_and_goes_first(config: EfficientViTConfig, steps: int) -> None:
    model, (images, truth) = randomised(config), batch()
    before = importances(model, [(images, truth)])
    zeroed = zero_channels(model, before)
    assert not zeroed & without_effect(before)
    groups = importances(model, [(images, truth)])
    silent = without_effect(groups)  # some sit behind a ReLU that these photos never open
    assert zeroed <= silent
    total = sum(len(group.importance) for group in groups)
    pruned, taken = pruned_to(model, (images, truth), 1 - len(silent) / total, steps)
    assert taken == silent
    assert pruned.config != model.config
    with torch.no_grad():
        assert (pruned(images) - model(images)).abs().max() < 1e-12


@designs
def test_keeping_everything_changes_nothing(config: EfficientViTConfig) -> None:
    model, (images, truth) = randomised(config), batch()
    pruned, taken = pruned_to(model, (images, truth), 1.0, 3)
    assert taken == set()
    assert pruned.config == config
    with torch.no_grad():
        assert torch.equal(pruned(images), model(images))


def test_importance_is_gradient_times_weight_squared_for_each_photo() -> None:
    model, (images, truth) = randomised(SMALL), batch(2)
    whole = importances(model, [(images, truth)])
    apart = importances(model, [(images[i : i + 1], truth[i : i + 1]) for i in range(2)])
    for one, other in zip(whole, apart, strict=True):
        assert one.importance == pytest.approx(other.importance, rel=1e-9)
    part = "stages.2.downsample.res2.1"
    weight = model.get_submodule(f"{part}.m").pw2.conv.weight  # (C, hidden, 1, 1)
    expected = torch.zeros(weight.shape[1], dtype=torch.float64)
    losses = F.cross_entropy(model(images), truth, reduction="none")  # (2,)
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
        expected += (gradient * weight).sum((0, 2, 3)).square() / 2
    found = next(group for group in whole if group.part == part)
    assert found.importance == pytest.approx(expected.tolist(), rel=1e-9)


def test_importance_foretells_the_loss_without_the_channel() -> None:
    """To first order: with a channel scaled by 1 - h, the loss moves by h times gate gradient."""
    model, (images, truth) = randomised(SMALL), batch(1)
    groups = importances(model, [(images, truth)])
    attention = attention_at(model, "stages.1.blocks.0.mixer")
    for kind, start in ((ChannelKind.QK, 4), (ChannelKind.V, 8)):
        group = next(g for g in groups if (g.part, g.kind, g.head) == ("stages.1.blocks.0.mixer", kind, 0))
        channel, losses = int(np.argmax(group.importance)), []
        for factor in (1 - 1e-6, 1 + 1e-6):
            scale = torch.ones(24, 1, 1, dtype=torch.float64)
            scale[start + channel] = factor
            handle = attention.qkvs[0].register_forward_hook(lambda _m, _i, y, scale=scale: y * scale)
            losses.append(float(F.cross_entropy(model(images), truth).detach()))
            handle.remove()
        slope = (losses[1] - losses[0]) / 2e-6
        assert group.importance[channel] == pytest.approx(slope**2, rel=1e-4)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=6),
    st.floats(0.01, 1),
)
def test_a_budget_keeps_the_most_important_and_one_of_each(groups: list[list[float]], keep: float) -> None:
    budget = round(keep * sum(len(group) for group in groups))
    kept = kept_channels([np.array(group) for group in groups], budget)
    assert sum(len(channels) for channels in kept) == max(len(groups), budget)
    left = [group[i] for group, stay in zip(groups, kept, strict=True) for i in range(len(group)) if i not in stay]
    for group, stay in zip(groups, kept, strict=True):
        assert list(stay) == sorted(stay)
        assert max(group) in [group[i] for i in stay]
        beyond = sorted((group[i] for i in stay), reverse=True)[1:]  # the best of a group stays anyway
        assert min(beyond, default=1) >= max(left, default=0)


def test_what_cannot_be_pruned_is_refused() -> None:
    model = EfficientViT(SMALL)
    with pytest.raises(RequestError, match="no part"):
        prune(model, [KeptChannels("stages.0.blocks.3.ffn0", hidden=(1,))])
    with pytest.raises(RequestError, match="ascending"):
        KeptChannels("stages.0.blocks.0.ffn0", hidden=(3, 1))
    with pytest.raises(RequestError, match="needed"):
        prune(model, [KeptChannels("stages.0.blocks.0.ffn0")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"photos": ()}, "no photos given"),
        ({"steps": 0}, "at least 1, 1, 1 and 0"),
        ({"seed": -1}, "seed -1 given"),
    ],
)
def test_requests_that_cannot_be_met(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ChannelsRequest(**{"weights": "everyday", "photos": (Path("photos"),), **changes})


def test_a_table_alone_tells_of_photos_that_were_left_out(
    m0_checkpoint: Path, colour_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for label, colour in (("cup", "red"), ("cat", "green"), ("rocket", "blue")):
        (colour_photos / colour).rename(colour_photos / label)
    (colour_photos / "cat" / "broken.png").write_text("no photo")
    options = ["--photos", str(colour_photos), "--count", "31", "--steps", "1"]
    result = CliRunner().invoke(app, ["analyze", "channels", str(m0_checkpoint), *options])
    assert result.exit_code == 0, result.output
    assert "50.0 % of the channels kept, by importance on 30 photos" in result.stdout
    assert "1 photos could not be read" in result.output
    assert "holds the pruned network" not in result.stdout


def test_train_ablated_analyze_prune_tune_and_convert(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(command: str, exit_code: int = 0) -> str:
        result = CliRunner().invoke(app, command.format(tmp_path).split())
        assert result.exit_code == exit_code, result.output
        return result.stdout if exit_code == 0 else result.stderr

    for label, names in (("cup", ("coffee",)), ("rest", ("astronaut", "cat", "rocket", "camera"))):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(8):
            shutil.copy(photo_folder / f"{names[i % len(names)]}.jpg", tmp_path / "data" / label / f"{i}.jpg")
    options = " --epochs 1 --image-size 128 --batch-size 4 --workers 0 --json"
    invoke("train {0}/data -o {0}/run --variant m0 --ablate swin-block" + options)
    analyze = "analyze channels {0}/run/last.safetensors --photos {0}/data --count 8 --keep 0.4 "
    shown = invoke(analyze + "--apply {0}/pruned --json {0}/channels.json --picture {0}/channels.png")
    assert "stages.1.downsample.res1.1" in shown
    assert (tmp_path / "channels.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "channels.json").read_text())
    kept = sum(len(group["kept"]) for group in report["groups"])
    assert kept == round(0.4 * sum(len(group["importance"]) for group in report["groups"]))
    assert "exists" in invoke(analyze + "--apply {0}/pruned", exit_code=1)
    tuned = json.loads(invoke("train {0}/data -o {0}/tuned --from {0}/pruned/run-pruned.safetensors" + options))
    config = load_checkpoint(tuned["checkpoint"]).config
    assert config.name == "efficientvit_m0+swin-block"
    assert config.attention(0, "").head_input is HeadInput.CASCADE
    assert config.pruned
    widths = json.loads((tmp_path / "pruned" / "run-pruned.json").read_text())["pruned"]
    assert [part.part for part in config.pruned] == [part["part"] for part in widths]
    made = json.loads(invoke(f"convert --weights {tuned['checkpoint']} -o {{0}}/out --json"))
    assert made["verification"]["passed"]
    assert made["manifest"]["source"]["architecture"] == "efficientvit_m0+swin-block"
    assert made["manifest"]["artefact"]["partitions"] == 1
    assert "(0, 1]" in invoke("analyze channels {0}/run/last.safetensors --photos {0}/data --keep 2", exit_code=1)
