"""With any extra alone, a command works or names the extra that mends it, and that one does mend it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from partial_environments import ROOT, build, installed_with

EXTRAS = ("convert", "train", "plot", "onnx", "phones", "app")
FUZZ_SEEDS = ROOT / "tests" / "fuzz" / "corpus"
PARTS = (ROOT, ROOT / "converters", ROOT / "calibration", ROOT / "app")

# Each is cut short by something that is not there, so that what is asked is only whether it could begin.
COMMANDS = {
    "classify": "classify everyday-int8 photo.jpg",
    "classify with torch": "classify everyday photo.jpg",
    "classify .onnx": "classify tiny.onnx photo.jpg --in-process",
    "classify .mlpackage": "classify none.mlpackage photo.jpg",
    "convert": "convert --weights none.pth -o out",
    "convert to coreml": "convert --to coreml --weights none.pth -o out",
    "convert to onnx": "convert --to onnx --weights none.pth -o out",
    "convert from the hub": "convert --weights hf:wrong -o out",
    "train": "train none -o out",
    "evaluate": "evaluate everyday-int8 --data none",
    "evaluate with a picture": "evaluate everyday-int8 --data none --confusion-matrix matrix.png",
    "verify": "verify everyday-int8",
    "verify against weights": "verify everyday-int8 --weights none.pth",
    "profile": "profile everyday-int8 --seconds 0.01",
    "profile with a picture": "profile none.tflite --picture profile.png",
    "profile with torch": "profile none.pth",
    "sensitivity": "sensitivity none.pth --calibration none",
    "benchmark": "benchmark none.tflite",
    "benchmark on phones": "benchmark everyday-int8 --device android:none",
    "models": "models",
    "doctor": "doctor",
}
IN_THE_BASE = {"classify", "evaluate", "verify", "profile", "benchmark", "models", "doctor"}

PROGRAM = """
import contextlib, io, json, sys
from evit_edge.cli.main import app
found = {}
for name, line in json.loads(sys.argv[1]).items():
    told = io.StringIO()
    code = 0
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            app(line.split())
        except SystemExit as exc:
            code = exc.code or 0
    found[name] = [code, told.getvalue()]
sys.stdout.write("ANSWERS" + json.dumps(found))
"""
Answers = dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> Callable[[frozenset[str]], Answers]:
    """Function: exit code and stderr of every command in an environment with these extras."""
    asked: dict[frozenset[str], Answers] = {}

    def answers(extras: frozenset[str]) -> Answers:
        if extras not in asked:
            folder = tmp_path_factory.mktemp("environment")
            build(folder / "site", extras)
            work = folder / "work"
            work.mkdir()
            (work / "photo.jpg").write_bytes((photo_folder / "coffee.jpg").read_bytes())
            (work / "tiny.onnx").write_bytes((FUZZ_SEEDS / "onnx" / "inside.onnx").read_bytes())
            paths = os.pathsep.join(map(str, (*PARTS, folder / "site")))
            command = [sys.executable, "-S", "-W", "ignore", "-c", PROGRAM, json.dumps(COMMANDS)]
            environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
            run = subprocess.run(
                command, cwd=work, env=environment, capture_output=True, text=True, timeout=400, check=False
            )
            assert run.returncode == 0, run.stderr[-3000:]
            asked[extras] = json.loads(run.stdout.rpartition("ANSWERS")[2])
        return asked[extras]

    return answers


def advised(told: str) -> str | None:
    """The extra that an error names."""
    found = re.search(r"pip install 'evit-edge\[(\w+)\]'", told)
    return found[1] if found else None


def test_an_environment_holds_what_pip_would_install() -> None:
    base = installed_with(frozenset())
    assert {"numpy", "pillow", "typer", "rich", "ai-edge-litert"} <= base
    assert not {"torch", "matplotlib", "onnx", "flet", "huggingface-hub", "coremltools"} & base
    assert {"torch", "kornia"} <= installed_with(frozenset({"train"}))


def test_the_base_runs_models_and_says_what_the_rest_needs(ask: Callable[[frozenset[str]], Answers]) -> None:
    answers = ask(frozenset())
    assert answers["classify"][0] == 0, answers["classify"][1]
    assert answers["verify"][0] == 0, answers["verify"][1]
    needing = {name for name, (_, told) in answers.items() if advised(told)}
    assert needing.isdisjoint(IN_THE_BASE), {name: answers[name] for name in needing & IN_THE_BASE}
    assert {advised(answers[name][1]) for name in ("convert", "classify with torch", "sensitivity")} == {"convert"}
    assert advised(answers["train"][1]) == "train"
    assert advised(answers["classify .onnx"][1]) == "onnx"
    assert advised(answers["evaluate with a picture"][1]) == "plot"


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["", *EXTRAS], ids=lambda extra: extra or "none")
def test_the_extra_that_an_error_names_mends_it(ask: Callable[[frozenset[str]], Answers], extra: str) -> None:
    start = frozenset({extra} - {""})
    for name in COMMANDS:
        extras, told = start, ask(start)[name][1]
        while (advice := advised(told)) is not None:
            assert advice not in extras, f"{name} with {sorted(extras)}: {told}"
            extras |= {advice}
            told = ask(extras)[name][1]
        errors = [line for line in told.splitlines() if line.strip() and "INFO:" not in line]
        assert "Traceback" not in told, f"{name}: {told[-1500:]}"
        assert "not installed" not in told, f"{name}: {errors}"
