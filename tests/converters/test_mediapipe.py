"""MediaPipe Tasks, which we share no code with, opens our files and answers as LiteRT does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evit_converters import tflite

LABELS = tuple(f"class {i}" for i in range(7))
SCRIPT = """
import json, sys
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
model, *photos = sys.argv[1:]
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model))
with vision.ImageClassifier.create_from_options(options) as classifier:
    for photo in photos:
        found = classifier.classify(mediapipe.Image.create_from_file(photo)).classifications[0].categories
        print("SCORES", json.dumps({category.category_name: category.score for category in found}))
"""


@pytest.fixture(scope="module")
def interpreter(request: pytest.FixtureRequest) -> Path:
    """``EVIT_EDGE_MEDIAPIPE_PYTHON``, or the side environment of the checkout."""
    named = os.environ.get("EVIT_EDGE_MEDIAPIPE_PYTHON")
    found: Path = Path(named) if named else request.getfixturevalue("mediapipe_python")
    return found


@pytest.mark.parametrize("mode", ["float_model", "int8_model"])
def test_mediapipe_gives_the_same_scores(
    mode: str,
    interpreter: Path,
    request: pytest.FixtureRequest,
    thumbnails: list[np.ndarray],
    answer: Callable[[bytes, np.ndarray], np.ndarray],
    tmp_path: Path,
) -> None:
    metadata = tflite.ModelMetadata(name="small", labels=LABELS, image_size=(32, 32))
    model = tflite.pack_metadata(request.getfixturevalue(mode), metadata)
    (tmp_path / "model.tflite").write_bytes(model)
    photos = [tmp_path / f"{i}.png" for i in range(len(thumbnails))]
    for path, image in zip(photos, thumbnails, strict=True):
        Image.fromarray(image[0]).save(path)
    arguments = [interpreter, "-c", SCRIPT, tmp_path / "model.tflite", *photos]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    lines = [line.removeprefix("SCORES ") for line in done.stdout.splitlines() if line.startswith("SCORES ")]
    assert len(lines) == len(photos), done.stderr[-2000:]
    for line, image in zip(lines, thumbnails, strict=True):
        theirs, ours = json.loads(line), answer(model, image)[0]
        assert max(theirs, key=theirs.__getitem__) == LABELS[int(ours.argmax())]
        np.testing.assert_allclose([theirs[label] for label in LABELS], ours, atol=0.02)
