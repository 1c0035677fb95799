"""Running ``.onnx`` classifiers in ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evit_edge.errors import ArtefactError, require
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.description import (
    DESCRIPTION_KEY,
    LABELS_KEY,
    Description,
    parse_description,
    parse_label_list,
)
from evit_edge.runtime.info import ModelInfo, check_images
from evit_edge.runtime.pixels import InputRange, look_up, pixel_table
from evit_edge.runtime.rules import label_aliases, preprocessing_rule
from evit_edge.runtime.shapes import check_scores, picture_layout
from evit_edge.tensors import Float32Array, Layout, OutputKind, TensorSpec, UInt8Images

_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}
_ERRORS_ONLY = 3
_SUM_TOLERANCE = 1e-2  # half-precision softmax over a thousand classes


class OnnxRunner:
    """An ``.onnx`` classifier of one square RGB picture.

    Args:
        path: The file.
        threads: Threads within an operator.
        labels: Names of the classes, in place of the file's.
        input_range: What a float input expects of a pixel; -1..1 if not given.
        preprocessing: The resize and crop rule, in place of the manifest's or the default.

    Attributes:
        carried: The resize and crop rule inside the file, where this project wrote it.

    Raises:
        ArtefactError: The file is no sound classifier of one square RGB picture.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        labels: tuple[str, ...] | None = None,
        input_range: InputRange | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        onnxruntime = require("onnxruntime", extra="onnx")
        self._session = _open(onnxruntime, path, threads)
        source = _only(self._session.get_inputs(), "inputs", path)
        target = _only(self._session.get_outputs(), "outputs", path)
        spec, out = _tensor_spec(source, path), _tensor_spec(target, path)
        layout, side = picture_layout(spec, path)
        check_scores(out, path)
        metadata = self._session.get_modelmeta().custom_metadata_map
        described = _described(metadata, path)
        rule, rule_source = preprocessing_rule(
            path, requested=preprocessing, carried=described.preprocessing, side=side
        )
        self.carried = described.preprocessing
        self._input, self._layout, self._side = spec.name, layout, side
        self._table = pixel_table(spec, input_range.normalization if input_range else None)
        self._path = path
        self._info = ModelInfo(
            path=path,
            input=spec,
            output=out,
            layout=layout,
            preprocessing=rule,
            preprocessing_source=rule_source,
            output_kind=described.output_kind or self._output_kind(),
            runtime="onnxruntime",
            runtime_version=str(onnxruntime.__version__),
            threads=threads,
            labels=labels or parse_label_list(metadata.get(LABELS_KEY)),
            aliases=label_aliases(path, described.aliases),
        )

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        return self._info

    def run(self, images: UInt8Images) -> Float32Array:
        """Score uint8 (B, S, S, 3) pictures, one after the other; float32 (B, classes)."""
        check_images(images, self._side)
        rows = [self._infer(self._fed(image[None])) for image in images]
        return np.stack(rows)  # (B, classes)

    def prepare(self, image: UInt8Images) -> Callable[[], object]:
        """A function that runs the engine, and nothing else, on one uint8 (1, S, S, 3) picture."""
        check_images(image, self._side)
        session, fed = self._session, {self._input: self._fed(image)}
        return lambda: session.run(None, fed)

    def _fed(self, image: UInt8Images) -> Any:
        batch = look_up(self._table, image)  # (1, S, S, 3)
        if self._layout is Layout.NCHW:
            batch = batch.transpose(0, 3, 1, 2)  # (1, 3, S, S)
        return np.ascontiguousarray(batch)

    def _infer(self, fed: Any) -> Float32Array:
        try:
            scores = self._session.run(None, {self._input: fed})[0]
        except Exception as exc:  # ONNX Runtime's own exceptions have no common base
            raise ArtefactError(f"{self._path} failed while running: {_line(exc)}") from exc
        return np.asarray(scores, dtype=np.float32).reshape(-1)  # (classes,)

    def _output_kind(self) -> OutputKind:
        """Probabilities where the scores of noise are none below 0 and add up to 1."""
        noise = np.random.default_rng(0).integers(0, 256, (1, self._side, self._side, 3)).astype(np.uint8)
        scores = self._infer(self._fed(noise))
        adds_up = abs(float(scores.sum()) - 1) < _SUM_TOLERANCE
        return OutputKind.PROBABILITIES if adds_up and float(scores.min()) >= 0 else OutputKind.LOGITS


def _open(onnxruntime: Any, path: Path, threads: int) -> Any:
    if not path.is_file():
        raise ArtefactError(f"no artefact at {path}; give a .tflite or .onnx file or a checkpoint")
    onnxruntime.disable_telemetry_events()  # its Windows builds send them by default
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # ONNX Runtime's own exceptions have no common base
        raise ArtefactError(f"{path} is no usable .onnx file: onnxruntime says {_line(exc)}") from exc


def _described(metadata: dict[str, str], path: Path) -> Description:
    try:
        return parse_description(metadata.get(DESCRIPTION_KEY), f"metadata {DESCRIPTION_KEY!r}")
    except ArtefactError as exc:
        raise ArtefactError(f"{path}: {exc}") from exc


def _only(entries: list[Any], what: str, path: Path) -> Any:
    if len(entries) != 1:
        raise ArtefactError(f"{path.name} has {len(entries)} {what}; a classifier with exactly one is accepted")
    return entries[0]


def _tensor_spec(entry: Any, path: Path) -> TensorSpec:
    if entry.type not in _TYPES:
        raise ArtefactError(f"{path.name}: {entry.name!r} is {entry.type}; {', '.join(_TYPES)} are accepted")
    dims = list(entry.shape)
    if dims and not isinstance(dims[0], int):
        dims[0] = 1  # a free batch size
    if not all(isinstance(n, int) for n in dims):
        raise ArtefactError(
            f"{path.name}: {entry.name!r} has shape {entry.shape}; a fixed picture size is accepted"
        )
    return TensorSpec(name=str(entry.name), shape=tuple(int(n) for n in dims), dtype=_TYPES[entry.type])


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())
