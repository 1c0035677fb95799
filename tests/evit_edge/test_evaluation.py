import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evit_edge.errors import DataError, OutputError
from evit_edge.evaluation.dataset import LabelledPhotos, label_photos, parse_aliases
from evit_edge.evaluation.picture import draw_confusion
from evit_edge.evaluation.prediction import best_classes, predict
from evit_edge.evaluation.report import OTHER, report
from evit_edge.runtime import InputRange, open_runner


@pytest.fixture
def evaluated(colour_photos):
    """Function: evaluate runners on the colour photos."""

    def evaluate(*runners, aliases=None, folders=None):
        photos = label_photos(folders or [colour_photos], [r.info for r in runners], aliases)
        return report(predict(runners, photos))

    return evaluate


def test_figures_are_those_of_the_photos(colour_model, evaluated):
    result = evaluated(open_runner(colour_model))
    (model,) = result.models
    assert (result.photos, model.top1.count, model.top1.total, model.top5.count) == (30, 27, 30, 30)
    assert model.columns == ("blue", "green", "red")
    np.testing.assert_array_equal(model.confusion, [[8, 0, 2], [0, 10, 0], [0, 1, 9]])
    blue = model.classes[0]
    assert (blue.label, blue.top1.count, blue.precision, blue.mistaken_for) == ("blue", 8, 1.0, "red")
    assert model.classes[1].precision == pytest.approx(10 / 11)
    assert model.classes[1].mistaken_for is None
    assert model.top1.interval.low == pytest.approx(0.7438, abs=1e-4)  # Wilson, 27 of 30


def test_pairs_count_photos_on_which_one_is_right(colour_models, evaluated):
    good = open_runner(colour_models["uint8-nhwc-probabilities"])
    swapped = open_runner(colour_models["int8-nhwc-logits"], labels=("green", "red", "blue"))
    result = evaluated(good, swapped)
    (pair,) = result.pairs
    assert (pair.first, pair.second) == ("uint8-nhwc-probabilities.tflite", "int8-nhwc-logits.tflite")
    assert (result.models[0].top1.count, result.models[1].top1.count) == (27, 9)
    assert (pair.test.only_first, pair.test.only_second) == (19, 1)  # the red photo of a green thing is right now
    assert pair.difference == pytest.approx(18 / 30)
    assert pair.interval.low < 0.6 < pair.interval.high
    assert pair.agreement.count == 8  # the blue ones
    assert pair.test.p_exact < 1e-3


def test_checkpoint_and_artefact_stand_in_one_table(m0_checkpoint, m0_artefact, photo_folder, tmp_path):
    for name in ("cat", "coffee", "rocket"):
        label = "mug" if name == "coffee" else name  # both record mug as an alias of cup
        (tmp_path / label).mkdir()
        shutil.copy(photo_folder / f"{name}.jpg", tmp_path / label)
    runners = [open_runner(m0_checkpoint), open_runner(m0_artefact)]
    result = report(predict(runners, label_photos([tmp_path], [r.info for r in runners])))
    assert [model.runtime.split()[0] for model in result.models] == ["torch", "ai-edge-litert"]
    assert result.pairs[0].agreement.count == result.photos == 3
    assert result.models[0].columns[:3] == ("cat", "cup", "rocket")
    np.testing.assert_array_equal(result.models[0].confusion, result.models[1].confusion)


