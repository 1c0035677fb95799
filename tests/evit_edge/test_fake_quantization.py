"""Training on values that int8 can express: what is rounded, that gradients pass, that it helps."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch.nn import functional as F

from evit_edge.errors import RequestError
from evit_edge.models.checkpoints import load_checkpoint, save_checkpoint
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.models.layers import ConvNorm, Residual
from evit_edge.training import fake_quantization
from evit_edge.training.config import TrainConfig
from evit_edge.training.fake_quantization import prepare, round_activation, round_weight
from evit_edge.training.loop import train

tensors = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4), elements=st.floats(-1000, 1000, width=32)
)


@given(values=tensors)
def test_activations_lie_on_256_steps_with_zero_among_them(values: np.ndarray) -> None:
    x = torch.from_numpy(values).requires_grad_()
    y = round_activation(x)
    scale = max((max(values.max(), 0) - min(values.min(), 0)) / 255, 1e-12)
    steps = y.detach().numpy() / scale
    assert np.abs(steps - np.round(steps)).max() < 1e-2
    assert np.abs(y.detach().numpy() - values).max() <= scale * 1.01  # half a step, and half for the zero point
    assert np.ptp(np.round(steps)) <= 255
    y.sum().backward()
    assert x.grad is not None
    assert bool((x.grad == 1).all())


@given(values=tensors)
def test_weights_have_a_symmetric_grid_for_each_output_channel(values: np.ndarray) -> None:
    rounded = round_weight(torch.from_numpy(values)).numpy()
    for row, source in zip(rounded, values, strict=True):
        scale = max(np.abs(source).max() / 127, 1e-12)
        assert np.abs(row - source).max() <= scale / 2 * 1.001
        assert np.abs(np.round(row / scale)).max() <= 127


def network(path: Path) -> EfficientViT:
    return load_checkpoint(path).model


def test_parameters_keep_their_names_and_copies_round_too(m0_checkpoint: Path) -> None:
    plain, rounding = network(m0_checkpoint), network(m0_checkpoint)
    prepare(rounding)
    x = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        float_logits, rounded = plain(x), rounding(x)
        copied = copy.deepcopy(rounding)
        assert torch.equal(copied(x), rounded)
        copied.stages[0].blocks[0].dw0.m.conv.weight.mul_(2)  # type: ignore[union-attr,index,operator]
        assert not torch.equal(copied(x), rounded)  # the copy computes with its own weights
        assert torch.equal(rounding(x), rounded)
    assert list(rounding.state_dict()) == list(plain.state_dict())
    error = (rounded - float_logits).norm() / float_logits.norm()
    assert 1e-4 < float(error) < 0.5


def test_the_stream_stays_float_and_convolutions_read_integers(
    m0_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter's placement: integer convolutions read 256 levels, depthwise ones of the stream read more."""
    model, levels, real = network(m0_checkpoint), {"dense": [], "depthwise": []}, F.conv2d
    prepare(model)

    def counted(x: torch.Tensor, weight: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        levels["dense" if weight.shape[1] > 1 else "depthwise"].append(len(torch.unique(x)))
        return real(x, weight, *rest, **options)

    monkeypatch.setattr(fake_quantization.F, "conv2d", counted)
    with torch.no_grad():
        model(torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)))
    stream = [found for found in levels["depthwise"] if found > 256]
    residuals = [m for m in model.modules() if isinstance(m, Residual) and isinstance(m.m, ConvNorm)]
    assert max(levels["dense"]) <= 256
    assert len(stream) == len(residuals) - 3  # the first of each stage reads the integers of a convolution


def test_every_weight_gets_a_gradient(m0_checkpoint: Path) -> None:
    model = network(m0_checkpoint).train()
    prepare(model)
    model(torch.randn(2, 3, 128, 128)).square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise that differ a little in colour."""
    root, rng = tmp_path_factory.mktemp("hues"), np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir()
        for i in range(16):
            image = rng.integers(0, 120, (130, 130, 3), dtype=np.uint8)
            image[..., channel] += 60
            Image.fromarray(image).save(root / name / f"{i}.png")
    return root


def test_it_gains_where_int8_hurts_and_gives_an_ordinary_checkpoint(colours: Path, tmp_path: Path) -> None:
    plain = TrainConfig(
        data=(colours,),
        output=tmp_path / "float",
        epochs=8,
        batch_size=8,
        image_size=128,
        workers=0,
        warmup_epochs=1,
        learning_rate=0.1,
        randaugment_ops=0,
        mixup=0.0,
        cutmix=0.0,
        erasing=0.0,
        ema_decay=0.5,
    )
    start = load_checkpoint(train(plain).best)
    _plant(start.model)
    hard = tmp_path / "hard.safetensors"
    save_checkpoint(hard, start.model, name="hard", labels=start.labels, preprocessing=start.preprocessing)
    tuned = train(
        replace(
            plain,
            output=tmp_path / "qat",
            init=str(hard),
            qat="int8",
            epochs=4,
            learning_rate=0.05,
            warmup_epochs=0.5,
        )
    )
    before, after = _rounded_loss(hard, colours), _rounded_loss(tuned.best, colours)
    assert after < 0.8 * before
    assert load_checkpoint(tuned.best).labels == start.labels


def _plant(model: EfficientViT) -> None:
    """Blow up a channel of the stem and divide it out again."""
    with torch.no_grad():
        first, second = model.patch_embed.conv1, model.patch_embed.conv2
        first.bn.weight[1] *= 60  # type: ignore[union-attr,index,operator]
        first.bn.bias[1] *= 60  # type: ignore[union-attr,index,operator]
        second.conv.weight[:, 1] /= 60  # type: ignore[union-attr,index,operator]


def _rounded_loss(path: Path, folder: Path) -> float:
    """Cross-entropy of the photos with everything rounded."""
    checkpoint = load_checkpoint(path)
    prepare(checkpoint.model)
    rule = checkpoint.preprocessing
    total = 0.0
    for class_id, label in enumerate(checkpoint.labels or ()):
        photos = [rule.apply(np.asarray(Image.open(file))) for file in sorted((folder / label).iterdir())]
        x = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 255
        x = (x - torch.tensor(rule.mean).view(1, 3, 1, 1)) / torch.tensor(rule.std).view(1, 3, 1, 1)
        with torch.no_grad():
            total += float(F.cross_entropy(checkpoint.model(x), torch.full((len(x),), class_id)))
    return total


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"qat": "int4"}, "int8 is accepted"), ({"qat": "int8"}, "give --from")],
    ids=["bits", "from scratch"],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TrainConfig(data=(Path("photos"),), output=Path("run"), **changes)  # type: ignore[arg-type]


def test_runs_of_versions_without_it_go_on() -> None:
    config = TrainConfig(data=(Path("photos"),), output=Path("run"))
    assert "qat" not in config.to_json()
    assert replace(config, init="everyday", qat="int8").digest() != replace(config, init="everyday").digest()
