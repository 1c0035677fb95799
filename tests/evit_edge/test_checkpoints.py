"""Weights of four kinds come in; what does not fit is named."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from evit_edge.errors import CheckpointError, RequestError
from evit_edge.models.checkpoints import load_checkpoint, save_checkpoint
from evit_edge.models.config import variant
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.checks import Limits

LABELS = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def model() -> EfficientViT:
    torch.manual_seed(0)
    return EfficientViT(variant("m1").adapted(num_classes=3)).eval()


@pytest.fixture
def own(model: EfficientViT, tmp_path: Path) -> Path:
    path = tmp_path / "own.safetensors"
    rule = Preprocessing(crop_fraction=0.9)
    save_checkpoint(path, model, name="insects", labels=LABELS, preprocessing=rule, aliases={"Ant": "ant"})
    return path


def released_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names as the paper's released files have them."""

    def rename(key: str) -> str:
        key = re.sub(r"^patch_embed\.conv(\d)", lambda m: f"patch_embed.{2 * int(m[1]) - 2}", key)
        key = re.sub(r"\.conv\.weight$", ".c.weight", key).replace("head.linear", "head.l")
        for position, part in enumerate(("res1", "patchmerge", "res2")):
            key = re.sub(rf"^stages\.(\d)\.downsample\.{part}\.", rf"stages.\1.{position}.", key)
        key = re.sub(r"^stages\.0\.blocks\.", "stages.0.", key)
        key = re.sub(r"^stages\.(\d)\.blocks\.(\d+)", lambda m: f"stages.{m[1]}.{int(m[2]) + 3}", key)
        return re.sub(r"^stages\.(\d)", lambda m: f"blocks{int(m[1]) + 1}", key)

    return {rename(key): value for key, value in state.items()}


def answers(model: EfficientViT, size: int = 224) -> Tensor:
    with torch.no_grad():
        return model(torch.linspace(-2, 2, 3 * size * size).reshape(1, 3, size, size))


def test_own_file_brings_everything_back(own: Path, model: EfficientViT) -> None:
    loaded = load_checkpoint(own)
    assert torch.equal(answers(loaded.model), answers(model))
    assert (loaded.labels, loaded.name, loaded.aliases) == (LABELS, "insects", {"Ant": "ant"})
    assert loaded.preprocessing.crop_fraction == 0.9
    assert loaded.notes == ()
    assert not loaded.model.training


def test_own_file_loads_into_timm(own: Path, timm: ModuleType, model: EfficientViT) -> None:
    theirs = timm.create_model("efficientvit_m1", num_classes=3).eval()
    theirs.load_state_dict(load_file(own), strict=False)
    assert torch.equal(answers(theirs), answers(model))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_timms_files_load(suffix: str, tmp_path: Path, timm: ModuleType) -> None:
    theirs = timm.create_model("efficientvit_m0", num_classes=5).eval()
    path = tmp_path / f"timm{suffix}"
    state = theirs.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_checkpoint(path)
    assert loaded.config.name == "efficientvit_m0"
    assert torch.equal(answers(loaded.model), answers(theirs))


def test_released_file_loads(tmp_path: Path, model: EfficientViT) -> None:
    state = released_names(model.state_dict())
    state["blocks1.0.mixer.m.attn.attention_bias_idxs"] = torch.zeros(49, 49, dtype=torch.int64)
    torch.save({"model": state}, tmp_path / "efficientvit_m1.pth")
    loaded = load_checkpoint(tmp_path / "efficientvit_m1.pth")
    assert loaded.config.name == "efficientvit_m1"
    assert torch.equal(answers(loaded.model), answers(model))


def test_another_size_resizes_biases_as_timm_does(own: Path, model: EfficientViT, timm: ModuleType) -> None:
    theirs = timm.create_model("efficientvit_m1", num_classes=3).eval()
    theirs.load_state_dict(model.state_dict())
    theirs.set_input_size(160)
    loaded = load_checkpoint(own, image_size=160)
    assert "4x4 to 3x3" in " ".join(loaded.notes)
    assert loaded.preprocessing.image_size == 160
    assert torch.allclose(answers(loaded.model, 160), answers(theirs, 160), atol=1e-6)


