import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evit_edge.classification import classify
from evit_edge.errors import ArtefactError, CheckpointError, DataError, RequestError
from evit_edge.manifest import manifest_path, write_manifest
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime import (
    InputRange,
    Layout,
    OutputKind,
    centred_logits,
    delegate_partitions,
    open_runner,
    probabilities,
    read_labels,
)
from evit_edge.runtime.engines import open_interpreter
from evit_edge.runtime.info import RuleSource
from evit_edge.runtime.shapes import check_scores, picture_layout
from evit_edge.tensors import TensorSpec

ROOT = Path(__file__).resolve().parents[2]
FORMS = ("uint8-nhwc-probabilities", "float32-nchw-logits", "float32-nhwc-probabilities", "int8-nhwc-logits")


def three_planes() -> np.ndarray:
    images = np.zeros((3, 32, 32, 3), dtype=np.uint8)
    for channel in range(3):
        images[channel, ..., channel] = 51 * (channel + 3)
    return images


@pytest.mark.parametrize("form", FORMS)
def test_every_form_answers_the_same(colour_models, form):
    dtype, layout, kind = form.split("-")
    input_range = InputRange.ZERO_TO_ONE if dtype == "float32" else None
    runner = open_runner(colour_models[form], input_range=input_range)
    info = runner.info
    assert (info.input.dtype, info.layout, info.output_kind) == (dtype, Layout(layout.upper()), OutputKind(kind))
    assert info.labels == ("red", "green", "blue")
    assert (info.num_classes, info.image_size, info.preprocessing_source) == (3, 32, RuleSource.DEFAULT)
    expected = 10 * three_planes().mean((1, 2)) / 255
    assert runner.run(three_planes()).dtype == np.float32
    np.testing.assert_allclose(
        centred_logits(runner.run(three_planes()), info.output_kind),
        expected - expected.mean(axis=1, keepdims=True),
        atol=1e-4,
    )


@pytest.mark.parametrize("input_range", list(InputRange), ids=str)
def test_input_range_is_what_a_float_model_gets(colour_models, input_range):
    grey = np.full((1, 32, 32, 3), 100, dtype=np.uint8)
    logits = open_runner(colour_models["float32-nchw-logits"], input_range=input_range).run(grey)[0] / 10
    expected = {
        InputRange.RAW: (100, 100, 100),
        InputRange.ZERO_TO_ONE: (100 / 255,) * 3,
        InputRange.MINUS_ONE_TO_ONE: (100 / 127.5 - 1,) * 3,
        InputRange.IMAGENET: [
            (100 / 255 - m) / s for m, s in zip(Preprocessing.mean, Preprocessing.std, strict=True)
        ],
    }[input_range]
    np.testing.assert_allclose(logits, expected, rtol=1e-4)


def test_labels_and_rule_of_the_request_go_first(colour_model):
    rule = Preprocessing(image_size=32, crop_fraction=1.0)
    info = open_runner(colour_model, labels=("a", "b", "c"), preprocessing=rule, threads=2).info
    assert (info.labels, info.preprocessing, info.preprocessing_source) == (
        ("a", "b", "c"),
        rule,
        RuleSource.REQUEST,
    )
    assert info.threads == 2
    assert info.runtime == "ai-edge-litert"


def test_colour_model_is_one_partition(colour_model):
    report = delegate_partitions(colour_model)
    assert (report.partitions, report.native_ops) == (1, ("CAST",))


def test_checkpoint_and_its_artefact_agree(m0_checkpoint, m0_artefact, photos):
    torch_runner, tflite_runner = open_runner(m0_checkpoint), open_runner(m0_artefact)
    rule = torch_runner.info.preprocessing
    assert tflite_runner.info.preprocessing == rule
    assert tflite_runner.info.preprocessing_source is RuleSource.FILE
    assert tflite_runner.info.labels == torch_runner.info.labels
    assert tflite_runner.info.aliases == torch_runner.info.aliases == {"mug": "cup"}
    images = np.stack([rule.apply(image) for image in photos.values()])
    np.testing.assert_allclose(
        tflite_runner.run(images), probabilities(torch_runner.run(images), OutputKind.LOGITS), atol=2e-5
    )


def test_rule_comes_from_the_manifest_where_the_file_has_none(colour_model, describe, tmp_path):
    copy = tmp_path / "c.tflite"
    copy.write_bytes(colour_model.read_bytes())
    rule = Preprocessing(image_size=32, crop_fraction=0.5)
    write_manifest(manifest_path(copy), replace(describe(copy, sha256="0" * 64), preprocessing=rule))
    info = open_runner(copy).info
    assert (info.preprocessing, info.preprocessing_source) == (rule, RuleSource.MANIFEST)
    assert info.aliases == {"mug": "cup"}


def test_a_foreign_json_beside_a_model_is_left_alone(colour_model, tmp_path):
    copy = tmp_path / "c.tflite"
    copy.write_bytes(colour_model.read_bytes())
    manifest_path(copy).write_text('{"name": "somebody else\'s"}')
    assert open_runner(copy).info.preprocessing_source is RuleSource.DEFAULT


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        pytest.param(np.zeros((1, 31, 32, 3), np.uint8), "32, 32", id="size"),
        pytest.param(np.zeros((1, 32, 32, 3), np.float32), "float32", id="type"),
        pytest.param(np.zeros((32, 32, 3), np.uint8), "(32, 32, 3)", id="no batch"),
    ],
)
def test_wrong_images_are_refused(colour_model, images, reason):
    with pytest.raises(RequestError) as caught:
        open_runner(colour_model).run(images)
    assert reason in str(caught.value)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.7])
