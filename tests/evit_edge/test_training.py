"""Training: what is fed, what is minimised, and that a run survives a kill without a trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from evit_edge.errors import CheckpointError, DataError, OutputError, RequestError
from evit_edge.models.checkpoints import load_checkpoint
from evit_edge.models.config import variant
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.preprocessing import Preprocessing
from evit_edge.training.augment import Augmentation, normalised
from evit_edge.training.config import TrainConfig
from evit_edge.training.data import EpochOrder, find_photos, random_crop
from evit_edge.training.loop import Progress, train
from evit_edge.training.objective import training_loss
from evit_edge.training.optimization import WeightAverage, clip_gradients, learning_rate_at, make_optimizer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that a network can tell apart at once: mostly red, green or blue noise."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir()
        for i in range(16):
            image = rng.integers(0, 60, (130, 150, 3), dtype=np.uint8)
            image[..., channel] += 180
            Image.fromarray(image).save(root / name / f"{i}.png")
    return root


def configured(data: Path, output: Path, **changes: object) -> TrainConfig:
    config = TrainConfig(
        data=(data,), output=output, epochs=3, batch_size=8, image_size=128, workers=0, warmup_epochs=1
    )
    return replace(config, **changes)  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix", reason="sockets with paths")
def test_a_temporary_folder_too_long_for_the_sockets_of_workers_is_told_at_once(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(RequestError, match=r"bytes long.*TMPDIR to a shorter folder, or ask for --workers 0"):
        train(configured(colours, tmp_path / "out", workers=2))
    assert not (tmp_path / "out").exists()
    train(configured(colours, tmp_path / "out", workers=0, epochs=1))  # without processes there are no sockets


def test_it_learns(colours: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    config = configured(
        colours,
        tmp_path / "run",
        epochs=8,
        learning_rate=0.1,
        randaugment_ops=0,
        mixup=0.0,
        cutmix=0.0,
        ema_decay=0.5,
    )
    result = train(config, reports.append)
    assert result.top1 == 1.0
    assert result.val_count == 9
    loaded = load_checkpoint(result.best)
    assert loaded.labels == ("blue", "green", "red")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(8))
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [report.record is not None for report in reports].count(True) == 8


class _StopError(Exception):
    pass


def test_a_run_stopped_within_an_epoch_ends_with_the_same_weights(colours: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.epoch == 1 and progress.step == 2:
            raise _StopError

    train(configured(colours, tmp_path / "whole"))
    with pytest.raises(_StopError):
        train(configured(colours, tmp_path / "stopped"), stop)
    train(configured(colours, tmp_path / "stopped"))
    for name in ("last.safetensors", "best.safetensors"):
        whole, resumed = (load_file(tmp_path / run / name) for run in ("whole", "stopped"))
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    lines = (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]


_SCRIPT = """
import sys
from pathlib import Path
import torch
from evit_edge.training.config import TrainConfig
from evit_edge.training.loop import train
if __name__ == "__main__":
    torch.set_num_threads(1)
    config = TrainConfig(data=(Path(sys.argv[1]),), output=Path(sys.argv[2]), epochs=3, batch_size=8,
                         image_size=128, workers=1, warmup_epochs=1)
    train(config)
