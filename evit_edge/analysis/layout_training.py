"""A short training of any classifier with the parts of this project's own training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from evit_edge.analysis.layout_report import Accuracy
from evit_edge.errors import DataError
from evit_edge.evaluation.statistics import wilson_interval
from evit_edge.preprocessing import Preprocessing
from evit_edge.training.augment import Augmentation
from evit_edge.training.config import TrainConfig
from evit_edge.training.data import eval_batches, find_photos, train_loader, worker_count
from evit_edge.training.objective import score, training_loss
from evit_edge.training.optimization import WeightAverage, clip_gradients, learning_rate_at, make_optimizer

_WARM_UP = 0.2  # of the epochs


class ShortTraining:
    """Trains one network after the other on the same photos in the same order; writes nothing.

    Args:
        data: Folders of class folders, or with ``train/`` and ``val/`` inside.
        image_size: Side of the input in pixels.
        epochs: For each network.
        batch_size: Photos a step.
        device: ``cpu`` or ``cuda``.
        workers: Processes that prepare photos; -1: by cores.
        seed: Of order and augmentation.

    Raises:
        DataError: The photos cannot be used, or none are held out.
    """

    def __init__(
        self,
        data: Sequence[Path],
        *,
        image_size: int,
        epochs: int,
        batch_size: int,
        device: str,
        workers: int = -1,
        seed: int = 0,
    ) -> None:
        self._config = TrainConfig(
            data=tuple(data),
            output=Path(),
            epochs=epochs,
            batch_size=batch_size,
            image_size=image_size,
            warmup_epochs=_WARM_UP * epochs,
            device=device,
            workers=workers,
            seed=seed,
        )
        split = find_photos(self._config)
        if not split.val.paths:
            raise DataError("no held-out photos: add val/ beside train/, or give class folders to be split")
        self._device = torch.device(device)
        self._preprocessing = Preprocessing(image_size=image_size, crop_fraction=self._config.crop_fraction)
        self.classes = len(split.labels)
        self._augment = Augmentation(self._config, self._preprocessing, self.classes).to(self._device)
        self._loader, self._order = train_loader(split.train, self._config, 0, 1)
        self._val = eval_batches(split.val, self._preprocessing, worker_count(self._config))

    def accuracy(self, network: nn.Module, tell: Callable[[float], None] = lambda _: None) -> Accuracy:
        """Train a network and score its averaged weights after the last epoch.

        Args:
            network: Normalised float32 (B, 3, S, S) to logits (B, ``classes``); is changed.
            tell: Called with the share that is done.
        """
        config, steps = self._config, len(self._order)
        network.to(self._device).train()
        average, optimizer = WeightAverage(network, config.ema_decay), make_optimizer(network, config)
        total = config.epochs * steps
        for epoch in range(config.epochs):
            torch.manual_seed(config.seed * 1_000_003 + epoch)  # the same noise for every network
            self._order.epoch = epoch
            for step, (images, class_ids) in enumerate(self._loader):
                done = epoch * steps + step
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate_at(done, total, steps, config)
                self._step(network, optimizer, images, class_ids)
                average.update(network)
                tell((done + 1) / total)
        found = score(average.model, self._val, self._preprocessing, self._device)
        interval = wilson_interval(round(found.top1 * found.count), found.count)
        return Accuracy(found.top1, interval, found.count, config.epochs)

    def _step(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, class_ids: Tensor
    ) -> None:
        x, targets = self._augment(images.to(self._device), class_ids.to(self._device))
        loss = training_loss(network(x), targets, None, self._config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(network.parameters(), self._config.agc_clip)
        optimizer.step()