def test_folders_and_aliases_join(colour_model, colour_photos, evaluated, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    (colour_photos / "green").rename(more / "verde")
    result = evaluated(
        open_runner(colour_model), aliases=parse_aliases(["verde=green"]), folders=[colour_photos, more]
    )
    assert result.models[0].top1.count == 27


def test_answers_outside_the_photos_classes_get_a_column(colour_model, colour_photos, evaluated):
    shutil.rmtree(colour_photos / "green")
    (model,) = evaluated(open_runner(colour_model)).models
    assert model.columns == ("blue", "red", OTHER)
    np.testing.assert_array_equal(model.confusion, [[8, 2, 0], [0, 9, 1]])


def test_a_few_bad_photos_are_left_out_and_many_stop(colour_model, colour_photos, evaluated):
    runner = open_runner(colour_model)
    (colour_photos / "red" / "0.png").write_bytes(b"no picture")
    result = evaluated(runner)
    assert result.photos == 29
    assert result.models[0].top1.count == 26
    assert len(result.bad) == 1
    assert "0.png" in result.bad[0]
    for i in range(1, 4):
        (colour_photos / "red" / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="5%"):
        evaluated(runner)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        pytest.param(lambda p: (p / "red").rename(p / "rouge"), "rouge match no label", id="unknown class"),
        pytest.param(lambda p: [shutil.rmtree(f) for f in p.iterdir()], "no class folders", id="empty"),
        pytest.param(shutil.rmtree, "no folder at", id="missing"),
        pytest.param(
            lambda p: [photo.unlink() for photo in p.glob("*/*.png")], "no photos in its class", id="no photos"
        ),
    ],
)
def test_folders_that_do_not_fit_are_refused(colour_model, colour_photos, evaluated, prepare, reason):
    prepare(colour_photos)
    with pytest.raises(DataError, match=reason):
        evaluated(open_runner(colour_model))


def test_labels_that_are_missing_or_double_are_refused(colour_model, evaluated, tmp_path):
    with pytest.raises(DataError, match="2 times"):
        evaluated(open_runner(colour_model, labels=("red", "blue", "blue")), aliases={"green": "red"})
    with pytest.raises(DataError, match="FOLDER=LABEL"):
        parse_aliases(["verde"])
    content = colour_model.read_bytes()
    (tmp_path / "bare.tflite").write_bytes(content[: content.rindex(b"PK\x03\x04")])
    with pytest.raises(DataError, match=r"bare\.tflite carries no labels; give them with --labels FILE"):
        evaluated(open_runner(tmp_path / "bare.tflite"))


@pytest.mark.parametrize("count", [0, 2])
def test_every_photo_has_a_class(count, coffee_jpg):
    with pytest.raises(DataError, match=rf"{count} photos with \({1 if count else 0},\) classes given"):
        LabelledPhotos(("cup",), (coffee_jpg,) * count, np.zeros(1 if count else 0, np.int64))


def test_equal_scores_rank_by_class():
    np.testing.assert_array_equal(best_classes(np.array([[0, 2, 2, 1]], np.float32)), [[1, 2, 3, 0]])


@pytest.mark.parametrize("classes", [3, 104])
def test_the_picture_grows_with_the_classes(colour_model, evaluated, tmp_path, classes):
    from dataclasses import replace

    pytest.importorskip("matplotlib")
    (model,) = evaluated(open_runner(colour_model)).models
    names = tuple(f"class with a long name {i}" for i in range(classes))
    model = replace(model, columns=names, confusion=np.eye(classes, dtype=np.int64))
    draw_confusion(model, tmp_path / "out" / "confusion.png")
    picture = np.asarray(Image.open(tmp_path / "out" / "confusion.png").convert("L"))
    assert min(picture.shape) > 25 * classes  # a name at 7 points needs 15 pixels of 150 dpi
    assert (picture < 100).mean() > 0.001


@pytest.mark.parametrize("name", ["confusion.xyz", "file/confusion.png"], ids=["suffix", "a file is no folder"])
def test_no_picture_is_left_where_none_can_be(colour_model, evaluated, tmp_path, name):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    (model,) = evaluated(open_runner(colour_model)).models
    before = sorted(Path(tmp_path).rglob("*"))
    with pytest.raises(OutputError):
        draw_confusion(model, tmp_path / name)
    assert sorted(Path(tmp_path).rglob("*")) == before


def test_float_models_see_the_same_pixels(colour_models, evaluated):
    runners = [
        open_runner(colour_models["float32-nhwc-probabilities"], input_range=InputRange.ZERO_TO_ONE),
        open_runner(colour_models["float32-nchw-logits"], input_range=InputRange.ZERO_TO_ONE),
    ]
    result = evaluated(*runners)
    assert [model.top1.count for model in result.models] == [27, 27]
    assert result.pairs[0].test.p_exact == 1.0
