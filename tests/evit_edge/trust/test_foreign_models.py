"""Models from elsewhere through the commands: what they do to an engine is one line, and no dead session."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from PIL import Image
from typer.testing import CliRunner

from evit_edge.cli.main import app
from evit_edge.errors import ArtefactError, RequestError
from evit_edge.runtime import InputRange, open_runner
from evit_edge.runtime.apart import can_run_apart
from evit_edge.runtime.checks import Limits
from evit_edge.runtime.isolated import IsolatedRunner, is_alive, open_isolated
from evit_edge.zoo import EVERYDAY, checkpoint_path, is_shipped

pytestmark = pytest.mark.skipif(not can_run_apart(), reason="this system starts no processes")

ROOT = Path(__file__).resolve().parents[3]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration", "app"))
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
QUICK = ("--runs", 8, "--only-inference")


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def children() -> list[int]:
    """Processes that this one has started and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.fixture
def model(tmp_path):
    """Function: the mean model, bent."""
    return lambda bend=lambda _: None: tiny.write_tflite(
        tmp_path / f"{getattr(bend, '__name__', 'm')}.tflite", bend
    )


@pytest.fixture
def photos(tmp_path, paint):
    """A folder of one photo for each class."""
    for colour in tiny.COLOURS:
        (tmp_path / "photos" / colour).mkdir(parents=True)
        Image.fromarray(paint(colour)).save(tmp_path / "photos" / colour / "1.png")
    return tmp_path / "photos"


# What each command says of each model; the first is stopped by the check, the others pass it.
DANGEROUS = {
    "refused by the check": (tiny.constant_input, (), "the graph writes to tensor 0, which is a constant"),
    "100 GiB by its own word": (
        tiny.declares_100_gib,
        (),
        "declares 100.0 GiB of weights and values; the limit is 4.0",
    ),
    "crash": (tiny.wild_radius, (), "killed the process that ran it (SIGSEGV)"),
    "hang": (tiny.endless, ("--time-limit", 1.5), "took more than 1.5 s; --time-limit allows more"),
    "100 GiB without a word": (tiny.fills_100_gib, ("--memory-limit", 1), "too much memory"),
}


@LINUX
@pytest.mark.parametrize("command", ["classify", "evaluate", "benchmark"])
@pytest.mark.parametrize(("bend", "options", "reason"), DANGEROUS.values(), ids=DANGEROUS)
def test_a_dangerous_model_is_one_line(model, photos, command, bend, options, reason):
    path = model(bend)
    before = children()
    arguments = {
        "classify": (photos / "red" / "1.png",),
        "evaluate": ("--data", photos, "--threads", 1),
        "benchmark": QUICK,
    }[command]
    result = invoke(command, path, *arguments, *options)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("evit-edge: error: ")
    assert result.stderr.count("\n") == 1
    assert path.name in result.stderr
    assert reason in result.stderr
    assert children() == before


def test_classify_and_evaluate_answer_as_in_one_process(model, photos):
    path = model()
    red = photos / "red" / "1.png"
    for command in (("classify", path, red, "--json"), ("evaluate", path, "--data", photos, "--json")):
        apart, inside = invoke(*command), invoke(*command, "--in-process")
        assert apart.exit_code == inside.exit_code == 0, apart.output
        if command[0] == "evaluate":
            assert json.loads(apart.stdout) == json.loads(inside.stdout)
            assert json.loads(apart.stdout)["models"][0]["top1"]["count"] == 3
        else:
            answers = [json.loads(result.stdout)["images"][0]["predictions"] for result in (apart, inside)]
            assert answers[0] == answers[1]
            assert answers[0][0]["label"] == "red"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--memory-limit", 0.1), "at least 0.25"),
        (("--time-limit", 0), "more than 0"),
        (("--time-limit", "nan"), "finite"),
    ],
    ids=["little memory", "no time", "no number"],
)
def test_limits_under_which_nothing_runs(model, photos, options, reason):
    result = invoke("classify", model(), photos / "red" / "1.png", *options)
    assert result.exit_code == 1
    assert reason in result.stderr


def test_a_benchmark_apart_is_a_benchmark(model):
    result = invoke("benchmark", model(), *QUICK, "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["status"] == "complete"
    assert report["measurements"][0]["statistics"]["count"] >= 8


def test_a_runner_apart_is_the_runner(model):
    path = model()
    inside, apart = open_runner(path, threads=2), open_isolated(path, threads=2)
    assert isinstance(apart, IsolatedRunner)
    assert apart.info == inside.info
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)
    for count in (0, 1, 40):
        np.testing.assert_array_equal(apart.run(images[:count]), inside.run(images[:count]))
    turned = images[:3, ::-1, :, ::-1]  # not contiguous
    np.testing.assert_array_equal(apart.run(turned), inside.run(turned))
    with pytest.raises(RequestError, match=r"uint8 \(B, 32, 32, 3\)"):
        apart.run(images[:1, :31])
    assert apart.run(images[:1]).shape == (1, 3)  # a refusal ends nothing


