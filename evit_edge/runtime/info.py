"""What every engine tells about a model, and the one thing it does: pictures in, scores out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np

from evit_edge.errors import ArtefactError, RequestError
from evit_edge.preprocessing import Preprocessing
from evit_edge.tensors import Float32Array, Layout, OutputKind, TensorSpec, UInt8Images


class RuleSource(StrEnum):
    """Where the resize and crop rule of a model was found."""

    CHECKPOINT = "checkpoint"
    FILE = "file"
    MANIFEST = "manifest"
    REQUEST = "request"
    DEFAULT = "default"


@dataclass(frozen=True)
class ModelInfo:
    """A model as its engine sees it.

    Attributes:
        path: The file.
        input: Its only input.
        output: Its only output, one score per class.
        layout: Order of the input's axes.
        preprocessing: How a photo becomes the square that :meth:`Runner.run` takes.
        preprocessing_source: Where that rule was found.
        output_kind: What the scores are.
        runtime: Name of the engine.
        runtime_version: Version of the engine.
        threads: Threads that the engine was asked to use.
        labels: One name per class, where known.
        aliases: Folder names that mean a label.
        remark: What has to be said wherever the runner's results are shown; None for nothing.
    """

    path: Path
    input: TensorSpec
    output: TensorSpec
    layout: Layout
    preprocessing: Preprocessing
    preprocessing_source: RuleSource
    output_kind: OutputKind
    runtime: str
    runtime_version: str
    threads: int = 1
    labels: tuple[str, ...] | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    remark: str | None = None

    def __post_init__(self) -> None:
        """Labels fit the classes."""
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise ArtefactError(
                f"{self.path.name} has {self.num_classes} classes and {len(self.labels)} labels were given; "
                "give one label per class, in the model's order"
            )

    @property
    def num_classes(self) -> int:
        """Scores per picture."""
        return self.output.shape[-1]

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        return self.preprocessing.image_size

    def label(self, class_id: int) -> str:
        """The class's name, or ``class N`` where names are unknown."""
        return f"class {class_id}" if self.labels is None else self.labels[class_id]


class Runner(Protocol):
    """A loaded model in some engine."""

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        ...

    def run(self, images: UInt8Images) -> Float32Array:
        """Score pictures.

        Args:
            images: RGB uint8 (B, S, S, 3), S = ``info.image_size``, any B.

        Returns:
            float32 (B, classes), logits or probabilities as ``info.output_kind`` says.

        Raises:
            RequestError: The pictures have another shape or type.
        """
        ...


def check_images(images: UInt8Images, side: int) -> None:
    """Refuse what :meth:`Runner.run` does not take.

    Raises:
        RequestError: Not uint8 (B, side, side, 3).
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
        raise RequestError(
            f"images of {images.dtype} {images.shape} given; uint8 (B, {side}, {side}, 3) is accepted"
        )
