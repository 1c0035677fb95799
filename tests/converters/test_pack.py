"""Metadata is written as the schema says: evit_edge's runtime, which shares no code, reads it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evit_converters import tflite
from evit_converters.errors import ModelFileError
from evit_converters.tflite import ModelMetadata, Normalization
from evit_edge.runtime.tflite_file import read_tflite_file

LABELS = ("cup", "Hund", "кошка", "red, ripe apple", "e", "f", "g")
FULL = ModelMetadata(
    name="small",
    description="A small network.",
    version="1.2.3",
    author="The authors",
    license="MIT",
    labels=LABELS,
    image_size=(32, 48),
    files={"extra.json": b"{}"},
)

one_line = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)


def test_labels_are_read_back(float_model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.pack_metadata(float_model, FULL))
    assert read_tflite_file(path).labels == LABELS


@given(labels=st.lists(one_line, min_size=7, max_size=7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_any_label_survives(labels: list[str], float_model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.pack_metadata(float_model, ModelMetadata(labels=tuple(labels))))
    assert read_tflite_file(path).labels == tuple(labels)


def test_normalization_is_read_back(float_model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    metadata = ModelMetadata(normalization=Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
    path.write_bytes(tflite.pack_metadata(float_model, metadata))
    found = read_tflite_file(path).normalization
    assert found is not None
    assert (found.mean, found.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def test_packing_changes_no_answer(
    int8_model: bytes, thumbnails: list[np.ndarray], answer: Callable[[bytes, np.ndarray], np.ndarray]
) -> None:
    packed = tflite.pack_metadata(int8_model, FULL)
    assert tflite.partitions(packed).partitions == 1
    np.testing.assert_array_equal(answer(packed, thumbnails[0]), answer(int8_model, thumbnails[0]))


def test_same_metadata_same_bytes(float_model: bytes) -> None:
    assert tflite.pack_metadata(float_model, FULL) == tflite.pack_metadata(float_model, FULL)


def test_packing_again_replaces(float_model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    again = tflite.pack_metadata(tflite.pack_metadata(float_model, FULL), ModelMetadata(labels=LABELS[::-1]))
    path.write_bytes(again)
    assert read_tflite_file(path).labels == LABELS[::-1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:-1], "6 labels given for a model of 7 classes"),
        ((*LABELS[:-1], " "), "an empty label"),
    ],
    ids=["too few", "blank"],
)
def test_labels_that_do_not_fit_are_refused(labels: tuple[str, ...], message: str, float_model: bytes) -> None:
    with pytest.raises(ModelFileError, match=message):
        tflite.pack_metadata(float_model, ModelMetadata(labels=labels))


def test_impossible_metadata_is_refused() -> None:
    with pytest.raises(ModelFileError, match="a label is one line"):
        ModelMetadata(labels=("a\nb",))
    with pytest.raises(ModelFileError, match=r"labels\.txt"):
        ModelMetadata(files={"labels.txt": b""})
    with pytest.raises(ModelFileError, match="impossible"):
        Normalization((1.0,), (0.0,))
