"""Design decisions undone: each net is counted, computes the same in every form, trains and converts."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from random_networks import randomised
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from evit_converters import onnx, tflite
from evit_converters.tflite import Quantization
from evit_edge.cli.main import app
from evit_edge.errors import CheckpointError, RequestError
from evit_edge.models.checkpoints import load_checkpoint, read_weights, save_checkpoint
from evit_edge.models.complexity import count
from evit_edge.models.config import EfficientViTConfig, OutputKind, variant
from evit_edge.models.deploy import deploy
from evit_edge.models.design import Ablation, PartWidths
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.models.neural_engine import neural_engine
from evit_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from evit_edge.training.fake_quantization import prepare

SMALL = EfficientViTConfig(
    "small", (16, 32, 48), (1, 1, 1), (2, 2, 3), (5, 3, 3), key_dim=4, num_classes=7, image_size=128
)
PRUNED = replace(
    SMALL,
    pruned=(
        PartWidths("stages.0.blocks.0.ffn0", hidden=11),
        PartWidths("stages.0.blocks.0.mixer", keys=(4, 3), values=(5, 8)),
        PartWidths("stages.1.downsample.res2.1", hidden=1),
        PartWidths("stages.2.blocks.0.mixer", keys=(1, 2, 4), values=(16, 1, 9)),
    ),
)
CONFIGS = {
    **{ablation.value: SMALL.ablated([ablation]) for ablation in Ablation},
    "most at once": SMALL.ablated(set(Ablation) - {Ablation.MHSA}),
    "pruned": PRUNED,
    "pruned without cascade": replace(SMALL.ablated([Ablation.NO_CASCADE]), pruned=PRUNED.pruned),
    "pruned with full heads": replace(SMALL.ablated([Ablation.MHSA]), pruned=PRUNED.pruned),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def picture(side: int = 128) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8))


def normalised(image: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((image.double() / 255 - mean) / std).permute(0, 3, 1, 2)


@every_config
def test_counts_equal_torchs(config: EfficientViTConfig) -> None:
    model = EfficientViT(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 128, 128))
    counted = count(config)
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    assert 2 * counted.macs == counter.get_total_flops()


@every_config
def test_both_inference_forms_equal_the_train_form(config: EfficientViTConfig) -> None:
    model = randomised(config).double()
    image = picture()
    with torch.no_grad():
        expected = model(normalised(image))  # (1, 7)
        planes = neural_engine(model)(normalised(image))
        build = partial(deploy, model, mean=IMAGENET_MEAN, std=IMAGENET_STD, output_kind=OutputKind.LOGITS)
        deployed = [build(tokenwise=tokenwise)(image) for tokenwise in (False, True)]
    assert (planes - expected).abs().max() < 1e-12 * expected.abs().max()
    for logits in deployed:
        assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()


@every_config
def test_every_weight_learns(config: EfficientViTConfig) -> None:
    model = randomised(config).train()
    model(normalised(torch.cat([picture(), 255 - picture()])).float()).square().mean().backward()
    unmoved = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in unmoved if "attention_biases" not in name] == []


@every_config
def test_int8_training_rounds_it(config: EfficientViTConfig) -> None:
    model = randomised(config)
    x = normalised(picture()).float()
    with torch.no_grad():
        plain = model(x)
        prepare(model)
        rounded = model(x)
    assert 0 < float((rounded - plain).norm() / plain.norm()) < 0.5


@pytest.mark.parametrize("pruned", [False, True], ids=["whole", "pruned"])
def test_a_checkpoint_carries_the_design(pruned: bool, tmp_path: Path) -> None:
    config = variant("m0+no-query-depthwise+ffn-ratio-4").adapted(num_classes=3, image_size=128)
    if pruned:
        config = replace(config, pruned=(PartWidths("stages.2.blocks.2.mixer", (16, 5, 1, 9), (48, 40, 3, 2)),))
    model, path = randomised(config), tmp_path / "net.safetensors"
    save_checkpoint(path, model, name="net", labels=None, preprocessing=Preprocessing(image_size=128))
    loaded = load_checkpoint(path)
    assert loaded.config == config
    assert loaded.config.name == "efficientvit_m0+ffn-ratio-4+no-query-depthwise"
    x = normalised(picture()).float()
    with torch.no_grad():
        assert torch.equal(loaded.model(x), model(x))
    if pruned:
        state, metadata = read_weights(path)
        state["stages.2.blocks.2.mixer.m.attn.placements.1.index"][0] = 48
        save_file(state, tmp_path / "astray.safetensors", metadata)
        with pytest.raises(CheckpointError, match="none of 0 to 47"):
            load_checkpoint(tmp_path / "astray.safetensors")
    with pytest.raises(CheckpointError, match=r"holds efficientvit_m0\+ffn"):
        load_checkpoint(path, model="efficientvit_m0")
    assert load_checkpoint(path, image_size=224, num_classes=9).config.pruned == config.pruned


def test_widths_that_cannot_be_are_refused() -> None:
    for part in (
        PartWidths("stages.0.blocks.0.mixer", keys=(5, 4), values=(8, 8)),  # wider than the whole
        PartWidths("stages.0.blocks.0.mixer", keys=(4,), values=(8,)),  # a head less
        PartWidths("stages.0.blocks.0.ffn1", hidden=33),
        PartWidths("stages.0.blocks.1.ffn1", hidden=3),  # no such block
    ):
        with pytest.raises(RequestError, match=r"stages\.0"):
            replace(SMALL, pruned=(part,))
    with pytest.raises(RequestError, match="at least 1"):
        PartWidths("stages.0.blocks.0.mixer", keys=(0, 4), values=(8, 8))
    with pytest.raises(RequestError, match="hidden"):
        PartWidths("stages.0.blocks.0.mixer", keys=(4, 4), values=(8, 8), hidden=3)


def test_names_and_what_they_exclude() -> None:
    assert variant("m4+swin-block").depths == (2, 2, 3)
    assert variant("m4+swin-block").ablated([Ablation.SWIN_BLOCK]).depths == (2, 2, 3)
    assert variant("m1+mhsa+equal-qkv") == variant("efficientvit_m1").ablated([Ablation.EQUAL_QKV, Ablation.MHSA])
    with pytest.raises(RequestError, match="no-token-interaction"):
        variant("m0+no-such-thing")
    with pytest.raises(RequestError, match="give one"):
        variant("m0+mhsa+no-cascade")
    with pytest.raises(RequestError, match="prune"):
        PRUNED.ablated([Ablation.MHSA])


def answer(content: bytes, image: torch.Tensor) -> np.ndarray:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image.numpy())
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.mark.parametrize("name", ["pruned", "pruned with full heads"])
def test_tflite_is_one_partition_with_the_same_answer(name: str) -> None:
    model, image = randomised(CONFIGS[name]), picture()
    module = deploy(model, mean=IMAGENET_MEAN, std=IMAGENET_STD, tokenwise=True)
    content = tflite.export(module, image)
    found = tflite.activation_runner(content)(image.numpy())
    ranges = {key: (float(values.min()), float(values.max())) for key, values in found.items()}
    expected = module(image).numpy()  # (1, 7)
    for mode, worst in ((Quantization.NONE, 1e-5), (Quantization.INT8, 0.05)):
        converted = tflite.quantize(content, mode, ranges)
        report = tflite.partitions(converted)
        native = () if mode is Quantization.INT8 else ("CAST",)
        assert (report.partitions, report.native_ops) == (1, native), mode
        assert np.abs(answer(converted, image) - expected).max() < worst


def test_onnx_answers_the_same() -> None:
    model, image = randomised(CONFIGS["pruned"]), picture()
    module = deploy(model, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    content = onnx.export(module, image, output_name="probabilities")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    scores = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    assert np.abs(scores - module(image).numpy()).max() < 1e-5


def test_models_lists_the_ablations() -> None:
    result = CliRunner().invoke(app, ["models", "--ablations", "m4", "--json"])
    entries = json.loads(result.stdout)["models"]
    assert [entry["ablation"] for entry in entries] == [None, *Ablation]
    assert entries[1] == {
        "name": "efficientvit_m4+swin-block",
        "ablation": "swin-block",
        "meaning": Ablation.SWIN_BLOCK.meaning,
        **vars(count(variant("m4+swin-block"))),
    }