def test_truncated_files_are_refused(colour_model, tmp_path, part):
    content = colour_model.read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ArtefactError, match=r"cut\.tflite"):
        open_runner(path)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        pytest.param("x.tflite", None, ArtefactError, id="missing"),
        pytest.param("x.tflite", b"\x00" * 64, ArtefactError, id="zeros"),
        pytest.param("x.tflite", b"\xff\xff\xff\xffTFL3" + b"\xff" * 64, ArtefactError, id="pointers outside"),
        pytest.param("x.onnx", b"data", ArtefactError, id="another kind"),
        pytest.param("x.safetensors", b"data", CheckpointError, id="no checkpoint"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, name, content, error):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error):
        open_runner(tmp_path / name)


def test_labels_that_do_not_fit_and_no_threads_are_refused(colour_model):
    with pytest.raises(ArtefactError, match="3 classes and 2 labels"):
        open_runner(colour_model, labels=("a", "b"))
    with pytest.raises(RequestError, match="0 threads"):
        open_runner(colour_model, threads=0)


@pytest.mark.parametrize("shape", [(1, 3, 32, 31), (1, 32, 31, 3), (1, 32, 32), (2, 32, 32, 3)])
def test_an_input_that_is_no_square_picture_is_refused(shape):
    with pytest.raises(ArtefactError, match=r"net\.tflite takes uint8 \(.*\); one square RGB picture is accepted"):
        picture_layout(TensorSpec("x", shape, "uint8"), Path("net.tflite"))


@pytest.mark.parametrize("shape", [(), (1, 0), (2, 5), (1, 7, 7, 5)])
def test_an_output_that_is_not_a_score_per_class_is_refused(shape):
    with pytest.raises(ArtefactError, match=r"net\.tflite answers with \(.*\); one score per class"):
        check_scores(TensorSpec("y", shape, "float32"), Path("net.tflite"))


def test_a_rule_of_another_size_is_refused(m0_checkpoint):
    from evit_edge.models.checkpoints import load_checkpoint
    from evit_edge.runtime.torch_checkpoint import TorchRunner

    checkpoint = load_checkpoint(m0_checkpoint)
    other = replace(checkpoint, preprocessing=Preprocessing(image_size=64))
    with pytest.raises(CheckpointError, match="takes 128 px and its rule cuts 64 px"):
        TorchRunner(other, m0_checkpoint)


def test_what_the_engine_refuses_is_told_in_its_words():
    with pytest.raises(ArtefactError, match=r"x\.tflite is no usable \.tflite file: ai-edge-litert says .+"):
        open_interpreter(Path("x.tflite"), 1, content=b"\x1c\0\0\0TFL3" + bytes(64))


@pytest.mark.parametrize("top", [0, -1])
def test_at_least_one_class_is_named(colour_model, coffee_jpg, top):
    with pytest.raises(RequestError, match=f"the best {top} classes asked for; at least 1 is needed"):
        classify(open_runner(colour_model), coffee_jpg, top)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        pytest.param("a\nb c\n\n", ("a", "b c"), id="plain"),
        pytest.param(
            "0  background\n1  tench, Tinca tinca\n", ("background", "tench, Tinca tinca"), id="numbered"
        ),
        pytest.param("0: a\n1: b\n", ("a", "b"), id="colons"),
        pytest.param("2 stroke\n4 stroke\n", ("2 stroke", "4 stroke"), id="numbers that are names"),
    ],
)
def test_labels_files(tmp_path, text, labels):
    (tmp_path / "labels.txt").write_text(text)
    assert read_labels(tmp_path / "labels.txt") == labels


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\xfa"], ids=["missing", "empty", "binary"])
def test_bad_labels_files(tmp_path, content):
    if content is not None:
        (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.txt"):
        read_labels(tmp_path / "labels.txt")


REPLAY = """
import json, sys
import numpy as np
from evit_edge.runtime import delegate_partitions, open_runner
images = np.load(sys.argv[1])
answers = []
for path in sys.argv[2:]:
    runner = open_runner(path)
    side = runner.info.image_size
    answers.append({
        "runtime": runner.info.runtime, "labels": runner.info.labels, "side": side,
        "scores": runner.run(np.ascontiguousarray(images[:, :side, :side])).tolist(),
        "partitions": delegate_partitions(path),
    })
assert "torch" not in sys.modules
print(json.dumps(answers))
"""


def test_tflite_runtime_gives_the_same_scores(tflite_runtime_python, colour_models, m0_artefact, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    paths = [*colour_models.values(), m0_artefact]
    answers = subprocess.run(
        [tflite_runtime_python, "-c", REPLAY, tmp_path / "images.npy", *paths],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "converters"))},
        capture_output=True,
        text=True,
        check=True,
    )
    for path, theirs in zip(paths, json.loads(answers.stdout), strict=True):
        ours = open_runner(path)
        side = ours.info.image_size
        assert theirs["runtime"] == "tflite-runtime"
        assert tuple(theirs["labels"]) == ours.info.labels
        assert theirs["partitions"] is None
        scores = ours.run(np.ascontiguousarray(images[:, :side, :side]))
        np.testing.assert_allclose(theirs["scores"], scores, atol=2e-5)


@pytest.mark.shared
def test_a_third_partys_quantized_imagenet_model(shared, photos):
    runner = open_runner(shared / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    info = runner.info
    assert (info.num_classes, info.input.dtype, info.output.dtype) == (1001, "uint8", "uint8")
    assert info.output_kind is OutputKind.PROBABILITIES
    images = np.stack([info.preprocessing.apply(photos[name]) for name in ("coffee", "cat")])
    best = runner.run(images).argmax(axis=1)
    assert [info.label(int(i)) for i in best] == ["espresso", "tiger cat"]
    assert read_labels(shared / "models" / "imagenet_labels.txt") == info.labels
