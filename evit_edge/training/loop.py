"""The training run: epochs, their scores, and a state from which it goes on after a kill at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from evit_edge.errors import CheckpointError, DataError, OutputError
from evit_edge.files import replacing
from evit_edge.models.checkpoints import load_checkpoint, save_checkpoint
from evit_edge.models.config import DEFAULT_VARIANT, variant
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.preprocessing import Preprocessing
from evit_edge.training import fake_quantization
from evit_edge.training.augment import Augmentation
from evit_edge.training.config import TrainConfig
from evit_edge.training.data import Split, eval_batches, find_photos, train_loader, worker_count
from evit_edge.training.objective import Score, Teachers, load_teachers, score, training_loss
from evit_edge.training.optimization import WeightAverage, clip_gradients, learning_rate_at, make_optimizer
from evit_edge.training.processes import Process, joined, mean_over
from evit_edge.training.records import draw_curves, read_records, write_records

_STATE = "state.pt"
_M = TypeVar("_M", bound=nn.Module)


@dataclass(frozen=True)
class Progress:
    """Where a run stands; handed to the caller's ``report`` after each step and each epoch.

    Attributes:
        epoch: Running epoch, from 0.
        step: Steps done in it.
        steps: Steps of an epoch.
        loss: Of the last step.
        record: The epoch's figures, when it has just ended.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    record: dict[str, Any] | None = None


@dataclass(frozen=True)
class TrainResult:
    """What a finished run left.

    Attributes:
        best: Checkpoint of the best epoch.
        top1: Its accuracy on the held-out photos, 0..1.
        top5: The same for the best five answers.
        val_count: Number of held-out photos.
        epochs: Epochs in all.
        notes: What was changed in the starting checkpoint.
    """

    best: Path
    top1: float
    top5: float
    val_count: int
    epochs: int
    notes: tuple[str, ...] = ()


def train(
    config: TrainConfig,
    report: Callable[[Progress], None] = lambda _: None,
    teachers: Sequence[nn.Module] = (),
) -> TrainResult:
    """Train as configured; a run that was interrupted in ``config.output`` goes on where its state is.

    Under ``torchrun`` every process calls this with the same configuration; the first one writes.

    Args:
        config: The run.
        report: Called after each step and each epoch, in the first process only.
        teachers: Networks of any kind to distil from besides ``config.teachers``; each maps normalised float
            (B, 3, S, S) to logits (B, classes), classes in the order of ``find_photos``.

    Raises:
        DataError: The photos cannot be used.
        CheckpointError: The starting or a teacher's checkpoint does not fit.
        OutputError: The folder cannot be written, or holds a run with another configuration.
        RequestError: The configuration does not fit this machine.
    """
    split = find_photos(config)
    if not split.val.paths:
        raise DataError("no held-out photos: add val/ beside train/, or give class folders to be split")
    with joined(config) as process:
        return _Run(config, split, process, teachers).finish(report if process.leads else lambda _: None)


