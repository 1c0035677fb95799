"""Finding, sampling and reading photos."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evit_calibration.errors import PhotosError
from evit_calibration.photos import BadPhoto, PhotoReader, hash_photos, list_photos, sample_photos
from evit_edge.errors import DataError
from evit_edge.images import read_rgb


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_photos_at_any_depth_sorted_by_suffix_of_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.JPG", "b/1.webp", "a/x/y/9.png", "c.TIFF", "a.txt", "notes.json", "b/video.mpg", "d.eps")
    found = [path.relative_to(tmp_path).as_posix() for path in list_photos(tmp_path)]
    assert found == ["a/x/y/9.png", "b/1.webp", "b/2.JPG", "c.TIFF"]


def test_folders_sort_before_their_neighbours_names(tmp_path: Path) -> None:
    """By parts: as text, "cat-big/1.png" would come before "cat/1.png"."""
    touch(tmp_path, "cat/1.png", "cat-big/1.png")
    assert [path.parent.name for path in list_photos(tmp_path)] == ["cat", "cat-big"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path / ".above", "._1.jpg", ".thumbs/1.jpg", "1.jpg")
    (tmp_path / ".above" / "folder.jpg").mkdir()
    assert list_photos(tmp_path / ".above") == [tmp_path / ".above" / "1.jpg"]


def test_a_folder_without_photos(tmp_path: Path) -> None:
    touch(tmp_path, "readme.txt")
    with pytest.raises(PhotosError, match="holds no photos"):
        list_photos(tmp_path)


@pytest.mark.parametrize("name", ["none", "file"])
def test_no_folder(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "file")
    with pytest.raises(PhotosError, match="is no folder"):
        list_photos(tmp_path / name)


PATHS = [Path(f"class{i % 7}/photo{i}.jpg") for i in range(200)]


@given(seed=st.integers(0, 2**32), count=st.integers(1, 300), shuffle=st.integers())
def test_a_sample_depends_on_the_seed_alone(seed: int, count: int, shuffle: int) -> None:
    listed = PATHS * 2
    random.Random(shuffle).shuffle(listed)
    sample = sample_photos(listed, count, seed)
    assert sample == sample_photos(PATHS, count, seed)
    assert len(set(sample)) == len(sample) == min(count, 200)
    assert sample[: count // 2] == sample_photos(PATHS, count // 2, seed) if count > 1 else True


def test_seeds_differ_and_spread() -> None:
    assert set(sample_photos(PATHS, 20, 0)) != set(sample_photos(PATHS, 20, 1))
    drawn = {path for seed in range(100) for path in sample_photos(PATHS, 20, seed)}
    assert drawn == set(PATHS)


@pytest.mark.parametrize(("paths", "count", "seed"), [([], 1, 0), (PATHS, 0, 0), (PATHS, 1, -1)], ids=str)
def test_samples_that_cannot_be_drawn(paths: list[Path], count: int, seed: int) -> None:
    with pytest.raises(PhotosError, match="sample"):
        sample_photos(paths, count, seed)


def test_the_hash_is_of_contents_alone(tmp_path: Path) -> None:
    for name, content in [("a", b"1"), ("b", b"2"), ("c", b"1"), ("d", b"3")]:
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert hash_photos([a, b]) == hash_photos([b, c])
    assert len({hash_photos(paths) for paths in ([a], [a, b], [a, d], [a, c])}) == 4


def test_the_hash_of_a_photo_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(PhotosError, match=r"gone\.jpg cannot be read"):
        hash_photos([tmp_path / "gone.jpg"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty photos."""
    for index in range(40):
        Image.fromarray(np.full((4, 6, 3), index, np.uint8)).save(tmp_path / f"{index:02}.png")
    return tmp_path


def reader(folder: Path, seen: list[BadPhoto] | None = None) -> PhotoReader:
    return PhotoReader(
        list_photos(folder), read_rgb, bad_errors=(DataError,), on_bad=None if seen is None else seen.append
    )


def test_good_photos_come_in_order(folder: Path) -> None:
    photos = reader(folder)
    assert len(photos) == 40
    assert [int(image[0, 0, 0]) for image in photos] == list(range(40))
    assert photos.used == list_photos(folder)
    assert photos.bad == []


def test_up_to_5_percent_bad_photos_are_reported_and_passed_over(folder: Path) -> None:
    (folder / "03.png").write_bytes(b"")
    (folder / "20.png").write_bytes(b"no picture")
    seen: list[BadPhoto] = []
    photos = reader(folder, seen)
    assert [int(image[0, 0, 0]) for image in photos] == [i for i in range(40) if i not in {3, 20}]
    assert [photo.path.name for photo in seen] == ["03.png", "20.png"]
    assert "empty" in seen[0].reason
    assert photos.bad == seen
    assert len(photos.used) == 38


def test_more_stop_the_calibration_at_once(folder: Path) -> None:
    for name in ("03", "05", "07"):
        (folder / f"{name}.png").write_bytes(b"")
    photos = reader(folder)
    with pytest.raises(PhotosError, match=r"3 of 40 photos cannot be read, more than 5%; the last: .*07\.png"):
        list(photos)
    assert len(photos.used) == 5


def test_a_second_pass_starts_anew(folder: Path) -> None:
    (folder / "03.png").write_bytes(b"")
    photos = reader(folder)
    assert len(list(photos)) == len(list(photos)) == 39
    assert len(photos.bad) == 1


def test_defects_of_the_reader_are_not_taken_for_bad_photos(folder: Path) -> None:
    def load(path: Path) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(PhotoReader(list_photos(folder), load, bad_errors=(DataError,)))
