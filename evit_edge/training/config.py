"""What a training run is told. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evit_edge.errors import RequestError
from evit_edge.models.config import DEFAULT_VARIANT

_UNITS = (
    "agc_clip",
    "ema_decay",
    "label_smoothing",
    "mixup",
    "cutmix",
    "erasing",
    "distillation",
    "crop_fraction",
)
# What may change between the start of a run and its resumption, without changing its result.
_INCIDENTAL = ("output", "workers", "cache_photos", "compile_model")


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of one run.

    The recipe is the paper's (arXiv 2305.07027, section 4.1): AdamW, cosine schedule with warm-up, adaptive
    gradient clipping 0.02, exponential moving average, RandAugment, mixup, cutmix, label smoothing 0.1, random
    erasing 0.25. Where 300 epochs of ImageNet and 7,000 photos ask for different values, the default is what
    served the latter.

    Attributes:
        data: Folders, each with ``train/`` and ``val/`` (class folders inside) or just class folders.
        output: Folder of the run: ``best.safetensors``, ``last.safetensors``, ``metrics.jsonl``, ``curves.png``.
        model: Variant to train, with ablations behind ``+``; None takes that of ``init``, or else M0.
        name: Name written into the checkpoints.
        init: Checkpoint to start from; the classifier is replaced where the classes differ.
        teachers: Checkpoints whose averaged answers are distilled into the model.
        aliases: Folder name to class name, for folders that mean the same class.
        epochs: Rounds of training, each followed by a score on the held-out photos.
        passes_per_epoch: How often an epoch visits each photo; for small data on a fast device, where scoring
            after every pass would take longer than the pass.
        batch_size: Photos per step, over all processes.
        learning_rate: Peak, for 512 photos a step; scaled linearly with the batch.
        min_learning_rate: Last, as a fraction of the peak.
        weight_decay: AdamW's, on weights of two and more dimensions but the position biases.
        warmup_epochs: Linear rise to the peak.
        agc_clip: Adaptive gradient clipping: norm of a unit's gradient over its weight's; 0 switches it off.
        ema_decay: Of the averaged weights that are evaluated and saved; 0 switches averaging off.
        image_size: Input side in pixels.
        crop_fraction: Part of the picture's shorter side that evaluation looks at.
        min_crop_area: Least part of a photo's area that a training crop keeps, in (0, 1].
        randaugment_ops: Operations per photo; 0 switches RandAugment off.
        randaugment_magnitude: 1 to 29, of 30.
        mixup: Part of the batches that are blended (mixup), 0..1.
        cutmix: Part of the batches that are pasted (cutmix), 0..1; with mixup at most 1.
        label_smoothing: Weight of the uniform answer in the target.
        erasing: Part of the photos with a rectangle erased.
        distillation: Weight of the teachers' answers in the loss, the labels have the rest.
        temperature: Divides student's and teachers' logits in the distillation loss.
        val_fraction: Part of each class that is held out where the data has no ``val/``.
        seed: Of weights, split, order and augmentation.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: Processes that prepare photos; -1 chooses by the machine.
        cache_photos: Keep decoded photos in memory.
        compile_model: Use ``torch.compile``.
        qat: ``int8`` trains on values that int8 can express, for a checkpoint that is to be quantized; None does
            not. Starts from a trained checkpoint (``init``).
    """

    data: tuple[Path, ...]
    output: Path
    model: str | None = None
    name: str = "model"
    init: str | None = None
    teachers: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)
    epochs: int = 100
    passes_per_epoch: int = 1
    batch_size: int = 64
    learning_rate: float = 4e-3
    min_learning_rate: float = 0.01
    weight_decay: float = 0.05
    warmup_epochs: float = 5
    agc_clip: float = 0.02
    ema_decay: float = 0.999
    image_size: int = 224
    crop_fraction: float = 1.0
    min_crop_area: float = 0.25
    randaugment_ops: int = 2
    randaugment_magnitude: int = 9
    mixup: float = 0.3
    cutmix: float = 0.3
    label_smoothing: float = 0.1
    erasing: float = 0.25
    distillation: float = 0.9
    temperature: float = 2.0
    val_fraction: float = 0.2
    seed: int = 0
    device: str = "auto"
    workers: int = -1
    cache_photos: bool = True
    compile_model: bool = False
    qat: str | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their range, each by name."""
        for name in _UNITS:
            _require(0 <= getattr(self, name) <= 1, f"{name} {getattr(self, name)} given; 0 to 1 are accepted")
        _require(len(self.data) > 0, "no data folder given; at least one is needed")
        _require(self.epochs >= 1, f"{self.epochs} epochs given; at least 1 is needed")
        _require(self.passes_per_epoch >= 1, f"{self.passes_per_epoch} passes given; at least 1 is needed")
        _require(self.batch_size >= 2, f"batch size {self.batch_size} given; BatchNorm needs at least 2")
        _require(self.learning_rate > 0, f"learning rate {self.learning_rate} given; it must be positive")
        _require(self.weight_decay >= 0, f"weight decay {self.weight_decay} given; 0 or more is accepted")
        _require(
            0 <= self.randaugment_magnitude < 30, f"magnitude {self.randaugment_magnitude}; 0 to 29 is accepted"
        )
        _require(0 < self.min_crop_area <= 1, f"min_crop_area {self.min_crop_area} given; (0, 1] is accepted")
        _require(0 < self.val_fraction < 1, f"val_fraction {self.val_fraction} given; (0, 1) is accepted")
        _require(self.mixup + self.cutmix <= 1, f"mixup {self.mixup} and cutmix {self.cutmix} sum to more than 1")
        _require(self.temperature > 0, f"temperature {self.temperature} given; it must be positive")
        _require(
            self.device in ("auto", "cpu", "cuda"), f"device {self.device!r} given; auto, cpu or cuda is accepted"
        )

        _require(self.qat in (None, "int8"), f"--qat {self.qat} given; int8 is accepted")
        _require(
            self.qat is None or self.init is not None,
            "--qat fine-tunes a trained checkpoint, whose BatchNorm statistics it keeps: give --from",
        )
        _require(self.qat is None or not self.compile_model, "--qat and --compile given; one of them is accepted")

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, without what is only of this machine."""
        fields = asdict(self)
        fields["model"] = self.model or DEFAULT_VARIANT  # a run of a version that always named one goes on
        fields["data"] = [path.name for path in self.data]
        fields["teachers"] = [Path(teacher).name for teacher in self.teachers]
        fields["init"] = None if self.init is None else Path(self.init).name
        if self.qat is None:  # a run of a version without it goes on
            del fields["qat"]
        return {key: value for key, value in fields.items() if key not in _INCIDENTAL}

    def digest(self) -> str:
        """Hash of all that decides the result; a run is resumed only under the same."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RequestError(message)
