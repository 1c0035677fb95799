"""Value ranges for int8: from a cache that belongs to the model, or from photos."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evit_calibration.cache import CalibrationCache
from evit_calibration.photos import BadPhoto, PhotoReader, hash_digests, list_photos, photo_digests, sample_photos
from evit_calibration.ranges import RangeRule, collect_ranges
from evit_edge import __version__
from evit_edge.errors import DataError, RequestError
from evit_edge.images import read_rgb
from evit_edge.models.checkpoints import Checkpoint
from evit_edge.pipeline.request import ConvertRequest, Progress, Stage, Target
from evit_edge.tensors import Float32Array, UInt8Images
from evit_edge.zoo import EVERYDAY, calibration_path, is_shipped_checkpoint

_SHIPPED = (Target.TFLITE, Target.ONNX)
"""Formats whose graph of the shipped model has a calibration cache with it."""


@dataclass(frozen=True)
class Calibrated:
    """Ranges, and whether they are to be written beside the artefact.

    Attributes:
        cache: The ranges with their origin.
        is_new: Whether they were measured just now.
    """

    cache: CalibrationCache
    is_new: bool

    @property
    def spans(self) -> dict[str, tuple[float, float]]:
        """Tensor name to minimum and maximum."""
        return {name: (span.minimum, span.maximum) for name, span in self.cache.ranges.items()}


@dataclass(frozen=True)
class FloatGraph:
    """A float model that can show its activations.

    Attributes:
        names: Of all tensors whose ranges are needed.
        open: Gives the function from one image, uint8 (1, S, S, 3), to those tensors by name, float32.
    """

    names: tuple[str, ...]
    open: Callable[[], Callable[[UInt8Images], Mapping[str, Float32Array]]]


def calibration_identity(checkpoint: Checkpoint, names: tuple[str, ...]) -> str:
    """What a calibration cache belongs to: these weights, in a graph with these tensors.

    Args:
        checkpoint: The model.
        names: The tensors of its float graph.

    Returns:
        SHA-256 in hex.
    """
    parts = [checkpoint.sha256, checkpoint.config.image_size, names]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def find_source(request: ConvertRequest, checkpoint: Checkpoint) -> CalibrationCache | list[Path]:
    """Find the cache or the photos before anything slow is begun.

    Returns:
        A cache (not yet known to fit), or the photos to calibrate with.

    Raises:
        RequestError: There is nothing to calibrate with.
        CalibrationError: The cache is damaged, or the folder holds no photos.
    """
    places = list(request.calibration)
    if not places and request.target in _SHIPPED and is_shipped_checkpoint(checkpoint.sha256):
        places = [calibration_path(EVERYDAY, request.target.value)]
    if not places:
        raise RequestError(
            f"{request.quantization} needs photos like those that the model will see: give --calibration DIR, "
            "or a calibration cache"
        )
    if len(places) == 1 and places[0].is_file():
        return CalibrationCache.load(places[0])
    photos = [path for place in places for path in list_photos(place)]
    return sample_photos(photos, request.samples, request.seed)


def calibrate(
    source: CalibrationCache | list[Path],
    request: ConvertRequest,
    checkpoint: Checkpoint,
    graph: FloatGraph,
    tell: Callable[[Progress], None],
) -> Calibrated:
    """Check that a cache belongs to the model, or measure its ranges on photos.

    Args:
        source: What :func:`find_source` found.
        request: Says how ranges are told, and the seed of the choice of photos.
        checkpoint: The model.
        graph: Its float graph.
        tell: Called for each photo.

    Raises:
        CalibrationError: The cache is another model's, or the photos cannot be used.
    """
    if isinstance(source, CalibrationCache):
        source.require_model(calibration_identity(checkpoint, graph.names))
        return Calibrated(source, is_new=False)

    def told_bad(photo: BadPhoto) -> None:
        tell(Progress(Stage.CALIBRATE, remark=f"left out: {photo.reason}"))

    def told_done(done: int) -> None:
        tell(Progress(Stage.CALIBRATE, done=done, total=len(source)))

    reader = PhotoReader(
        source,
        lambda path: checkpoint.preprocessing.apply(read_rgb(path)),
        bad_errors=(DataError,),
        on_bad=told_bad,
    )
    rule = RangeRule(request.estimator)
    ranges = collect_ranges(graph.open(), reader, rule=rule, progress=told_done)
    if reader.bad:
        count = f"{len(reader.bad)} of {len(reader)} photos could not be read and were left out"
        tell(Progress(Stage.CALIBRATE, remark=f"{count}; {len(reader.used)} were calibrated with"))
    digests = tuple(photo_digests(reader.used))
    cache = CalibrationCache(
        model_sha256=calibration_identity(checkpoint, graph.names),
        photos_sha256=hash_digests(digests),
        samples=len(reader.used),
        seed=request.seed,
        rule=rule,
        ranges=ranges,
        tool_version=__version__,
        photos=digests,
    )
    return Calibrated(cache, is_new=True)
