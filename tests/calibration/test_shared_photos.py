"""The whole way on photos as people have them: find, draw, read, count, keep."""

from pathlib import Path

import numpy as np
import pytest

from evit_calibration.cache import CalibrationCache
from evit_calibration.photos import PhotoReader, hash_photos, list_photos, sample_photos
from evit_calibration.ranges import RangeRule, collect_ranges
from evit_edge.errors import DataError
from evit_edge.images import read_rgb
from evit_edge.preprocessing import Preprocessing


def channel_values(image: np.ndarray) -> dict[str, np.ndarray]:
    scaled = image.astype(np.float32) / 127.5 - 1
    return {name: scaled[..., channel] for channel, name in enumerate("rgb")}


@pytest.mark.shared
def test_a_sample_of_the_shared_photos_calibrates_the_same_twice(shared: Path, tmp_path: Path) -> None:
    crop = Preprocessing(image_size=64)
    listed = list_photos(shared / "data")
    caches = []
    for paths in (listed, listed[::-1]):
        reader = PhotoReader(
            sample_photos(paths, 100, 0), lambda path: crop.apply(read_rgb(path)), bad_errors=(DataError,)
        )
        ranges = collect_ranges(channel_values, reader)
        assert reader.bad == []
        caches.append(CalibrationCache("0" * 64, hash_photos(reader.used), 100, 0, RangeRule(), ranges, "0"))
    assert caches[0] == caches[1]
    assert all(span.minimum < -0.9 and span.maximum > 0.9 for span in caches[0].ranges.values())
    caches[0].save(tmp_path / "a.json")
    assert CalibrationCache.load(tmp_path / "a.json") == caches[1]
