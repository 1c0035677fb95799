import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from evit_app.session import PREVIEW_SIDE, ReplayStatus, Session
from evit_edge.errors import ArtefactError, DataError
from evit_edge.manifest import golden_path, manifest_path

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration", "app"))


def test_labels_are_ranked_and_all_stages_are_timed(model, green_photo):
    answer = Session.open(model).classify(green_photo)
    result = answer.classification
    assert [p.label for p in result.predictions] == ["green", "blue", "red"]
    assert sum(p.probability for p in result.predictions) == pytest.approx(1, abs=1e-5)
    assert min(result.decode_s, result.preprocess_s, result.inference_s) > 0


def test_the_preview_is_a_small_upright_jpeg(model, tmp_path):
    sideways = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (2000, 1000), (20, 200, 60)).save(sideways, exif=exif)
    preview = Image.open(io.BytesIO(Session.open(model).classify(sideways).preview))
    assert (preview.format, preview.size) == ("JPEG", (PREVIEW_SIDE // 2, PREVIEW_SIDE))


@pytest.mark.parametrize(
    ("given", "shown"),
    [("meadow.png", "meadow.png"), ("../../meadow.png", "meadow.png"), ("C:\\a\\b.png", "b.png"), ("", "picture")],
    ids=["plain", "climbing", "windows", "nameless"],
)
def test_bytes_are_classified_like_their_file(model, green_photo, given, shown):
    session = Session.open(model)
    answer = session.classify_bytes(green_photo.read_bytes(), given)
    assert answer.classification.predictions == session.classify(green_photo).classification.predictions
    assert answer.name == shown


def test_what_is_no_picture_is_named(model):
    with pytest.raises(DataError, match=r"notes\.txt.*not an image"):
        Session.open(model).classify_bytes(b"milk, bread", "notes.txt")


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"no artefact at .*gone\.tflite"):
        Session.open(tmp_path / "gone.tflite")


def test_golden_vectors_that_fit_are_the_references_answer(with_golden):
    replay = Session.open(with_golden()).replay
    assert replay.status is ReplayStatus.SAME
    assert "sqnr" in replay.detail


def test_golden_vectors_that_do_not_fit_are_told(with_golden):
    replay = Session.open(with_golden(order=(1, 2, 0))).replay
    assert replay.status is ReplayStatus.DIFFERENT
    assert "at least 12 dB" in replay.detail


def test_without_golden_vectors_nothing_is_claimed(model):
    assert Session.open(model).replay.status is ReplayStatus.UNCHECKED


@pytest.mark.parametrize("broken", [golden_path, manifest_path], ids=["golden", "manifest"])
def test_broken_files_beside_the_model_do_not_stop_it(with_golden, broken):
    artefact = with_golden()
    broken(artefact).write_bytes(b"not what it was")
    replay = Session.open(artefact).replay
    assert replay.status is ReplayStatus.UNCHECKED
    assert broken(artefact).name in replay.detail


def test_the_session_needs_neither_flet_nor_torch():
    check = "import sys, evit_app.session; print(sorted({'flet', 'torch', 'typer', 'rich'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": PATHS}
    answer = subprocess.run(
        [sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.shared
def test_a_foreign_model_names_the_coffee(shared, coffee_jpg):
    session = Session.open(shared / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    predictions = session.classify(coffee_jpg).classification.predictions
    assert len(predictions) == 5
    assert predictions[0].label == "espresso"


def test_the_packages_of_a_phone_are_enough(tflite_runtime_python, model, green_photo):
    script = """
import sys
from dataclasses import replace
from pathlib import Path
from evit_app.choices import Shelf
from evit_app.pipeline import Pipeline
from evit_app.sources import HandedOver
from evit_app.application import App
from evit_app.measuring import report_files, request_for
from evit_edge.benchmark import benchmark

shelf = Shelf((Path(sys.argv[1]),))
session = shelf.session(shelf.paths[0])
print(session.info.runtime, session.classify(Path(sys.argv[2])).classification.predictions[0].label)
source = HandedOver("phone")
pipeline = Pipeline(source, (session.runner,))
source.hand_over(Path(sys.argv[2]).read_bytes(), 0.0)
pipeline.capture(), pipeline.infer()
print(pipeline.take(0).readings[0].top1)
App(lambda: shelf).close()
short = replace(request_for([session]), min_runs=20, min_time_s=0.01, cold_start=False)
print(benchmark(short).status, *report_files(benchmark(short)))
print(sorted({"torch", "cv2", "ai_edge_litert", "flatbuffers"} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": PATHS}
    command = [str(tflite_runtime_python), "-c", script, str(model), str(green_photo)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    files = "evit-edge-report.json evit-edge-report.html"
    assert answer.stdout.splitlines() == ["tflite-runtime green", "green", f"complete {files}", "[]"], (
        answer.stderr
    )
