"""The one door: which check a file gets."""

from __future__ import annotations

import os
from pathlib import Path

from evit_edge.errors import ArtefactError
from evit_edge.runtime.checks.limits import Limits, shown


def check_model(path: Path, limits: Limits | None = None) -> None:
    """Check a ``.tflite``, ``.onnx`` or ``.mlpackage`` before an engine gets it.

    Checkpoints are checked while they are read (:mod:`evit_edge.models.checkpoints`): only tensors come out.

    Args:
        path: A file or package that exists; of another kind, nothing is checked.
        limits: For the memory that it declares; the default limits where None.

    Raises:
        ArtefactError: What is wrong; names the file.
    """
    limits = limits or Limits()
    try:
        if path.suffix == ".tflite":
            from evit_edge.runtime.checks.tflite import check_tflite

            check_tflite(_content(path, limits), limits)
        elif path.suffix == ".onnx":
            from evit_edge.runtime.checks.onnx import check_onnx

            check_onnx(_content(path, limits), path.parent, limits)
        elif path.suffix == ".mlpackage":
            from evit_edge.runtime.checks.package import check_package

            check_package(path, limits)
    except ArtefactError as exc:
        raise ArtefactError(f"{path} is no usable {path.suffix} file: {exc}") from exc


def _content(path: Path, limits: Limits) -> bytes:
    if not path.is_file():  # opening a pipe would wait for ever
        raise ArtefactError("it is no file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limits.memory_bytes:
                raise ArtefactError(
                    f"it has {shown(size)}; the limit is {shown(limits.memory_bytes)} (--memory-limit)"
                )
            return file.read(size)
    except OSError as exc:
        raise ArtefactError(f"it cannot be read: {exc.strerror or exc}") from exc
