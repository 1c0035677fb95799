import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from evit_edge import __version__
from evit_edge.cli.interruption import INTERRUPTED
from evit_edge.cli.main import app
from evit_edge.manifest import manifest_path
from evit_edge.models.config import VARIANTS
from evit_edge.models.design import Ablation
from evit_edge.runtime import open_runner

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration", "app"))


def program(*arguments, **options) -> subprocess.CompletedProcess:
    """Run the real program in a process of its own."""
    command = [sys.executable, "-m", "evit_edge.cli.main", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": PATHS, "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def invoke(monkeypatch):
    """Function: run a command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


def test_neither_the_package_nor_help_imports_anything_heavy():
    check = (
        "import sys; import evit_edge, evit_edge.cli.main; "
        "print(sorted({'torch', 'numpy', 'PIL', 'rich', 'ai_edge_litert', 'litert_torch'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", check],
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "[]"


def test_running_an_artefact_imports_no_torch(colour_model):
    check = (
        "import sys; from evit_edge.runtime import open_runner; "
        f"open_runner({str(colour_model)!r}); print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", check],
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "False"


def test_help_and_version(invoke):
    for command in ("classify", "evaluate", "verify", "benchmark", "report", "models", "doctor"):
        assert command in invoke("--help").stdout
        assert invoke(command, "--help").exit_code == 0
    assert invoke("--version").stdout.strip() == f"evit-edge {__version__}"


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m evit_edge.cli.main models --json | head -n 1"
    answer = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.stdout.strip(), answer.stderr) == ("{", "")


def test_models(invoke):
    document = json.loads(invoke("models", "--json").stdout)
    assert [entry["name"] for entry in document["models"]] == list(VARIANTS)
    assert document["models"][0]["parameters"] == 2349436
    table = invoke("models", "--classes", 104).stdout
    assert "efficientvit_m5" in table
    assert "77.1" in table


def test_models_shows_what_each_ablation_means(invoke):
    table = invoke("models", "--ablations", "m0").stdout
    assert "efficientvit_m0 at 224 px with 1000 classes, one design decision undone" in table
    for ablation in Ablation:
        assert ablation.value in table
        assert ablation.meaning in table


def test_doctor_tells_what_is_here(invoke):
    document = json.loads(invoke("doctor", "--json").stdout)
    assert document["version"] == __version__
    assert document["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "ai-edge-litert" in document["runtimes"]
    works = {entry["name"]: entry["works"] for entry in document["capabilities"]}
    assert works["run .tflite files"]
    assert "pip install 'evit-edge[convert]'" in [extra["install"] for extra in document["extras"]]
    assert "What works here" in invoke("doctor").stdout


def test_classify(invoke, colour_model, paint, tmp_path):
    for colour in ("red", "blue"):
        Image.fromarray(paint(colour)).save(tmp_path / f"{colour}.png")
    images = [tmp_path / "red.png", tmp_path / "blue.png"]
    document = json.loads(invoke("classify", colour_model, *images, "--top", 2, "--json").stdout)
    assert [image["predictions"][0]["label"] for image in document["images"]] == ["red", "blue"]
    assert [len(image["predictions"]) for image in document["images"]] == [2, 2]
    for image in document["images"]:
        assert sum(p["probability"] for p in image["predictions"]) == pytest.approx(1, abs=0.05)
        assert min(image["decode_s"], image["preprocess_s"], image["inference_s"]) > 0
    table = invoke("classify", colour_model, images[0]).stdout
    assert "decode" in table
    assert table.index("red  ") < table.index("green  ")


def test_classify_says_when_it_made_probabilities_of_logits(invoke, colour_models, paint, tmp_path):
    Image.fromarray(paint("green")).save(tmp_path / "green.png")
    (tmp_path / "labels.txt").write_text("0  rot\n1  grün\n2  blau\n")
    arguments = (
        "classify",
        colour_models["float32-nchw-logits"],
        tmp_path / "green.png",
        "--input-range",
        "zero-to-one",
    )
    result = invoke(*arguments, "--labels", tmp_path / "labels.txt", "--top", 1, "--json")
    (prediction,) = json.loads(result.stdout)["images"][0]["predictions"]
    assert prediction["label"] == "grün"
    assert 0.5 < prediction["probability"] <= 1
    assert "softmax applied" in invoke(*arguments).stdout


def test_classify_takes_a_checkpoint(invoke, m0_checkpoint, coffee_jpg):
    document = json.loads(invoke("classify", m0_checkpoint, coffee_jpg, "--json").stdout)
    assert document["runtime"].startswith("torch")
    assert document["preprocessing"]["crop_fraction"] == 0.9
    assert len(document["images"][0]["predictions"]) == 5


def test_evaluate(invoke, colour_models, colour_photos, tmp_path):
    pytest.importorskip("matplotlib")
    models = [colour_models["uint8-nhwc-probabilities"], colour_models["int8-nhwc-logits"]]
    picture = tmp_path / "confusion.png"
    arguments = ("evaluate", *models, "--data", colour_photos, "--threads", 1)
    result = invoke(*arguments, "--confusion-matrix", picture, "--json")
    document = json.loads(result.stdout)
    assert [model["top1"]["count"] for model in document["models"]] == [27, 27]
    assert document["pairs"][0]["agreement"]["value"] == 1.0
    assert document["models"][0]["confusion"]["rows"] == [[8, 0, 2], [0, 10, 0], [0, 1, 9]]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["confusion-1.png", "confusion-2.png"]
    table = invoke(*arguments).stdout
    assert "90.0 [74.4, 96.5]" in table
    assert "Every class" in table


def test_evaluate_shows_the_worst_of_many_classes(invoke, tmp_path):
    labels = open_runner("everyday-int8").info.labels[:12]
    for label in labels:
        (tmp_path / label).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / label / "black.png")
    table = invoke("evaluate", "everyday-int8", "--data", tmp_path).stdout
    assert "The 10 worst of 12 classes" in table
    assert "--per-class shows all, --json everything" in table
    assert "Pairs on the same photos" not in table
    every = invoke("evaluate", "everyday-int8", "--data", tmp_path, "--per-class").stdout
    assert ("Every class" in every, "--per-class" in every) == (True, False)
    assert all(label in every for label in labels)


def test_evaluate_takes_labels_and_aliases(invoke, colour_model, colour_photos, tmp_path):
    bare = tmp_path / "bare.tflite"
    content = colour_model.read_bytes()
    bare.write_bytes(content[: content.rindex(b"PK\x03\x04")])
    (colour_photos / "green").rename(colour_photos / "verde")
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    arguments = ("evaluate", bare, "--data", colour_photos, "--labels", tmp_path / "labels.txt", "--json")
    assert "verde match no label" in invoke(*arguments).stderr
    assert json.loads(invoke(*arguments, "--alias", "verde=green").stdout)["models"][0]["top1"]["count"] == 27


def test_verify(invoke, m0_artefact, m0_checkpoint, photo_folder, copy_artefact, tmp_path):
    arguments = ("--weights", m0_checkpoint, "--data", photo_folder)
    result = invoke("verify", m0_artefact, *arguments)
    assert result.exit_code == 0
    assert "top-1 agreement" in result.stdout
    assert "FAILED" not in result.stdout
    wrong = copy_artefact(m0_artefact, tmp_path, sha256="0" * 64)
    result = invoke("verify", wrong, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False
    assert result.stderr.startswith("evit-edge: error: random.tflite fails sha256: ")


def test_debug_shows_the_traceback(tmp_path):
    answer = program("--debug", "classify", tmp_path / "none.tflite", "x.png")
    assert "Traceback" in answer.stderr
    assert answer.returncode == 1


STARTED = """
import os, signal, sys, time
from evit_edge.cli import main, start
from evit_edge.errors import DataError

@main.app.command()
def swallow(press: bool = False) -> None:
    try:
        if press:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
    except KeyboardInterrupt:
        pass
    raise {error}("a consequence")

start.main()
"""


@pytest.mark.parametrize(
    ("error", "words", "code", "told"),
    [
        ("DataError", ["swallow"], 1, "evit-edge: error: a consequence"),
        ("ValueError", ["swallow"], 1, "ValueError: a consequence"),
        ("DataError", ["swallow", "--press"], INTERRUPTED, None),
        ("ValueError", ["swallow", "--press"], INTERRUPTED, None),
    ],
    ids=["told", "a defect", "told after Ctrl-C", "a defect after Ctrl-C"],
)
def test_what_a_library_makes_of_ctrl_c_is_an_interruption(error, words, code, told):
    """An interruption that was swallowed still ends the program as one; an error without it is told."""
    answer = subprocess.run(
        [sys.executable, "-c", STARTED.format(error=error), *words],
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == code, answer.stderr
    assert (answer.stderr.splitlines() or [None])[-1] == told


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["classify"],
        ["models", "--classes", "0"],
        ["classify", "a", "b", "--input-range", "huge"],
        ["convert", "--output", "none", "--strict"],
        ["convert", "--output", "none", "--validation", "photos"],
    ],
    ids=["no such command", "no arguments", "out of range", "no such range", "strict alone", "validation alone"],
)
def test_wrong_usage_exits_with_2(invoke, arguments):
    assert invoke(*arguments).exit_code == 2


@pytest.fixture
def bad(colour_model, m0_artefact, coffee_jpg, colour_photos, tmp_path):
    """A folder with one bad thing of each kind."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "text.jpg").write_text("not an image")
    (folder / "truncated.jpg").write_bytes(coffee_jpg.read_bytes()[:4000])
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    (folder / "two.txt").write_text("a\nb\n")
    (folder / "corrupt.tflite").write_bytes(colour_model.read_bytes()[:500])
    (folder / "corrupt.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00nonsense")
    (folder / "foreign.pb").write_bytes(b"onnx")
    shutil.copy(colour_model, folder / "alone.tflite")
    shutil.copy(m0_artefact, folder / "damaged.tflite")
    manifest_path(folder / "damaged.tflite").write_text('{"schema": 1}')
    for name, colours in {"unknown": ["mauve"], "unreadable": ["red", "green"]}.items():
        for colour in colours:
            (folder / name / colour).mkdir(parents=True)
            (folder / name / colour / "1.jpg").write_text("no photo")
    return folder


@pytest.fixture
def named(bad, colour_model, m0_artefact, colour_photos, coffee_jpg):
    """What the words in braces below stand for."""
    return {"bad": bad, "good": coffee_jpg, "model": colour_model, "photos": colour_photos, "m0": m0_artefact}


BAD_INPUT = {
    "classify: no such artefact": ("classify {bad}/none.tflite {good}", "no artefact at"),
    "classify: corrupt artefact": ("classify {bad}/corrupt.tflite {good}", "corrupt.tflite"),
    "classify: corrupt checkpoint": ("classify {bad}/corrupt.safetensors {good}", "corrupt.safetensors"),
    "classify: unknown kind": ("classify {bad}/foreign.pb {good}", "no known kind"),
    "classify: an image as artefact": ("classify {good} {good}", "no known kind"),
    "classify: no such image": ("classify {model} {bad}/none.jpg", "no such file"),
    "classify: not an image": ("classify {model} {bad}/text.jpg", "not an image"),
    "classify: truncated JPEG": ("classify {model} {good} {bad}/truncated.jpg", "truncated"),
    "classify: a folder": ("classify {model} {bad}/empty", "a folder"),
    "classify: wrong class count": ("classify {model} {good} --labels {bad}/two.txt", "3 classes and 2 labels"),
    "classify: no such labels": ("classify {model} {good} --labels {bad}/none.txt", "none.txt"),
    "evaluate: no such folder": ("evaluate {model} --data {bad}/none", "no folder at"),
    "evaluate: empty folder": ("evaluate {model} --data {bad}/empty", "no class folders"),
    "evaluate: unknown class": ("evaluate {model} --data {bad}/unknown", "mauve match no label"),
    "evaluate: unreadable photos": ("evaluate {model} --data {bad}/unreadable", "cannot be read"),
    "evaluate: bad alias": ("evaluate {model} --data {photos} --alias red", "FOLDER=LABEL"),
    "evaluate: not a picture's name": ("evaluate {model} --data {photos} --confusion-matrix {bad}/c.doc", ".png"),
    "evaluate: a file as output folder": (
        "evaluate {model} --data {photos} --confusion-matrix {bad}/file/c.png",
        "cannot be written",
    ),
    "evaluate: unwritable output": (
        "evaluate {model} --data {photos} --confusion-matrix /proc/none/c.png",
        "cannot be written",
    ),
    "verify: no such artefact": ("verify {bad}/none.tflite", "no artefact at"),
    "verify: corrupt artefact": ("verify {bad}/corrupt.tflite", "corrupt.tflite"),
    "verify: no manifest": ("verify {bad}/alone.tflite", "no manifest at"),
    "verify: broken manifest": ("verify {bad}/damaged.tflite", "lacks"),
    "verify: no such weights": ("verify {m0} --weights {bad}/none.pth", "no checkpoint at"),
    "verify: empty folder": ("verify {m0} --data {bad}/empty", "no photos"),
    "models: no such size": ("models --image-size 64", "128 to 512"),
}


@pytest.mark.parametrize(("command", "reason"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(invoke, bad, named, command, reason):
    before = sorted(bad.parent.rglob("*"))
    result = invoke(*(word.format(**named) for word in command.split()))
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("evit-edge: error: ")
    assert reason in lines[0]
    assert result.stdout == ""
    assert sorted(bad.parent.rglob("*")) == before


def test_the_real_program_prints_one_line_too(colour_model, tmp_path):
    answer = program("classify", colour_model, tmp_path / "none.jpg")
    assert answer.returncode == 1
    assert answer.stderr == f"evit-edge: error: {tmp_path}/none.jpg: no such file\n"
    assert answer.stdout == ""
