"""Arm's kernels, emulated: the same files, the same pictures, in both runtimes of the root."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from evit_edge.cli.main import app
from evit_edge.errors import ArtefactError, DeviceError, RequestError
from evit_edge.golden import read_golden
from evit_edge.manifest import Quantization, golden_path
from evit_edge.pipeline import ConvertRequest, convert
from evit_edge.runtime.arm64 import EmulatedInterpreter, find_root
from evit_edge.runtime.arm64.root import root_key
from evit_edge.tensors import OutputKind
from evit_edge.verification import Architecture, GateStatus, Thresholds, VerifyRequest, verify
from evit_edge.verification.arm64 import measure_difference

ROOT = Path(__file__).resolve().parents[2]
BUILDER = ROOT / "evit_edge" / "runtime" / "arm64" / "build_root.sh"
RUNTIMES = ("ai-edge-litert", "tflite-runtime")
LENIENT = Thresholds(max_relative_error=None, min_sqnr_db=12.0, min_cosine=0.95, min_agreement=0.6)
KINDS = (Quantization.INT8, Quantization.INT8_FULL)


@pytest.fixture(scope="module")
def int8_files(m0_checkpoint, photo_folder, tmp_path_factory) -> dict[Quantization, Path]:
    """The random M0 with float scores, and with scores in steps."""
    folder = tmp_path_factory.mktemp("arm64")
    requests = {
        kind: ConvertRequest(
            output=folder / kind.value,
            weights=str(m0_checkpoint),
            quantization=kind,
            calibration=(photo_folder,),
            command="evit-edge convert",
        )
        for kind in KINDS
    }
    return {kind: convert(request).artefact for kind, request in requests.items()}


def statuses(report) -> dict[str, GateStatus]:
    return {gate.name: gate.status for gate in report.gates}


def test_a_float_artefact_answers_on_arm_as_here(arm64_root, m0_artefact, m0_checkpoint, photo_folder):
    request = VerifyRequest(
        m0_artefact, weights=m0_checkpoint, data=(photo_folder,), arch=Architecture.ARM64, arm64_root=arm64_root
    )
    report = verify(request)
    assert report.passed, report.failed
    assert set(statuses(report).values()) == {GateStatus.PASSED}
    assert "partitions, ai-edge-litert" in statuses(report)
    for runtime in RUNTIMES:
        prefix = f"arm64_{runtime.replace('-', '_')}"
        for pictures in ("golden", "photos"):
            assert 0 < report.figures[f"{prefix}_{pictures}_as_here_relative_error"] < 1e-5
            assert f"{prefix}_{pictures}_as_here_max_steps" not in report.figures
        assert report.figures[f"{prefix}_photos_as_here_top1_agreement"] == 1.0
        assert f"{runtime} " in report.runtime
        assert sum(runtime in remark for remark in report.remarks) == 1
    assert "aarch64" in report.runtime


@pytest.mark.parametrize("kind", KINDS)
def test_an_int8_artefact_answers_on_arm_as_here(arm64_root, int8_files, photo_folder, kind):
    request = VerifyRequest(
        int8_files[kind], data=(photo_folder,), thresholds=LENIENT, arch=Architecture.ARM64, arm64_root=arm64_root
    )
    report = verify(request)
    assert report.passed, report.failed
    steps = "arm64_ai_edge_litert_photos_as_here_max_steps"
    assert (steps in report.figures) == (kind is Quantization.INT8_FULL)
    assert report.figures.get(steps, 0) <= 16
    assert report.figures["arm64_ai_edge_litert_golden_as_here_sqnr_db"] > 20
    pieces = next(remark for remark in report.remarks if "ai-edge-litert" in remark)
    assert ("1 partition, " in pieces) == (kind is Quantization.INT8)  # XNNPACK takes int8 on Arm, too


def test_other_golden_vectors_fail_on_arm(arm64_root, m0_artefact):
    golden = read_golden(golden_path(m0_artefact))
    wrong = replace(golden, logits=-golden.logits)
    report = verify(VerifyRequest(m0_artefact, golden=wrong, arch=Architecture.ARM64, arm64_root=arm64_root))
    assert {f"relative error, {runtime}" for runtime in RUNTIMES} <= {gate.name for gate in report.failed}


def test_the_command_prints_json(arm64_root, m0_artefact):
    arguments = ["verify", str(m0_artefact), "--arch", "arm64", "--arm64-root", str(arm64_root)]
    answer = CliRunner().invoke(app, [*arguments, "--json"])
    assert answer.exit_code == 0
    document = json.loads(answer.stdout)
    assert document["passed"]
    assert "arm64_tflite_runtime_golden_relative_error" in document["figures"]
    skipped = [gate for gate in document["gates"] if gate["status"] == "skipped"]
    assert len(skipped) == len(RUNTIMES)
    assert all("--data" in gate["measured"] for gate in skipped)


def test_what_the_runtime_refuses_is_named(arm64_root, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\0" * 64)
    root = find_root(arm64_root)
    for engine in root.engines():
        with pytest.raises(ArtefactError, match=r"broken.tflite failed on arm64: \w*Error"):
            EmulatedInterpreter(root, engine, broken)


def test_a_process_that_gives_no_answer_is_ended(arm64_root, m0_artefact):
    root = find_root(arm64_root)
    with pytest.raises(ArtefactError, match=r"no answer in 0.01 s"):
        EmulatedInterpreter(root, root.engines()[0], m0_artefact, limit_s=0.01)


def test_a_missing_or_old_root_is_answered_with_the_command(tmp_path, monkeypatch):
    (tmp_path / "qemu-aarch64-static").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-aarch64-static").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "a root"
    command = f"PYTHON={sys.executable} sh {BUILDER} '{folder}'"
    with pytest.raises(DeviceError, match="no root for arm64") as missing:
        find_root(folder)
    assert str(missing.value).endswith(command)
    folder.mkdir()
    (folder / "ready").write_text("0" * 64)
    with pytest.raises(DeviceError, match="of another release") as old:
        find_root(folder)
    assert str(old.value).endswith(command)


def test_a_missing_emulator_is_answered_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="sudo apt-get install qemu-user-static"):
        find_root(tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"artefact": Path("m.onnx"), "arch": Architecture.ARM64}, "a .tflite is accepted", id="onnx"),
        pytest.param({"artefact": Path("m.tflite"), "arm64_root": Path("r")}, "--arch arm64", id="root-alone"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(changes, told):
    with pytest.raises(RequestError, match=told):
        VerifyRequest(**changes)


def test_the_script_leaves_alone_what_is_ready_or_not_its_own(tmp_path):
    (tmp_path / "ready").write_text(root_key() + "\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("dear")
    done = subprocess.run(
        ["sh", BUILDER, tmp_path], check=False, env={"PATH": os.environ["PATH"], "PYTHON": "none"}
    )
    assert done.returncode == 0  # the hash is the one that Python computes
    command = [ROOT / "tools" / "arm64", tmp_path / "foreign"]
    foreign = subprocess.run(command, check=False, capture_output=True, text=True)
    assert foreign.returncode == 1
    assert foreign.stderr
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["letter.txt"]


def test_differences_are_told_in_steps_where_the_scores_are(m0_artefact):
    from evit_edge.runtime import open_runner

    info = open_runner(m0_artefact).info
    stepped = replace(info, output=replace(info.output, dtype="int8", scale=1 / 256, zero_point=-128))
    here = np.array([[0.5, 0.25, 0.125, 0.125, 0.0]], np.float32)
    there = here + np.array([[2, -1, 0, 0, 0]], np.float32) / 256
    found = measure_difference(there, here, stepped)
    assert (found.max_steps, found.mean_steps) == (2, pytest.approx(0.6))
    assert str(found) == "at most 2 steps of 0.003906 (mean 0.6)"
    plain = measure_difference(there, here, info)
    assert plain.max_steps is None
    assert plain.max_probability == pytest.approx(2 / 256)
    logits = measure_difference(there, here, replace(info, output_kind=OutputKind.LOGITS))
    assert logits.max_probability is None
