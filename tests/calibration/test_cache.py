"""The calibration cache: it comes back equal, is small, and nothing else is taken for one."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_calibration.cache import CalibrationCache
from evit_calibration.errors import CacheError, CacheModelError
from evit_calibration.ranges import Estimator, RangeRule, TensorRange

MODEL, PHOTOS = "ab" * 32, "12" * 32


def cache(**changes: object) -> CalibrationCache:
    fields = {
        "model_sha256": MODEL,
        "photos_sha256": PHOTOS,
        "samples": 256,
        "seed": 7,
        "rule": RangeRule(),
        "ranges": {"stem/conv;relu": TensorRange(0.0, 6.25), 'odd "name" é': TensorRange(-1e-20, 3.4028235e38)},
        "tool_version": "0.1.0",
    }
    return CalibrationCache(**(fields | changes))


ends = st.floats(0, 3.4028234663852886e38, width=32)


@given(
    ranges=st.dictionaries(
        st.text(max_size=40), st.builds(lambda a, b: TensorRange(-a, b), ends, ends), min_size=1
    ),
    rule=st.builds(
        RangeRule, st.sampled_from(Estimator), st.floats(50, 100, exclude_min=True), st.sampled_from([256, 4096])
    ),
    samples=st.integers(1, 10**6),
    seed=st.integers(0, 2**63),
)
def test_text_and_back(ranges: dict[str, TensorRange], rule: RangeRule, samples: int, seed: int) -> None:
    before = cache(ranges=ranges, rule=rule, samples=samples, seed=seed)
    after = CalibrationCache.from_json(before.to_json())
    assert after == before
    assert list(after.ranges) == list(before.ranges)


def test_file_and_back_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m0.calibration.json"
    cache(seed=1).save(path)
    cache().save(path)
    assert CalibrationCache.load(path) == cache()
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_cache_is_the_same_file() -> None:
    assert cache().to_json() == cache().to_json()


def test_500_tensors_take_less_than_100_kb() -> None:
    rng = np.random.default_rng(0)
    ends = [float(str(x)) for x in rng.lognormal(0, 3, 1000).astype(np.float32)]
    name = "evit_edge.models.deploy.Deployed/blocks2.{}/attention/branches.{}/conv2d;add;relu_{}"
    ranges = {
        name.format(i % 7, i % 4, i): TensorRange(-low, high)
        for i, (low, high) in enumerate(zip(ends[::2], ends[1::2], strict=True))
    }
    assert len(ranges) == 500
    assert len(cache(ranges=ranges).to_json().encode()) < 100_000


def test_another_model_is_refused_by_its_hash() -> None:
    cache().require_model(MODEL)
    with pytest.raises(CacheModelError, match=r"belongs to model abababababab, this is model cdcdcdcdcdcd; give"):
        cache().require_model("cd" * 32)


def edited(**changes: object) -> str:
    fields = json.loads(cache().to_json())
    return json.dumps({key: value for key, value in (fields | changes).items() if value is not None})


BAD_TEXTS = {
    "empty": ("", "not JSON"),
    "cut": (cache().to_json()[:-30], "not JSON"),
    "binary": ("\0\1\2", "not JSON"),
    "list": ("[]", "no object"),
    "deep": ("[" * 100_000, "not JSON"),
    "other-json": ('{"a": 1}', "schema None found"),
    "future": (edited(schema="evit-calibration/2"), "schema 'evit-calibration/2' found, 'evit-calibration/1'"),
    "field-missing": (edited(seed=None), "missing or unknown: seed"),
    "field-unknown": (edited(extra=1), "missing or unknown: extra"),
    "twice": ('{"schema": 1, "schema": 2}', "occurs twice"),
    "text-for-number": (edited(samples="256"), "samples is '256'; int is needed"),
    "bool-for-number": (edited(samples=True), "samples is True; int is needed"),
    "no-samples": (edited(samples=0), "0 samples"),
    "hash": (edited(model_sha256="AB" * 32), "model hash"),
    "estimator": (edited(estimator="best"), "estimator 'best' found; minmax, moving-average"),
    "estimator-list": (edited(estimator=[]), "estimator"),
    "percentile": (edited(percentile=20), "percentile 20"),
    "percentile-text": (edited(percentile="99"), "where a number is needed"),
    "bins": (edited(bins=1000), "power of two"),
    "no-ranges": (edited(ranges={}), "without ranges"),
    "ranges-list": (edited(ranges=[]), "ranges is"),
    "range-of-3": (edited(ranges={"t": [0, 1, 2]}), "range of 't'"),
    "range-of-text": (edited(ranges={"t": ["a", "b"]}), "where a number is needed"),
    "range-without-zero": (edited(ranges={"t": [1, 2]}), "around zero"),
    "range-nan": (edited(ranges={"t": [0, float("nan")]}), "around zero"),
    "photos-number": (edited(photos=3), "photos is 3; a list of hashes"),
    "photos-numbers": (edited(photos=[1, 2]), r"photos is \[1, 2\]; a list of hashes"),
    "photos-short": (edited(photos=["ab"]), "the photos' hashes are no hashes"),
    "photos-others": (edited(photos=["cd" * 32]), "the photos' hashes do not add up to the hash of them all"),
    "range-huge": (edited(ranges={"t": [0, 10**400]}), "hundreds of digits"),
}


@pytest.mark.parametrize(("text", "reason"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_bad_files_are_named_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(CacheError, match=rf"bad\.json is no usable calibration cache: .*{reason}"):
        CalibrationCache.load(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"none\.json cannot be read .*No such file"):
        CalibrationCache.load(tmp_path / "none.json")
    (tmp_path / "a.tflite").write_bytes(b"TFL3\xff\xfe")
    with pytest.raises(CacheError, match="no text file"):
        CalibrationCache.load(tmp_path / "a.tflite")


def test_an_unwritable_place_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"none/a\.json: No such"):
        cache().save(tmp_path / "none" / "a.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CacheError, match="folder"):
        cache().save(tmp_path / "folder")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