class _Run:
    """One process's share of a run; holds what lives from epoch to epoch."""

    def __init__(self, config: TrainConfig, split: Split, process: Process, teachers: Sequence[nn.Module]) -> None:
        self.config, self.split, self.process = config, split, process
        torch.manual_seed(config.seed)
        self.preprocessing = Preprocessing(image_size=config.image_size, crop_fraction=config.crop_fraction)
        network, self.notes = _starting_network(config, len(split.labels))
        if config.qat is not None:
            fake_quantization.prepare(network)
        self.network = _placed(network, process.device)
        self.average = WeightAverage(self.network, config.ema_decay)
        self.optimizer = make_optimizer(self.network, config)
        self.stepped = self._stepped()
        self.augment = Augmentation(config, self.preprocessing, len(split.labels)).to(process.device)
        self.teachers: Teachers | None = None
        if config.teachers or teachers:
            taught_by = Teachers([*load_teachers(config, split.labels), *teachers])
            self.teachers = _placed(taught_by, process.device).eval()
        self.loader, self.order = train_loader(split.train, config, process.rank, process.world)
        self.val = eval_batches(split.val, self.preprocessing, worker_count(config)) if process.leads else []
        self.first_epoch = self._resume()
        self.records = read_records(config.output / "metrics.jsonl", self.first_epoch)

    def _stepped(self) -> nn.Module:
        model: nn.Module = self.network
        if self.config.compile_model:
            model = torch.compile(model)  # type: ignore[assignment]
        if self.process.world > 1:
            model = nn.parallel.DistributedDataParallel(model)
        return model

    def finish(self, report: Callable[[Progress], None]) -> TrainResult:
        for epoch in range(self.first_epoch, self.config.epochs):
            started = time.perf_counter()
            loss = self._epoch(epoch, report)
            if self.process.leads:
                record = self._record(epoch, loss, time.perf_counter() - started)
                self._save(epoch, record)
                report(Progress(epoch, len(self.order), len(self.order), loss, record))
        if self.process.leads:
            draw_curves(self.config.output / "curves.png", self.records)
        return self._result()

    def _result(self) -> TrainResult:
        if not self.process.leads:
            return TrainResult(self.config.output / "best.safetensors", 0.0, 0.0, 0, self.config.epochs)
        best = max(self.records, key=lambda record: record["val_top1"])
        return TrainResult(
            best=self.config.output / "best.safetensors",
            top1=best["val_top1"],
            top5=best["val_top5"],
            val_count=len(self.split.val.paths),
            epochs=self.config.epochs,
            notes=self.notes,
        )

    def _epoch(self, epoch: int, report: Callable[[Progress], None]) -> float:
        # Seeding by epoch makes a resumed run draw what an undisturbed one would have drawn.
        torch.manual_seed(self.config.seed * 1_000_003 + epoch * self.process.world + self.process.rank)
        self.order.epoch = epoch
        self.network.train()
        steps = len(self.order)
        total = torch.zeros((), device=self.process.device)
        shown = 0.0
        for step, (images, class_ids) in enumerate(self.loader):
            rate = learning_rate_at(epoch * steps + step, self.config.epochs * steps, steps, self.config)
            loss = self._step(images, class_ids, rate)
            total += loss
            if step % 10 == 0:  # reading the loss waits for the device
                shown = float(loss)
                if math.isnan(shown):
                    raise CheckpointError(f"the loss became NaN in epoch {epoch + 1}; lower the learning rate")
            report(Progress(epoch, step + 1, steps, shown))
        return float(mean_over(self.process, total / steps))

    def _step(self, images: Tensor, class_ids: Tensor, rate: float) -> Tensor:
        device = self.process.device
        images, class_ids = images.to(device, non_blocking=True), class_ids.to(device, non_blocking=True)
        x, targets = self.augment(images, class_ids)
        x = x.contiguous(memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with _autocast(device):
            taught = None if self.teachers is None else self.teachers(x)
            logits = self.stepped(x)
        loss = training_loss(logits, targets, taught, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.agc_clip:
            clip_gradients(self.network.parameters(), self.config.agc_clip)
        self.optimizer.step()
        self.average.update(self.network)
        return loss.detach()

    def _record(self, epoch: int, loss: float, seconds: float) -> dict[str, Any]:
        val: Score = score(self.average.model, self.val, self.preprocessing, self.process.device)
        photos = len(self.order) * self.config.batch_size
        return {
            "epoch": epoch,
            "loss": loss,
            "val_top1": val.top1,
            "val_top5": val.top5,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": round(seconds, 2),
            "photos_per_s": round(photos / seconds, 1),
        }

    def _save(self, epoch: int, record: dict[str, Any]) -> None:
        """Best weights first, then the lines, the state last: whatever a kill cuts off is done again."""
        best_so_far = max((r["val_top1"] for r in self.records), default=-1.0)
        self.records.append(record)
        if record["val_top1"] > best_so_far:
            self._save_weights("best.safetensors", record)
        if epoch + 1 == self.config.epochs:
            self._save_weights("last.safetensors", record)
        write_records(self.config.output / "metrics.jsonl", self.records)
        state = {
            "digest": self.config.digest(),
            "epoch": epoch + 1,
            "network": self.network.state_dict(),
            "average": self.average.model.state_dict(),
            "average_steps": self.average.steps,
            "optimizer": self.optimizer.state_dict(),
        }
        path = self.config.output / _STATE
        with replacing(path) as temporary:
            try:
                torch.save(state, temporary)
            except RuntimeError as exc:  # a full disk, as torch tells it
                raise OutputError(f"{path} cannot be written: {str(exc).splitlines()[0]}") from exc

    def _save_weights(self, filename: str, record: dict[str, Any]) -> None:
        save_checkpoint(
            self.config.output / filename,
            self.average.model,  # type: ignore[arg-type]  # a deep copy of the network
            name=self.config.name,
            labels=self.split.labels,
            preprocessing=self.preprocessing,
            aliases=self.config.aliases,
            training={"config": self.config.to_json(), "record": record},
        )

    def _resume(self) -> int:
        """Load the state of an interrupted run; the number of the epoch to go on with."""
        path = self.config.output / _STATE
        if not path.is_file():
            return 0
        try:
            state = torch.load(path, map_location=self.process.device, weights_only=True)
        except Exception as exc:  # on damaged files the unpickler raises nearly anything
            raise OutputError(f"{path} cannot be read; delete the folder to start anew") from exc
        if state["digest"] != self.config.digest():
            raise OutputError(f"{self.config.output} holds a run with other settings; choose another folder")
        self.network.load_state_dict(state["network"])
        self.average.model.load_state_dict(state["average"])
        self.average.steps = state["average_steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        return int(state["epoch"])


def _placed(module: _M, device: torch.device) -> _M:
    """On the device, with channels-last weights, which its convolutions prefer."""
    module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def _starting_network(config: TrainConfig, classes: int) -> tuple[EfficientViT, tuple[str, ...]]:
    if config.init is None:
        chosen = variant(config.model or DEFAULT_VARIANT)
        return EfficientViT(chosen.adapted(num_classes=classes, image_size=config.image_size)), ()
    start = load_checkpoint(config.init, model=config.model, num_classes=classes, image_size=config.image_size)
    return start.model, start.notes


def _autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 on CUDA; on CPUs it is slower than float32 for this family (measured: 57 against 91 photos/s)."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
