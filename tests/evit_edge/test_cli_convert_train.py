"""``convert`` and ``train`` from the command line: bad input is one line and leaves nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from evit_edge.cli.main import app

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Function: run a command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def bad(m0_checkpoint: Path, tmp_path: Path) -> Path:
    """A folder with one bad thing of each kind."""
    folder = tmp_path / "bad"
    for name in ("empty", "one/class", "mixed/a", "mixed/b", "texts"):
        (folder / name).mkdir(parents=True)
    (folder / "file").write_text("")
    (folder / "two.txt").write_text("a\nb\n")
    (folder / "corrupt.safetensors").write_bytes(m0_checkpoint.read_bytes()[:3000])
    (folder / "cache.json").write_text('{"schema": "evit-calibration/1"}')
    for i in range(3):
        (folder / "texts" / f"{i}.jpg").write_text("no photo")
        for name in ("one/class", "mixed/a", "mixed/b"):
            Image.new("RGB", (130, 130)).save(folder / name / f"{i}.png")
    (folder / "mixed" / "b" / "2.png").write_bytes(b"\x89PNG")
    state = load_file(m0_checkpoint)
    state["head.linear.bias"][0] = float("nan")
    save_file(state, folder / "nan.safetensors")
    save_file({"weight": state["head.linear.bias"]}, folder / "foreign.safetensors")
    return folder


BAD_INPUT = {
    "no such checkpoint": ("convert --weights {bad}/none.pth -o {out}", "no checkpoint at"),
    "corrupt checkpoint": ("convert --weights {bad}/corrupt.safetensors -o {out}", "corrupt.safetensors"),
    "another network": ("convert --weights {bad}/foreign.safetensors -o {out}", "no EfficientViT"),
    "NaN weights": ("convert --weights {bad}/nan.safetensors -o {out}", "head.linear.bias"),
    "another variant": ("convert --weights {m0} --model efficientvit_m5 -o {out}", "holds efficientvit_m0"),
    "no such variant": ("convert --weights {m0} --model m9 -o {out}", "holds efficientvit_m0; m9"),
    "size out of range": ("convert --weights {m0} --image-size 100 -o {out}", "128 to 512"),
    "wrong class count": (
        "convert --weights {m0} --labels {bad}/two.txt -o {out}",
        "2 labels",
    ),
    "no such labels": ("convert --weights {m0} --labels {bad}/none.txt -o {out}", "none.txt"),
    "not available yet": ("convert --weights {m0} --to onnx -o {out}", "not available in this version"),
    "int8 without photos": ("convert --weights {m0} --quantize int8 -o {out}", "--calibration DIR"),
    "no such photos": ("convert --weights {m0} --quantize int8 --calibration {bad}/none -o {out}", "no folder"),
    "no photos": ("convert --weights {m0} --quantize int8 --calibration {bad}/empty -o {out}", "no photos"),
    "damaged cache": (
        "convert --weights {m0} --quantize int8 --calibration {bad}/cache.json -o {out}",
        "no usable calibration cache",
    ),
    "photos without use": ("convert --weights {m0} --calibration {bad}/mixed -o {out}", "serves integer"),
    "a file as output folder": ("convert --weights {m0} -o {bad}/file", "cannot be written"),
    "unwritable output": ("convert --weights {m0} -o /proc/nowhere", "cannot be written"),
    "train: no such folder": ("train {bad}/none -o {out}", "no folder at"),
    "train: empty folder": ("train {bad}/empty -o {out}", "at least 2 are needed"),
    "train: one class": ("train {bad}/one -o {out}", "at least 2 are needed"),
    "train: truncated photo": ("train {bad}/mixed --batch-size 2 --workers 0 -o {out}", "2.png"),
    "train: no such checkpoint": (
        "train {bad}/mixed --from {bad}/none.pth --workers 0 -o {out}",
        "no checkpoint at",
    ),
    "train: no such variant": ("train {bad}/mixed --model m9 --workers 0 -o {out}", "no model named"),
    "train: no epochs": ("train {bad}/mixed --epochs 0 -o {out}", "at least 1"),
    "train: bad alias": ("train {bad}/mixed --alias red -o {out}", "FOLDER=LABEL"),
    "train: no such device": ("train {bad}/mixed --device tpu -o {out}", "auto, cpu or cuda"),
}


@pytest.mark.parametrize(("command", "reason"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(
    invoke: Invoke, bad: Path, m0_checkpoint: Path, command: str, reason: str
) -> None:
    before = sorted(bad.parent.rglob("*"))
    words = {"bad": bad, "m0": m0_checkpoint, "out": bad.parent / "out"}
    result = invoke(*(word.format(**words) for word in command.split()))
    assert result.exit_code == 1, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("evit-edge: error: ")]
    assert len(errors) == 1, result.stderr
    assert reason in errors[0]
    assert result.stdout == ""
    assert sorted(bad.parent.rglob("*")) == before


@pytest.mark.parametrize("words", ["convert --quantize int4 -o x", "convert --to tf -o x", "convert", "train x"])
def test_wrong_usage_exits_with_2(invoke: Invoke, words: str) -> None:
    assert invoke(*words.split()).exit_code == 2


def test_train_then_convert_then_classify(
    invoke: Invoke, photo_folder: Path, tmp_path: Path, coffee_jpg: Path
) -> None:
    for label in ("cup", "rest"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(8):
            name = "coffee" if label == "cup" else ("astronaut", "cat", "rocket", "camera")[i % 4]
            shutil.copy(photo_folder / f"{name}.jpg", tmp_path / "data" / label / f"{i}.jpg")
    command = "train {0}/data -o {0}/run --epochs 2 --image-size 128 --batch-size 4 --workers 0 --json"
    trained = json.loads(invoke(*command.format(tmp_path).split()).stdout)
    assert trained["val_photos"] == 4
    weights = trained["checkpoint"]
    converted = invoke("convert", "--weights", weights, "-o", tmp_path / "out", "--json")
    assert converted.exit_code == 0, converted.output
    document = json.loads(converted.stdout)
    assert document["verification"]["passed"]
    assert document["manifest"]["artefact"]["partitions"] == 1
    assert document["manifest"]["command"].startswith("evit-edge")
    answer = json.loads(invoke("classify", document["artefact"], coffee_jpg, "--json").stdout)
    assert "cup" in json.dumps(answer)
