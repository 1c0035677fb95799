"""Ranges in a file, with all that says whether they fit: which model, which photos, how they were told."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evit_calibration.errors import CacheError, CacheModelError, CalibrationError
from evit_calibration.photos import hash_digests
from evit_calibration.ranges import Estimator, RangeRule, TensorRange

SCHEMA = "evit-calibration/1"

_T = TypeVar("_T")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = {
    "schema",
    "tool_version",
    "model_sha256",
    "photos_sha256",
    "samples",
    "seed",
    "estimator",
    "percentile",
    "bins",
    "ranges",
}


@dataclass(frozen=True)
class CalibrationCache:
    """What a calibration found out.

    Attributes:
        model_sha256: SHA-256 in hex of the model that was run; what is hashed is the caller's choice, and must
            change when the weights or the graph do.
        photos_sha256: SHA-256 in hex of the photos' contents (:func:`evit_calibration.photos.hash_photos`).
        samples: Number of photos.
        seed: Seed of their draw.
        rule: How ranges were told from values.
        ranges: Tensor name to range.
        tool_version: Version of the program that wrote it; for the record.
        photos: SHA-256 in hex of each photo's content, by which validation photos are told from these; empty in
            caches of earlier versions.
    """

    model_sha256: str
    photos_sha256: str
    samples: int
    seed: int
    rule: RangeRule
    ranges: Mapping[str, TensorRange]
    tool_version: str
    photos: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no calibration gives."""
        for name, value in (("model", self.model_sha256), ("photos", self.photos_sha256)):
            if not _SHA256.fullmatch(value):
                raise CacheError(f"{name} hash {value!r} given; 64 lower-case hex digits are needed")
        if self.samples < 1 or self.seed < 0:
            raise CacheError(f"{self.samples} samples with seed {self.seed} given; 1 and 0 are the least")
        if not self.ranges:
            raise CacheError("a calibration cache without ranges given; at least one tensor is needed")
        if not all(_SHA256.fullmatch(digest) for digest in self.photos):
            raise CacheError("the photos' hashes are no hashes; 64 lower-case hex digits each are needed")
        if self.photos and hash_digests(self.photos) != self.photos_sha256:
            raise CacheError("the photos' hashes do not add up to the hash of them all")

    def require_model(self, sha256: str) -> None:
        """Refuse to serve another model.

        Args:
            sha256: Hash of the model that is to be quantized.

        Raises:
            CacheModelError: The ranges belong to another model.
        """
        if sha256 != self.model_sha256:
            raise CacheModelError(
                f"the calibration cache belongs to model {self.model_sha256[:12]}, this is model {sha256[:12]}; "
                "give the folder of photos instead, to calibrate this model"
            )

    def save(self, path: Path) -> None:
        """Write the cache, whole or not at all.

        Args:
            path: The JSON file; one that exists is replaced.

        Raises:
            CacheError: It cannot be written there.
        """
        try:
            _write_atomically(path, self.to_json())
        except OSError as exc:
            raise CacheError(f"the calibration cache cannot be written to {path}: {exc.strerror or exc}") from exc

    @classmethod
    def load(cls, path: Path) -> CalibrationCache:
        """Read what :meth:`save` wrote.

        Raises:
            CacheError: The file cannot be read, or is anything but a complete cache of this schema.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "it is no text file"
            raise CacheError(f"{path} cannot be read as a calibration cache: {reason}") from exc
        try:
            return cls.from_json(text)
        except CalibrationError as exc:
            raise CacheError(f"{path} is no usable calibration cache: {exc}; calibrate anew") from exc

    def to_json(self) -> str:
        """As JSON text, one tensor a line."""
        head: dict[str, Any] = {
            "schema": SCHEMA,
            "tool_version": self.tool_version,
            "model_sha256": self.model_sha256,
            "photos_sha256": self.photos_sha256,
            "samples": self.samples,
            "seed": self.seed,
            "estimator": self.rule.estimator.value,
            "percentile": self.rule.percentile,
            "bins": self.rule.bins,
        }
        if self.rule.estimator is Estimator.MOVING_AVERAGE:
            head["momentum"] = self.rule.momentum
        if self.photos:
            head["photos"] = list(self.photos)
        lines = [f"{json.dumps(key)}:{json.dumps(value)}" for key, value in head.items()]
        ranges = (
            f"{json.dumps(name)}:{json.dumps([span.minimum, span.maximum], separators=(',', ':'))}"
            for name, span in self.ranges.items()
        )
        return "{" + ",\n".join([*lines, '"ranges":{\n' + ",\n".join(ranges) + "}"]) + "}\n"

    @classmethod
    def from_json(cls, text: str) -> CalibrationCache:
        """Read what :meth:`to_json` gave.

        Raises:
            CacheError: It is not JSON, or a field is missing, unknown, of another type or out of range.
        """
        fields = _object(text)
        if fields.get("schema") != SCHEMA:
            raise CacheError(f"schema {fields.get('schema')!r} found, {SCHEMA!r} is understood")
        momentum = _number(fields.pop("momentum", RangeRule.momentum))
        photos = fields.pop("photos", [])
        if not isinstance(photos, list) or not all(isinstance(digest, str) for digest in photos):
            raise CacheError(f"photos is {photos!r}; a list of hashes is needed")
        if fields.keys() != _FIELDS:
            raise CacheError(f"fields missing or unknown: {', '.join(sorted(fields.keys() ^ _FIELDS))}")
        ranges = _typed(fields, "ranges", dict)
        rule = RangeRule(_estimator(fields), _number(fields["percentile"]), _typed(fields, "bins", int), momentum)
        return cls(
            model_sha256=_typed(fields, "model_sha256", str),
            photos_sha256=_typed(fields, "photos_sha256", str),
            samples=_typed(fields, "samples", int),
            seed=_typed(fields, "seed", int),
            rule=rule,
            ranges={name: _range(name, ends) for name, ends in ranges.items()},
            tool_version=_typed(fields, "tool_version", str),
            photos=tuple(photos),
        )


def _write_atomically(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as exc:
        raise CacheError(f"it is not JSON ({exc})") from exc
    if not isinstance(fields, dict):
        raise CacheError("it is JSON, but no object")
    return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name occurs twice")
    return fields


def _typed(fields: dict[str, Any], name: str, kind: type[_T]) -> _T:
    value = fields[name]
    if type(value) is not kind:  # bool is an int to isinstance
        raise CacheError(f"{name} is {value!r}; {kind.__name__} is needed")
    return value


def _estimator(fields: dict[str, Any]) -> Estimator:
    try:
        return Estimator(fields["estimator"])
    except ValueError as exc:
        raise CacheError(f"estimator {fields['estimator']!r} found; {', '.join(Estimator)} are known") from exc


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise CacheError(f"{value!r} found where a number is needed")
    try:
        return float(value)
    except OverflowError as exc:
        raise CacheError("an integer of hundreds of digits found where a number is needed") from exc


def _range(name: str, ends: Any) -> TensorRange:
    if not isinstance(ends, list) or len(ends) != 2:
        raise CacheError(f"range of {name!r} is {ends!r}; [minimum, maximum] is needed")
    return TensorRange(_number(ends[0]), _number(ends[1]))
