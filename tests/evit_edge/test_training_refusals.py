"""Training where it cannot go on, in a process that does not lead, and what it shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from evit_edge.cli import train as command
from evit_edge.errors import CheckpointError, DataError, RequestError
from evit_edge.training import loop, processes
from evit_edge.training.config import TrainConfig
from evit_edge.training.data import Split, find_photos
from evit_edge.training.loop import Progress, TrainResult


def photos(folder: Path, count: int = 4) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (130, 140, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Two classes, train/ alone."""
    for name in ("cat", "cup"):
        photos(tmp_path / "data" / "train" / name)
    data, output = (tmp_path / "data",), tmp_path / "out"
    return TrainConfig(data=data, output=output, epochs=1, batch_size=4, image_size=128, workers=0)


def test_a_folder_of_held_out_photos_is_used_where_it_is(config: TrainConfig) -> None:
    assert find_photos(config).val.paths == ()
    held = photos(config.data[0] / "val" / "cup", 2)
    split = find_photos(config)
    assert [path.parent for path in split.val.paths] == [held, held]
    assert len(split.train.paths) == 8
    photos(config.data[0] / "val" / "dog", 1)
    with pytest.raises(DataError, match="classes dog are in val but not in train"):
        find_photos(config)


def test_a_folder_that_is_not_there_is_named(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder at .*nowhere; give a folder of class folders"):
        find_photos(replace(config, data=(tmp_path / "nowhere",)))


def test_without_held_out_photos_nothing_begins(config: TrainConfig) -> None:
    with pytest.raises(DataError, match="no held-out photos: add val/ beside train/"):
        loop.train(config)
    assert not config.output.exists()


def test_a_loss_that_is_no_number_ends_the_run(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(config.data[0] / "val" / "cup", 2)
    real = loop.training_loss
    monkeypatch.setattr(loop, "training_loss", lambda *given: real(*given) * float("nan"))
    with pytest.raises(CheckpointError, match="the loss became NaN in epoch 1; lower the learning rate"):
        loop.train(config)


@pytest.mark.parametrize(
    ("changes", "world", "message"),
    [
        ({"device": "cuda"}, "1", "device cuda given, but torch sees no CUDA device"),
        ({"batch_size": 4}, "3", "batch size 4 does not split over 3 processes; use a multiple"),
    ],
)
def test_what_does_not_fit_this_machine_is_refused(
    changes: dict[str, object], world: str, message: str, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("WORLD_SIZE", world)
    with (
        pytest.raises(RequestError, match=message),
        processes.joined(replace(config, **changes)),  # type: ignore[arg-type]
    ):
        pytest.fail("nothing may begin")


@pytest.mark.parametrize(("device", "found"), [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cpu", "cpu")])
def test_a_gpu_is_taken_by_its_place_unless_the_cpu_is_asked_for(
    device: str, found: str, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with processes.joined(replace(config, device=device)) as process:
        assert str(process.device) == found
        assert (process.world, process.leads) == (1, True)
    assert [str(device) for device in chosen] == [found] * (found != "cpu")


@pytest.mark.parametrize("rank", [0, 1])
def test_several_processes_form_a_group_and_leave_it(
    rank: int, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setattr(processes.dist, "init_process_group", done.append)
    monkeypatch.setattr(processes.dist, "destroy_process_group", lambda: done.append("left"))
    monkeypatch.setattr(processes.dist, "all_reduce", lambda value: value.add_(3))
    with processes.joined(replace(config, device="cpu")) as process:
        assert done == ["gloo"]
        assert process.leads is processes.leads() is (rank == 0)
        assert processes.mean_over(process, torch.tensor(1.0)) == 2
    assert done == ["gloo", "left"]


def test_a_process_that_does_not_lead_gives_no_figures(config: TrainConfig) -> None:
    run = SimpleNamespace(process=SimpleNamespace(leads=False), config=config)
    found = loop._Run._result(run)  # type: ignore[arg-type]
    assert found == TrainResult(config.output / "best.safetensors", 0.0, 0.0, 0, 1)


def test_a_line_is_left_for_each_round(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"loss": 1.25, "val_top1": 0.5, "val_top5": 0.75, "photos_per_s": 12.4}
    with command._shown(3) as tell:
        tell(Progress(0, 1, 2, 2.0))
        tell(Progress(0, 2, 2, 1.5, record))
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "top-1" in line] == [
        "  epoch   1  loss 1.250  top-1 50.0 %  top-5 75.0 %  12 photos/s"
    ]


def test_a_split_has_the_classes_of_its_photos(config: TrainConfig) -> None:
    split = find_photos(config)
    assert isinstance(split, Split)
    assert split.labels == ("cat", "cup")
