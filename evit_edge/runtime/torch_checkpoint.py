"""Running checkpoints in PyTorch, batched. Imports torch: only :func:`open_runner` imports this module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from evit_edge.errors import CheckpointError
from evit_edge.models.checkpoints import Checkpoint, load_checkpoint
from evit_edge.models.config import EfficientViTConfig
from evit_edge.runtime.checks.limits import Limits
from evit_edge.runtime.info import ModelInfo, RuleSource, check_images
from evit_edge.tensors import Float32Array, Layout, OutputKind, TensorSpec, UInt8Images


class TorchRunner:
    """A checkpoint's network on the CPU.

    Args:
        checkpoint: The loaded weights.
        path: The file, for reports.
        threads: Threads of torch, for the whole process.
        labels: Names of the classes, in place of the checkpoint's.
    """

    def __init__(
        self, checkpoint: Checkpoint, path: Path, *, threads: int = 1, labels: tuple[str, ...] | None = None
    ) -> None:
        self._model = checkpoint.model.eval()
        self._threads = threads
        config, rule = checkpoint.config, checkpoint.preprocessing
        side = config.image_size
        if rule.image_size != side:
            raise CheckpointError(f"{path} takes {side} px and its rule cuts {rule.image_size} px")
        self._mean = 255 * torch.tensor(rule.mean).view(1, 3, 1, 1)
        self._std = 255 * torch.tensor(rule.std).view(1, 3, 1, 1)
        self._info = ModelInfo(
            path=path,
            input=TensorSpec("image", (1, 3, side, side), "float32"),
            output=TensorSpec("logits", (1, config.num_classes), "float32"),
            layout=Layout.NCHW,
            preprocessing=rule,
            preprocessing_source=RuleSource.CHECKPOINT,
            output_kind=OutputKind.LOGITS,
            runtime="torch",
            runtime_version=str(torch.__version__),
            threads=threads,
            labels=labels or checkpoint.labels,
            aliases=checkpoint.aliases,
        )

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        threads: int = 1,
        labels: tuple[str, ...] | None = None,
        limits: Limits | None = None,
    ) -> TorchRunner:
        """Load a checkpoint and wrap it."""
        return cls(load_checkpoint(path, limits=limits), path, threads=threads, labels=labels)

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        return self._info

    @property
    def network(self) -> torch.nn.Module:
        """The network itself: normalised float32 (B, 3, S, S) in, logits (B, classes) out."""
        return self._model

    @property
    def config(self) -> EfficientViTConfig:
        """The network's variant, with its own number of classes and input size."""
        return self._model.config

    def run(self, images: UInt8Images) -> Float32Array:
        """Score uint8 (B, S, S, 3) pictures in one batch; float32 logits (B, classes)."""
        self._use_threads()
        with torch.inference_mode():
            logits: Float32Array = self._model(self._normalised(images)).float().numpy()  # (B, classes)
        return logits

    def prepare(self, image: UInt8Images) -> Callable[[], object]:
        """A function that runs the network, and nothing else, on one uint8 (1, S, S, 3) picture."""
        normalised = self._normalised(image)

        def forward() -> object:
            self._use_threads()
            with torch.inference_mode():
                return self._model(normalised)

        return forward

    def _use_threads(self) -> None:
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)

    def _normalised(self, images: UInt8Images) -> torch.Tensor:
        check_images(images, self._info.image_size)
        with torch.inference_mode():
            batch = torch.from_numpy(images.copy()).permute(0, 3, 1, 2)  # (B, 3, S, S)
            return (batch.float() - self._mean) / self._std  # (B, 3, S, S)
