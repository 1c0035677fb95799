"""Running ``.mlpackage`` classifiers, ours and third parties', without Apple software."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from evit_edge.errors import ArtefactError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.coreml.description import read_description
from evit_edge.runtime.coreml.evaluator import Evaluator
from evit_edge.runtime.coreml.package import Package, read_package
from evit_edge.runtime.coreml.precision import Precision
from evit_edge.runtime.info import ModelInfo, check_images
from evit_edge.runtime.rules import label_aliases, preprocessing_rule
from evit_edge.tensors import Float32Array, Layout, TensorSpec, UInt8Images

REMARK = "evaluated by the reference evaluator, not on Apple hardware"
RUNTIME = "coreml-reference"

_BATCH = 16  # larger batches gain nothing and hold more activations at once


class CoreMLRunner:
    """A Core ML classifier in the reference evaluator, in the precision that the file declares.

    Args:
        package: As read.
        threads: Threads of torch, for the whole process.
        labels: Names of the classes, in place of the file's.
        preprocessing: The resize and crop rule, in place of the file's.

    Raises:
        ArtefactError: The package is no classifier of one square colour picture, or has an operation that the
            evaluator does not know.
    """

    def __init__(
        self,
        package: Package,
        *,
        threads: int = 1,
        labels: tuple[str, ...] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self._evaluator = Evaluator(package, Precision.DECLARED)
        self._threads = threads
        path, side = package.path, _side(package)
        described = read_description(package)
        rule, source = preprocessing_rule(
            path, requested=preprocessing, carried=described.preprocessing, side=side
        )
        output = package.predicted_probabilities or package.outputs[0].name
        self._info = ModelInfo(
            path=path,
            input=TensorSpec(package.image.name if package.image else "", (1, side, side, 3), "uint8"),
            output=TensorSpec(output, (1, self._evaluator.num_classes), "float32"),
            layout=Layout.NHWC,
            preprocessing=rule,
            preprocessing_source=source,
            output_kind=described.output_kind,
            runtime=RUNTIME,
            runtime_version=f"torch {torch.__version__}",
            threads=threads,
            labels=labels or described.labels,
            aliases=label_aliases(path, described.aliases),
            remark=REMARK,
        )

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        threads: int = 1,
        labels: tuple[str, ...] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> CoreMLRunner:
        """Read a package and make it ready."""
        return cls(read_package(path), threads=threads, labels=labels, preprocessing=preprocessing)

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        return self._info

    def run(self, images: UInt8Images) -> Float32Array:
        """Score uint8 (B, S, S, 3) pictures, batched; float32 (B, classes), as ``info.output_kind`` says."""
        check_images(images, self._info.image_size)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        parts = [self._evaluator.run(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
        if not parts:
            return np.empty((0, self._info.num_classes), dtype=np.float32)
        return torch.cat(parts).float().numpy()


def _side(package: Package) -> int:
    image = package.image
    if image is None or image.width != image.height:
        taken = "no image" if image is None else f"an image of {image.width} x {image.height}"
        raise ArtefactError(f"{package.path.name} takes {taken}; one square picture is accepted")
    return image.width