def test_other_classes_replace_the_classifier_and_say_so(own: Path) -> None:
    loaded = load_checkpoint(own, num_classes=10)
    assert loaded.model.head.linear.weight.shape == (10, 192)
    assert loaded.labels is None
    assert "3 classes" in loaded.notes[0]
    assert "10" in loaded.notes[0]


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code in a pickle ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no checkpoint at"),
        (b"", "cannot be read"),
        (b"not a pickle at all", "cannot be read"),
        (pickle.dumps(_Payload()), "weights only"),
    ],
    ids=["missing", "empty", "text", "code"],
)
def test_unreadable_files_are_one_clear_line(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "ran" not in capsys.readouterr().out


def test_truncated_safetensors_is_refused(own: Path) -> None:
    own.write_bytes(own.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"not a readable \.safetensors"):
        load_checkpoint(own)


def test_wrong_keys_and_shapes_are_named(tmp_path: Path, model: EfficientViT) -> None:
    state = dict(model.state_dict())
    del state["head.bn.weight"]
    state["extra.weight"] = torch.zeros(1)
    state["patch_embed.conv1.bn.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "wrong.pth")
    for part in ("missing: head.bn.weight", "unexpected: extra.weight", "patch_embed.conv1.bn.bias (3,)"):
        assert part in str(caught.value)


def test_nan_is_named(tmp_path: Path, model: EfficientViT) -> None:
    state = {key: value.clone() for key, value in model.state_dict().items()}
    state["head.linear.bias"][0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match=r"NaN or infinity in head\.linear\.bias"):
        load_checkpoint(tmp_path / "nan.pth")


@pytest.mark.parametrize("shape", [(1, 16), (4, 15)], ids=["heads", "no square"])
def test_biases_that_cannot_be_resized_are_named(
    shape: tuple[int, int], tmp_path: Path, model: EfficientViT
) -> None:
    state = dict(model.state_dict())
    key = next(key for key in state if key.endswith("attention_biases"))
    state[key] = torch.zeros(shape)
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=rf"wrong shape: {key} {re.escape(str(shape))} instead of"):
        load_checkpoint(tmp_path / "wrong.pth")


def test_a_list_is_no_table_of_tensors(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds no table of tensors"):
        load_checkpoint(tmp_path / "list.pth")


def test_a_later_format_is_refused(own: Path) -> None:
    with safe_open(own, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(own), own, {**metadata, "format": "evit-edge/99"})
    with pytest.raises(CheckpointError, match="has format evit-edge/99; this version reads evit-edge/"):
        load_checkpoint(own)


def test_a_file_larger_than_the_limit_is_refused(own: Path) -> None:
    with own.open("ab") as file:
        file.truncate(2**28 + 2**20)
    with pytest.raises(CheckpointError, match=r"257\.0 MiB; the limit is 256\.0 MiB \(--memory-limit\)"):
        load_checkpoint(own, limits=Limits(memory_bytes=2**28))


@pytest.mark.parametrize("name", ["m1", "efficientvit_m1"])
def test_a_variant_goes_by_its_short_name_too(name: str, own: Path, tmp_path: Path, model: EfficientViT) -> None:
    torch.save(model.state_dict(), tmp_path / "foreign.pth")
    for path in (own, tmp_path / "foreign.pth"):
        assert load_checkpoint(path, model=name).config.name == "efficientvit_m1"
    with pytest.raises(CheckpointError, match="holds efficientvit_m1; m2 was asked for"):
        load_checkpoint(own, model="m2")


def test_another_variant_is_refused(own: Path) -> None:
    with pytest.raises(CheckpointError, match="holds efficientvit_m1; efficientvit_m0 was asked for"):
        load_checkpoint(own, model="efficientvit_m0")


def test_labels_must_fit(model: EfficientViT, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="2 labels given for 3 classes"):
        save_checkpoint(
            tmp_path / "x.safetensors", model, name="x", labels=("a", "b"), preprocessing=Preprocessing()
        )
    assert not list(tmp_path.iterdir())


def test_hub_reference_must_be_owner_and_name() -> None:
    with pytest.raises(CheckpointError, match="hf:OWNER/NAME"):
        load_checkpoint("hf:only-one-part")