def test_what_was_asked_for_reaches_the_process(model):
    path = model(tiny.floats)
    options = {"labels": ("x", "y", "z"), "input_range": InputRange.RAW}
    rule = open_runner(path).info.preprocessing
    apart = open_isolated(path, preprocessing=rule, **options)
    inside = open_runner(path, preprocessing=rule, **options)
    assert apart.info == inside.info
    grey = np.full((1, 32, 32, 3), 100, np.uint8)
    np.testing.assert_array_equal(apart.run(grey), inside.run(grey))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.tflite", None, "no artefact at"),
        ("text.tflite", b"hello, world", "identifier TFL3"),
        ("text.onnx", b"hello, world", "no ONNX model"),
        ("model.pb", b"hello, world", "no known kind"),
        ("text.pth", b"hello, world", "cannot be read as weights only"),
    ],
)
def test_errors_are_those_of_the_same_kind(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Exception, match=reason) as apart:
        open_isolated(tmp_path / name)
    with pytest.raises(type(apart.value), match=reason) as inside:
        open_runner(tmp_path / name)
    assert str(apart.value) == str(inside.value)


@LINUX
def test_the_process_ends_with_its_runner(model):
    before = children()
    runner = open_isolated(model())
    assert len(children()) == len(before) + 1
    runner.close()
    assert children() == before
    assert not is_alive(runner)
    with pytest.raises(ArtefactError):
        runner.run(np.zeros((1, 32, 32, 3), np.uint8))
    another = open_isolated(model())
    del another
    assert children() == before


@LINUX
def test_a_crash_ends_the_runner_and_no_more(model):
    good, bad = open_isolated(model()), open_isolated(model(tiny.wild_radius))
    picture = np.full((1, 32, 32, 3), 9, np.uint8)
    with pytest.raises(ArtefactError, match=r"wild_radius\.tflite: scoring 1 picture killed .* \(SIGSEGV\)"):
        bad.run(picture)
    assert (is_alive(bad), is_alive(good)) == (False, True)
    assert good.run(picture).shape == (1, 3)


PARENT = """
import sys, time
from evit_edge.runtime.isolated import open_isolated
from evit_edge.runtime.checks import Limits
import numpy as np
runner = open_isolated(sys.argv[1], limits=Limits(time_s=float(sys.argv[2])))
print(runner.process_id, flush=True)
if len(sys.argv) > 3:
    runner.run(np.zeros((1, 32, 32, 3), np.uint8))
time.sleep(60)
"""


def gone(process_id: int, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not Path(f"/proc/{process_id}").exists():
            return True
        time.sleep(0.05)
    return False


@LINUX
@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "in an endless loop"])
def test_a_killed_program_leaves_no_process(model, busy):
    path = model(tiny.endless if busy else lambda _: None)
    arguments = [sys.executable, "-c", PARENT, path, "1" if busy else "60", *(["run"] if busy else [])]
    environment = {**os.environ, "PYTHONPATH": PATHS}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        if busy:
            time.sleep(0.3)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert gone(child, 20)


@LINUX
@pytest.mark.parametrize("group", [False, True], ids=["kill -INT", "terminal"])
def test_ctrl_c_while_a_model_hangs_is_130_without_a_traceback(model, photos, group):
    path = model(tiny.endless)
    command = [sys.executable, "-m", "evit_edge.cli.main", "classify", path, photos / "red" / "1.png"]
    environment = {**os.environ, "PYTHONPATH": PATHS}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        worker = None
        until = time.monotonic() + 60
        while worker is None and time.monotonic() < until:
            worker = next((pid for pid in workers(process.pid) if "ai_edge_litert" in maps(pid)), None)
            time.sleep(0.05)
        time.sleep(0.5)
        (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (130, ""), errors
    assert "Traceback" not in errors
    assert gone(worker, 10)


def workers(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def test_what_ships_runs_in_this_process_and_only_that(tmp_path):
    pytest.importorskip("torch")
    assert is_shipped(EVERYDAY)
    assert is_shipped(checkpoint_path(EVERYDAY))
    copy = tmp_path / "everyday.safetensors"
    copy.write_bytes(checkpoint_path(EVERYDAY).read_bytes())
    assert not is_shipped(copy)
    assert not is_shipped(tmp_path / "none.safetensors")
    assert not isinstance(open_isolated(EVERYDAY), IsolatedRunner)


def test_a_model_may_declare_no_more_than_the_limit(model):
    path = model(tiny.declares_100_gib)
    with pytest.raises(ArtefactError, match=r"the limit is 4\.0 GiB"):
        open_runner(path)
    open_runner(path, limits=Limits(memory_bytes=2**38))
