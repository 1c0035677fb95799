"""Running ``.tflite`` files, ours and third parties'."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evit_edge.errors import ArtefactError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.engines import Engine, open_interpreter
from evit_edge.runtime.info import ModelInfo, check_images
from evit_edge.runtime.pixels import InputRange, dequantize, look_up, pixel_table
from evit_edge.runtime.rules import label_aliases, preprocessing_rule
from evit_edge.runtime.shapes import check_scores, picture_layout
from evit_edge.runtime.tflite_file import read_tflite_file
from evit_edge.tensors import Float32Array, Layout, TensorSpec, UInt8Images


class TfliteRunner:
    """A ``.tflite`` classifier in ai-edge-litert or tflite-runtime.

    Args:
        path: The file.
        threads: Threads of the interpreter.
        labels: Names of the classes, in place of the file's.
        input_range: What a float input expects of a pixel, in place of the file's NormalizationOptions.
        preprocessing: The resize and crop rule, in place of the file's.
        opener: What opens the file: an interpreter of this machine, or one that is emulated.

    Raises:
        ArtefactError: The file is no sound classifier of one square RGB picture.
        MissingExtraError: No interpreter is installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        labels: tuple[str, ...] | None = None,
        input_range: InputRange | None = None,
        preprocessing: Preprocessing | None = None,
        opener: Callable[[Path, int], tuple[Engine, Any]] = open_interpreter,
    ) -> None:
        described = read_tflite_file(path)
        engine, self._interpreter = opener(path, threads)
        self._lock = threading.Lock()  # an interpreter holds one picture at a time
        source = _only(self._interpreter.get_input_details(), "inputs", path)
        target = _only(self._interpreter.get_output_details(), "outputs", path)
        self._input_index, self._output_index = int(source["index"]), int(target["index"])
        spec, out = _tensor_spec(source, path), _tensor_spec(target, path)
        layout, side = picture_layout(spec, path)
        check_scores(out, path)
        rule, rule_source = preprocessing_rule(
            path, requested=preprocessing, carried=described.preprocessing, side=side
        )
        self._table = pixel_table(spec, input_range.normalization if input_range else described.normalization)
        self._info = ModelInfo(
            path=path,
            input=spec,
            output=out,
            layout=layout,
            preprocessing=rule,
            preprocessing_source=rule_source,
            output_kind=described.output_kind,
            runtime=engine.name,
            runtime_version=engine.version,
            threads=threads,
            labels=labels or described.labels,
            aliases=label_aliases(path, described.aliases),
        )

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        return self._info

    def run(self, images: UInt8Images) -> Float32Array:
        """Score uint8 (B, S, S, 3) pictures, one after the other; float32 (B, classes), dequantized."""
        check_images(images, self._info.image_size)
        batch = look_up(self._table, images)  # (B, S, S, 3)
        if self._info.layout is Layout.NCHW:
            batch = batch.transpose(0, 3, 1, 2)  # (B, 3, S, S)
        scores = np.empty((len(images), self._info.num_classes), dtype=np.float32)
        for i, image in enumerate(batch):
            scores[i] = dequantize(self._invoke(image[None]), self._info.output).reshape(-1)  # (classes,)
        return scores

    def prepare(self, image: UInt8Images) -> Callable[[], object]:
        """A function that runs the engine, and nothing else, on one uint8 (1, S, S, 3) picture.

        The interpreter keeps the picture until :meth:`run` gives it another.
        """
        self.run(image)
        invoke: Callable[[], object] = self._interpreter.invoke
        return invoke

    def _invoke(self, image: Any) -> Any:
        with self._lock:
            self._interpreter.set_tensor(self._input_index, np.ascontiguousarray(image))
            try:
                self._interpreter.invoke()
            except (RuntimeError, ValueError) as exc:
                raise ArtefactError(f"{self._info.path} failed while running: {exc}") from exc
            return self._interpreter.get_tensor(self._output_index)


def _only(details: list[dict[str, Any]], what: str, path: Path) -> dict[str, Any]:
    if len(details) != 1:
        raise ArtefactError(f"{path.name} has {len(details)} {what}; a classifier with exactly one is accepted")
    return details[0]


def _tensor_spec(detail: dict[str, Any], path: Path) -> TensorSpec:
    parameters = detail["quantization_parameters"]
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    if len(scales) > 1:
        raise ArtefactError(f"{path.name} quantizes {detail['name']!r} per channel; one scale is accepted here")
    dtype = np.dtype(detail["dtype"])
    quantized = len(scales) == 1 and np.issubdtype(dtype, np.integer)
    return TensorSpec(
        name=str(detail["name"]),
        shape=tuple(int(n) for n in detail["shape"]),
        dtype=dtype.name,
        scale=float(scales[0]) if quantized else None,
        zero_point=int(zero_points[0]) if quantized else None,
    )
