"""The commands benchmark and report as a user types them, Ctrl-C included."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evit_edge.benchmark.report import Status, read_report, write_report
from evit_edge.cli.main import app
from evit_edge.manifest import manifest_path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "report-host.json"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration", "app")),
    "COLUMNS": "200",
}
QUICK = ("--runs", 8, "--only-inference")


@pytest.fixture
def invoke(monkeypatch):
    """Function: run a command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


def test_two_models_into_all_files(invoke, colour_models, tmp_path):
    models = [colour_models["uint8-nhwc-probabilities"], colour_models["int8-nhwc-logits"]]
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "html", "markdown")}
    options = [text for kind, path in files.items() for text in (f"--{kind}", path)]
    result = invoke("benchmark", *models, *QUICK, *options)
    assert result.exit_code == 0, result.output
    report = read_report(files["json"])
    assert report.status is Status.COMPLETE
    assert [row.model for row in report.measurements] == [model.name for model in models]
    assert report.measurements[0].stages == ()
    assert report.command.split()[0] == "evit-edge"
    assert f"time over that of {models[0].name}" in result.stdout
    assert f"time over that of {models[0].name}" in files["markdown"].read_text().replace("\\", "")
    assert "<svg" in files["html"].read_text()
    assert "median ms" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.markdown"]


def test_json_goes_to_stdout_alone(invoke, colour_model):
    result = invoke("benchmark", colour_model, *QUICK, "--json", "-")
    assert json.loads(result.stdout)["schema"] == 1


