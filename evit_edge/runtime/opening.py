"""The one door to a model in any engine."""

from __future__ import annotations

from pathlib import Path

from evit_edge.errors import ArtefactError, DataError, RequestError, require, require_installed
from evit_edge.preprocessing import Preprocessing
from evit_edge.publishing import finish
from evit_edge.runtime.checks.door import check_model
from evit_edge.runtime.checks.limits import Limits
from evit_edge.runtime.info import Runner
from evit_edge.runtime.pixels import InputRange
from evit_edge.runtime.tflite import TfliteRunner
from evit_edge.runtime.tflite_file import parse_labels
from evit_edge.zoo import artefact_path

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def open_runner(
    path: str | Path,
    *,
    threads: int = 1,
    labels: tuple[str, ...] | None = None,
    input_range: InputRange | None = None,
    preprocessing: Preprocessing | None = None,
    limits: Limits | None = None,
    checked: bool = False,
) -> Runner:
    """Load an artefact or a checkpoint, checked first, and run it in this process.

    :func:`evit_edge.runtime.isolated.open_isolated` does the same in a process of its own.

    Args:
        path: A ``.tflite``; an ``.onnx`` (onnxruntime is needed); a ``.mlpackage``, which is evaluated without
            Apple's software; a ``.safetensors`` or ``.pth`` checkpoint, ``everyday`` or ``hf:OWNER/NAME``; or
            ``everyday-int8``, the shipped ``.tflite``. Packages and checkpoints need torch.
        threads: Threads of the engine, at least 1.
        labels: One name per class, in place of the file's.
        input_range: What a third party's float input expects of a pixel; read off TFLite Metadata if not given,
            else -1..1.
        preprocessing: The resize and crop rule of an artefact, in place of the file's.
        limits: For the memory that the file declares.
        checked: Whether the file was checked before, so that loading it again need not check it again.

    Raises:
        ArtefactError: The file is missing, corrupt, of another kind, or no image classifier.
        CheckpointError: The same for a checkpoint.
        RequestError: Fewer than one thread.
        MissingExtraError: The engine is not installed.
    """
    if threads < 1:
        raise RequestError(f"{threads} threads given; at least 1 is needed")
    path = artefact_path(path)
    if is_checkpoint(path):
        require("torch", extra="convert")
        require("safetensors", extra="convert")
        from evit_edge.runtime.torch_checkpoint import TorchRunner

        if input_range is not None or preprocessing is not None:
            raise RequestError(f"{path} is a checkpoint and states its own input; drop the input options")
        return TorchRunner.open(Path(path), threads=threads, labels=labels, limits=limits)
    file = Path(path)
    if not checked:
        finish(file.parent)
        if file.exists():
            check_model(file, limits)
    if file.suffix == ".onnx":
        from evit_edge.runtime.onnx import OnnxRunner

        return OnnxRunner(
            file, threads=threads, labels=labels, input_range=input_range, preprocessing=preprocessing
        )
    if is_package(file):
        require("torch", extra="convert")
        require_installed("coremltools", extra="convert")  # of which only the message classes are imported
        from evit_edge.runtime.coreml import open_coreml

        if input_range is not None:
            raise RequestError(f"{path} states what it expects of a pixel; drop the input range")
        return open_coreml(file, threads=threads, labels=labels, preprocessing=preprocessing, limits=limits)
    if file.suffix != ".tflite" and file.exists():
        accepted = ", ".join((".tflite", ".onnx", ".mlpackage", *CHECKPOINT_SUFFIXES))
        raise ArtefactError(f"{path} is of no known kind; {accepted} are accepted")
    return TfliteRunner(file, threads=threads, labels=labels, input_range=input_range, preprocessing=preprocessing)


def is_checkpoint(path: str | Path) -> bool:
    """Whether the name is one of weights rather than of an artefact."""
    text = str(path)
    return text == "everyday" or text.startswith("hf:") or Path(text).suffix in CHECKPOINT_SUFFIXES


def is_package(path: str | Path) -> bool:
    """Whether the name is one of a Core ML package."""
    return Path(path).suffix == ".mlpackage"


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a labels file: one name a line, or ``index  name``.

    Raises:
        DataError: There is no such file, it is no text, or it is empty.
    """
    try:
        labels = parse_labels(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no UTF-8 text"
        raise DataError(f"labels {path} cannot be read: {reason}; one name a line is accepted") from exc
    if not labels:
        raise DataError(f"labels {path} is empty; one name a line is needed")
    return labels