"""


def environment() -> dict[str, str]:
    paths = [str(ROOT / part) for part in ("", "converters", "calibration")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "go.py").write_text(_SCRIPT)
    start = [sys.executable, str(tmp_path / "go.py"), str(colours)]
    subprocess.run([*start, str(tmp_path / "whole")], env=environment(), check=True, timeout=300)
    run = tmp_path / "killed"
    with subprocess.Popen([*start, str(run)], env=environment(), start_new_session=True) as process:
        while not (run / "state.pt").exists() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    load_checkpoint(run / "best.safetensors")
    subprocess.run([*start, str(run)], env=environment(), check=True, timeout=300)
    whole, resumed = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.slow
def test_two_processes_train_one_network(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "go.py").write_text(_SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(tmp_path / "go.py"), str(colours), str(tmp_path / "run")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [0, 1, 2]
    load_checkpoint(tmp_path / "run" / "last.safetensors")


def test_the_processes_share_an_epoch_without_overlap(colours: Path, tmp_path: Path) -> None:
    config = configured(colours, tmp_path)
    dealt = [[key for batch in EpochOrder(40, config, rank, 2) for key in batch] for rank in (0, 1)]
    assert len(dealt[0]) == len(dealt[1]) == 20
    assert len({index for keys in dealt for _, index in keys}) == 40


def test_distillation_needs_the_same_classes(colours: Path, tmp_path: Path) -> None:
    train(configured(colours, tmp_path / "teacher", epochs=1))
    teacher = str(tmp_path / "teacher" / "best.safetensors")
    train(configured(colours, tmp_path / "student", epochs=1, teachers=(teacher,)))
    with pytest.raises(CheckpointError, match="other classes"):
        train(configured(colours, tmp_path / "other", epochs=1, teachers=(teacher,), aliases={"red": "green"}))


def test_a_student_of_itself_has_no_divergence() -> None:
    config = TrainConfig(data=(Path(),), output=Path(), distillation=1.0)
    logits = torch.randn(4, 5)
    assert float(training_loss(logits, torch.zeros(4, 5), logits, config)) == pytest.approx(0, abs=1e-6)
    assert float(training_loss(logits, torch.zeros(4, 5), logits.flip(1), config)) > 0.01


def test_a_fine_tuned_run_starts_from_the_checkpoint(colours: Path, tmp_path: Path) -> None:
    train(configured(colours, tmp_path / "first", epochs=1))
    start = str(tmp_path / "first" / "last.safetensors")
    result = train(configured(colours, tmp_path / "second", epochs=1, init=start, image_size=160))
    assert any("resized" in note for note in result.notes)


def test_another_configuration_does_not_go_on(colours: Path, tmp_path: Path) -> None:
    train(configured(colours, tmp_path / "run", epochs=1))
    with pytest.raises(OutputError, match="other settings"):
        train(configured(colours, tmp_path / "run", epochs=2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no folder at"),
        (lambda root: root.mkdir(), "at least 2 are needed"),
        (lambda root: (root / "train" / "a").mkdir(parents=True), "at least 2 are needed"),
    ],
    ids=["missing", "empty", "no photos"],
)
def test_unusable_data_is_named(make: object, message: str, tmp_path: Path) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        train(configured(tmp_path / "data", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_broken_photo_is_named(colours: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (140, 140)).save(tmp_path / "data" / name / f"{i}.png")
    (tmp_path / "data" / "b" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.png"):
        train(configured(tmp_path / "data", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch_size", 1), ("mixup", 0.8), ("erasing", 1.5), ("device", "tpu"), ("temperature", 0)],
)
def test_settings_out_of_range_are_refused(field: str, value: object) -> None:
    config = TrainConfig(data=(Path(),), output=Path())
    with pytest.raises(RequestError, match=field.split("_", maxsplit=1)[0]):
        replace(config, **{field: value})  # type: ignore[arg-type]


def test_aliases_merge_classes_and_val_is_held_out_by_seed(colours: Path, tmp_path: Path) -> None:
    config = configured(colours, tmp_path, aliases={"red": "warm", "green": "warm"})
    split, again = find_photos(config), find_photos(config)
    assert split.labels == ("blue", "warm")
    assert split.val.paths == again.val.paths
    assert set(split.train.paths).isdisjoint(split.val.paths)
    assert len(split.train.paths) + len(split.val.paths) == 48
    other = find_photos(replace(config, seed=1))
    assert other.val.paths != split.val.paths


def test_what_is_hidden_or_no_photo_is_not_trained_on(colours: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(colours, data)
    before = find_photos(configured(data, tmp_path))
    photo = before.train.paths[0].read_bytes()
    for name in (".ipynb_checkpoints/0.png", "red/._0.png", "red/.thumbnails/0.png", "notes/manual.pdf"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(photo)
    after = find_photos(configured(data, tmp_path))
    assert after.labels == before.labels
    assert {*after.train.paths, *after.val.paths} == {*before.train.paths, *before.val.paths}


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**31))
def test_a_crop_of_any_photo_has_the_side(height: int, width: int, seed: int) -> None:
    image = np.full((height, width, 3), 7, dtype=np.uint8)
    crop = random_crop(image, 32, 0.25, np.random.default_rng(seed))
    assert crop.shape == (32, 32, 3)
    assert (crop == 7).all()


@pytest.mark.parametrize("mixed", ["mixup", "cutmix"])
def test_mixed_targets_are_distributions(mixed: str) -> None:
    torch.manual_seed(0)
    shares = {"mixup": 0.0, "cutmix": 0.0, mixed: 1.0}
    config = TrainConfig(data=(Path(),), output=Path(), image_size=128, randaugment_ops=0, erasing=0.0, **shares)
    augment = Augmentation(config, Preprocessing(), 10)
    flat = torch.arange(10)[:, None, None, None].expand(10, 64, 64, 3).mul(25).to(torch.uint8)
    x, targets = augment(flat, torch.arange(10))
    assert x.shape == (10, 3, 64, 64)
    assert torch.allclose(targets.sum(1), torch.ones(10))
    # Class i is the grey level i: the picture's mean level must be the target's mean class.
    plain = config.label_smoothing / 10
    level = ((x * torch.tensor(Preprocessing().std).view(1, 3, 1, 1)).mean((1, 2, 3)) + 0.449) * 255 / 25
    expected = ((targets - plain) / (1 - config.label_smoothing) * torch.arange(10)).sum(1)
    assert torch.allclose(level, expected, atol=0.1)


def test_augmentation_without_changes_is_normalisation() -> None:
    config = TrainConfig(data=(Path(),), output=Path(), randaugment_ops=0, erasing=0.0, mixup=0.0, cutmix=0.0)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    images = torch.minimum(images, images.flip(2))  # symmetric, so that flips do not show
    x, _ = Augmentation(config, Preprocessing(), 3)(images, torch.tensor([0, 1]))
    assert torch.allclose(x, normalised(images, Preprocessing()), atol=1e-5)


def test_gradients_are_clipped_unit_by_unit() -> None:
    layer = nn.Linear(4, 2, bias=True)
    nn.init.constant_(layer.weight, 1.0)  # norm 2 for each unit
    layer.weight.grad = torch.tensor([[10.0] * 4, [0.001] * 4])
    layer.bias.grad = torch.tensor([100.0, 100.0])
    clip_gradients(layer.parameters(), 0.02)
    assert float(layer.weight.grad[0].norm()) == pytest.approx(0.04)
    assert torch.equal(layer.weight.grad[1], torch.tensor([0.001] * 4))


def test_rate_rises_then_falls() -> None:
    config = TrainConfig(data=(Path(),), output=Path(), epochs=10, warmup_epochs=2, batch_size=512)
    rates = [learning_rate_at(step, 100, 10, config) for step in range(100)]
    assert max(rates) == pytest.approx(config.learning_rate)
    assert rates.index(max(rates)) in (19, 20)
    assert rates[-1] < 0.02 * config.learning_rate
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_norms_and_biases_are_not_decayed() -> None:
    model = EfficientViT(variant("m0").adapted(num_classes=3))
    decayed, plain = make_optimizer(model, TrainConfig(data=(Path(),), output=Path())).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    tables = {id(p) for name, p in model.named_parameters() if name.endswith("attention_biases")}
    assert tables <= {id(p) for p in plain["params"]}
    assert all(p.ndim >= 2 for p in decayed["params"])


def test_the_average_forgets_its_start() -> None:
    model = nn.Linear(2, 1)
    average = WeightAverage(model, 0.9)
    nn.init.constant_(model.weight, 5.0)
    for _ in range(200):
        average.update(model)
    assert torch.allclose(average.model.weight, model.weight, atol=1e-4)