def test_the_default_is_a_hundred_runs_and_three_seconds(invoke, colour_model, monkeypatch):
    asked = []
    golden = read_report(GOLDEN)
    monkeypatch.setattr("evit_edge.benchmark.benchmark", lambda request, *_: asked.append(request) or golden)
    for options in ((), ("--thorough",), ("--runs", 7), ("--min-time", 1.5), ("--runs", 7, "--min-time", 1.5)):
        assert invoke("benchmark", colour_model, *options).exit_code == 0
    assert [(r.min_runs, r.min_time_s) for r in asked] == [
        (100, 3.0),
        (1024, 60.0),
        (7, 0.0),
        (100, 1.5),
        (7, 1.5),
    ]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--threads", "one"), 2, "--threads"),
        (("--thorough", "--runs", 5), 2, "--thorough"),
        (("--accelerator", "tpu"), 2, "neural-engine"),
        (("--device", "fridge"), 1, "android:SERIAL"),
        (("--json", "missing/report.json"), 1, "existing, writable folder"),
        (("--accelerator", "gpu"), 1, "cpu is accepted"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_wrong_usage_is_one_line(options, code, words, invoke, colour_model):
    result = invoke("benchmark", colour_model, *options)
    assert result.exit_code == code
    assert words in result.output
    assert code == 2 or result.stderr.count("\n") == 1


def test_a_report_does_not_take_a_manifests_place(invoke, tmp_path):
    result = invoke("benchmark", tmp_path / "m0.tflite", "--json", manifest_path(tmp_path / "m0.tflite"))
    assert result.exit_code == 1
    assert "m0.tflite's manifest" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_apple_package_is_refused_here_unless_it_is_asked_for(invoke, tmp_path):
    if sys.platform == "darwin":
        pytest.skip("there it is measured")
    (tmp_path / "m.mlpackage").mkdir()
    result = invoke("benchmark", tmp_path / "m.mlpackage")
    assert result.exit_code == 1
    assert "says nothing about a phone" in result.stderr


def verdict(report, judgement):
    device = report.devices[0]
    return replace(report, devices=(replace(device, verdict=replace(device.verdict, judgement=judgement)),))


@pytest.mark.parametrize(
    ("judgement", "status", "code"),
    [("valid", "complete", 0), ("noisy", "complete", 4), ("throttled", "complete", 4), ("valid", "partial", 4)],
)
def test_require_valid(judgement, status, code, invoke, monkeypatch, tmp_path):
    report = replace(
        verdict(read_report(GOLDEN), type(read_report(GOLDEN).judgement)(judgement)), status=Status(status)
    )
    monkeypatch.setattr("evit_edge.benchmark.benchmark", lambda *_: report)
    write_report(tmp_path / "report.json", report)
    assert invoke("benchmark", "m.tflite", "--require-valid").exit_code == code
    assert invoke("report", tmp_path / "report.json", "--require-valid").exit_code == code
    assert invoke("report", tmp_path / "report.json").exit_code == 0


def started(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "evit_edge.cli.main", "benchmark", *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def descendants(pid: int) -> list[int]:
    """Processes that it, or one of these, has started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, newer = [], [pid]
    while newer:
        newer = [child for child, parent in parents.items() if parent in newer]
        found += newer
    return found


def wait_for(condition, process, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"never seen: {process.communicate()}")


def measuring(process) -> list[int]:
    """The process that measures, once the program has come to its own handler for Ctrl-C."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    if not caught >> (signal.SIGINT - 1) & 1:
        return []
    return [
        pid
        for pid in descendants(process.pid)
        if runs(pid, b"evit_edge.benchmark.worker") and "ai_edge_litert" in Path(f"/proc/{pid}/maps").read_text()
    ]


pytestmark_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")


@pytestmark_linux
def test_ctrl_c_while_measuring_leaves_a_partial_report_and_no_child(colour_model, tmp_path):
    process = started(colour_model, "--min-time", 60, "--json", tmp_path / "report.json")
    found = wait_for(lambda: measuring(process), process)
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    report = read_report(tmp_path / "report.json")
    assert report.status is Status.PARTIAL
    assert report.measurements[0].statistics.count > 100
    assert output.startswith("PARTIAL")
    assert not [pid for pid in found if Path(f"/proc/{pid}").exists()]
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytestmark_linux
@pytest.mark.parametrize("whole_group", [False, True], ids=["kill -INT", "terminal"])
def test_ctrl_c_while_a_child_runs_leaves_none(whole_group, colour_model, tmp_path):
    process = started(colour_model, "--runs", 8, "--json", tmp_path / "report.json", start_new_session=True)
    found = wait_for(lambda: [pid for pid in descendants(process.pid) if runs(pid, b"benchmark.child")], process)
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert not [child for child in found if Path(f"/proc/{child}").exists()]
    report = read_report(tmp_path / "report.json")
    assert report.status is Status.PARTIAL
    assert report.measurements[0].statistics.count >= 8
    assert report.measurements[0].memory is None


def runs(pid: int, module: bytes) -> bool:
    try:
        return module in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def slower(report, factor):
    """The golden report with the first model's times stretched."""
    row, *others = report.measurements
    figures = row.statistics
    stretched = {
        name: factor * getattr(figures, name) for name in ("min_s", "mean_s", "max_s", "p50_s", "p90_s", "p99_s")
    }
    times, cpu = (tuple(factor * time for time in column) for column in (row.runs.times_s, row.runs.cpu_s))
    row = replace(row, statistics=replace(figures, **stretched), runs=replace(row.runs, times_s=times, cpu_s=cpu))
    return replace(report, measurements=(row, *others))


@pytest.fixture
def reports(tmp_path):
    """The golden report, and one of a model that is four times slower."""
    golden = read_report(GOLDEN)
    write_report(tmp_path / "before.json", golden)
    write_report(tmp_path / "after.json", slower(golden, 4.0))
    return tmp_path / "before.json", tmp_path / "after.json"


def test_a_regression_is_flagged(reports, invoke):
    before, after = reports
    result = invoke("report", before, after)
    assert result.exit_code == 0
    assert "4.000" in result.stdout
    assert "slower" in result.stdout
    assert "no difference beyond noise" in result.stdout
    assert "a difference may be the machine's" in result.stdout
    failed = invoke("report", before, after, "--fail-above", "5%")
    assert failed.exit_code == 5
    assert "300.0 % slower; at most 5 % is allowed" in failed.stderr
    assert invoke("report", before, after, "--fail-above", "0.5").exit_code == 5
    assert invoke("report", after, before, "--fail-above", "5%").exit_code == 0  # faster is no failure
    assert invoke("report", before, before, "--fail-above", "0%").exit_code == 0
    assert invoke("report", before, after, "--fail-above", "5%", "--require-valid").exit_code == 4


def test_a_comparison_as_markdown(reports, invoke, tmp_path):
    assert invoke("report", *reports, "--markdown", tmp_path / "compared.md").exit_code == 0
    text = (tmp_path / "compared.md").read_text()
    assert "| m0.tflite |" in text
    assert "| slower |" in text


def test_a_report_is_shown_again(invoke, tmp_path):
    page, text = tmp_path / "page.html", tmp_path / "text.md"
    result = invoke("report", GOLDEN, "--html", page, "--markdown", text)
    assert result.exit_code == 0
    assert "m0-int8.tflite" in result.stdout
    assert page.read_text() == GOLDEN.with_suffix(".html").read_text()
    assert text.read_text() == GOLDEN.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((GOLDEN, GOLDEN, GOLDEN), 2, "3 given"),
        ((GOLDEN, "--fail-above", "5%"), 2, "second one"),
        ((GOLDEN, GOLDEN, "--fail-above", "5"), 2, "5% or 0.05"),
        ((GOLDEN, GOLDEN, "--fail-above", "-1%"), 2, "5% or 0.05"),
        ((GOLDEN, GOLDEN, "--html", "x.html"), 2, "shows one report"),
        ((GOLDEN, "missing.json"), 1, "missing.json cannot be read"),
    ],
    ids=["three", "limit of one", "no per cent", "negative", "page of two", "missing"],
)
def test_wrong_use_of_report(arguments, code, words, invoke):
    result = invoke("report", *arguments)
    assert result.exit_code == code
    assert words in result.output
