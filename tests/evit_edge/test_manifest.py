import json
import math

import numpy as np
import pytest

from evit_edge.errors import ArtefactError, OutputError
from evit_edge.golden import Golden, read_golden, write_golden
from evit_edge.manifest import (
    ArtefactEntry,
    CalibrationEntry,
    Manifest,
    Quantization,
    SourceEntry,
    read_manifest,
    write_manifest,
)
from evit_edge.preprocessing import Preprocessing
from evit_edge.tensors import OutputKind, TensorSpec

SHA = "0123456789abcdef" * 4


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        tool_version="0.1.0",
        command="evit-edge convert --quantize int8",
        created="2026-11-21T12:00:00+00:00",
        source=SourceEntry("everyday", "efficientvit_m0", 104, 224, "everyday.safetensors", SHA),
        artefact=ArtefactEntry(
            file="everyday-int8.tflite",
            format="tflite",
            sha256=SHA,
            size_bytes=3_000_000,
            input=TensorSpec("image", (1, 224, 224, 3), "uint8"),
            output=TensorSpec("scores", (1, 104), "int8", 1 / 256, -128),
            output_kind=OutputKind.PROBABILITIES,
            labels=104,
            partitions=1,
        ),
        quantization=Quantization.INT8,
        calibration=CalibrationEntry(SHA, 256, 0, "percentile 99.99"),
        preprocessing=Preprocessing(crop_fraction=0.9),
        versions={"torch": "2.13.0"},
        aliases={"sunflowers": "sunflower"},
        parity={"golden_sqnr_db": 20.5},
    )


def test_manifest_comes_back_as_it_was(manifest, tmp_path):
    write_manifest(tmp_path / "m.json", manifest)
    assert read_manifest(tmp_path / "m.json") == manifest
    assert json.loads((tmp_path / "m.json").read_text())["schema"] == 1


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        pytest.param(("schema",), 2, "schema is 2", id="another schema"),
        pytest.param(("command",), None, "command is None; str is needed", id="null"),
        pytest.param(
            ("artefact", "labels"), "104", "artefact.labels is '104'; int is needed", id="text for a number"
        ),
        pytest.param(("artefact", "labels"), True, "artefact.labels is True", id="truth for a number"),
        pytest.param(("artefact", "sha256"), "abc", "64 lower-case", id="short hash"),
        pytest.param(("artefact", "size_bytes"), 0, "size 0", id="no size"),
        pytest.param(("artefact", "input", "shape"), [1, "2"], "input.shape[1] is '2'", id="shape"),
        pytest.param(("artefact", "output", "zero_point"), None, "zero point None", id="scale alone"),
        pytest.param(("quantization",), "int4", "palette4, palette6 are accepted", id="unknown quantization"),
        pytest.param(("preprocessing", "mean"), [0.5], "mean has 1 entries; 3 are needed", id="one mean"),
        pytest.param(("preprocessing", "crop_fraction"), 1.5, "crop fraction 1.5", id="crop too large"),
        pytest.param(("preprocessing", "image_size"), 0, "image size 0 given", id="no pixels"),
        pytest.param(("preprocessing", "std"), [0.2, 0.2, 0.0], "std positive", id="std of 0"),
        pytest.param(("artefact", "input", "shape"), 224, "input.shape is 224; a list is needed", id="no list"),
        pytest.param(("versions",), ["torch"], "versions is ['torch']", id="list for an object"),
        pytest.param(("surprise",), 1, "has unknown surprise", id="unknown field"),
    ],
)
def test_a_wrong_field_is_named(manifest, tmp_path, place, value, reason):
    path = tmp_path / "m.json"
    write_manifest(path, manifest)
    fields = json.loads(path.read_text())
    inner = fields
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(fields))
    with pytest.raises(ArtefactError) as caught:
        read_manifest(path)
    assert reason in str(caught.value)
    assert "m.json" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{", b"\xff\xfe", b'{"schema": 1}'])
def test_no_manifest_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"m\.json"):
        read_manifest(tmp_path / "m.json")


def test_nothing_is_left_where_writing_fails(manifest, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_manifest(tmp_path / "file" / "m.json", manifest)
    with pytest.raises(ValueError, match="JSON"):
        write_manifest(tmp_path / "m.json", Manifest(**{**vars(manifest), "parity": {"x": math.nan}}))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def golden() -> Golden:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    return Golden(images, rng.normal(size=(2, 5)).astype(np.float32))


def test_golden_vectors_come_back_as_they_were(golden, tmp_path):
    write_golden(tmp_path / "g.npz", golden)
    back = read_golden(tmp_path / "g.npz")
    np.testing.assert_array_equal(back.images, golden.images)
    np.testing.assert_array_equal(back.logits, golden.logits)
    with np.load(tmp_path / "g.npz") as arrays:
        np.testing.assert_allclose(arrays["probabilities"].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"images": np.zeros((2, 8, 8), np.uint8)}, id="grey"),
        pytest.param({"images": np.zeros((3, 8, 8, 3), np.uint8)}, id="more images"),
        pytest.param({"logits": np.zeros((2, 5))}, id="float64"),
        pytest.param({"logits": np.full((2, 5), np.nan, np.float32)}, id="NaN"),
        pytest.param({"probabilities": np.full((2, 5), 0.2, np.float32)}, id="probabilities of others"),
        pytest.param({"probabilities": None}, id="no probabilities"),
    ],
)
def test_golden_vectors_that_do_not_fit_are_refused(golden, tmp_path, change):
    arrays = {"images": golden.images, "logits": golden.logits, "probabilities": golden.probabilities, **change}
    np.savez(tmp_path / "g.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ArtefactError, match=r"g\.npz"):
        read_golden(tmp_path / "g.npz")


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 and no more", b"\x93NUMPY"])
def test_no_golden_vectors_are_told(tmp_path, content):
    if content is not None:
        (tmp_path / "g.npz").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"g\.npz"):
        read_golden(tmp_path / "g.npz")
