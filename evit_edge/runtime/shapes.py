"""What makes a file a classifier of one picture, whatever its engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evit_edge.errors import ArtefactError
from evit_edge.tensors import Layout, TensorSpec


def picture_layout(spec: TensorSpec, path: Path) -> tuple[Layout, int]:
    """Layout and side of a (1, S, S, 3) or (1, 3, S, S) input.

    Raises:
        ArtefactError: It has another shape.
    """
    match spec.shape:
        case (1, height, width, 3) if height == width:
            return Layout.NHWC, height
        case (1, 3, height, width) if height == width:
            return Layout.NCHW, height
    raise ArtefactError(
        f"{path.name} takes {spec.dtype} {spec.shape}; one square RGB picture is accepted, "
        "(1, S, S, 3) or (1, 3, S, S)"
    )


def check_scores(spec: TensorSpec, path: Path) -> None:
    """Refuse an output that is not one score per class.

    Raises:
        ArtefactError: It has another shape.
    """
    classes = spec.shape[-1] if spec.shape else 0
    if classes < 1 or int(np.prod(spec.shape)) != classes:
        raise ArtefactError(
            f"{path.name} answers with {spec.shape}; one score per class, (1, classes), is accepted"
        )
