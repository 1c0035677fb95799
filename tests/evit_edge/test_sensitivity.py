"""``evit-edge sensitivity``: each operator alone on the int8 grid, down to table and picture."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evit_calibration.sensitivity import Loss, OperatorLoss
from evit_edge.cli.main import app
from evit_edge.cli.sensitivity import print_report
from evit_edge.errors import DataError, RequestError
from evit_edge.sensitivity import SensitivityReport, SensitivityRequest, sensitivity
from evit_edge.sensitivity.picture import draw_sensitivity
from evit_edge.zoo import EVERYDAY, calibration_path

pytest.importorskip("litert_torch", reason="making a .tflite needs litert-torch, which is for Linux")


def report(count: int) -> SensitivityReport:
    kinds = ("CONV_2D", "ADD", "MUL")
    losses = tuple(
        OperatorLoss(f"operator_{i}", kinds[i % 3], Loss(sqnr_db=50.0 - i, flips=i, photos=9))
        for i in range(count)
    )
    return SensitivityReport("net", "0" * 64, 9, 12, "mse", "engine 1", losses, "evit-edge sensitivity", "1")


@pytest.mark.slow
def test_every_operator_is_rounded_alone(
    m0_checkpoint: Path, colour_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", "200")
    (colour_photos / "red" / "broken.png").write_text("no photo")
    options = ["--calibration", colour_photos, "--samples", 31, "--photos", 1, "--estimator", "minmax"]
    files = ["--json", tmp_path / "s.json", "--picture", tmp_path / "s.svg"]
    result = CliRunner().invoke(app, ["sensitivity", *map(str, (m0_checkpoint, *options, *files))])
    assert result.exit_code == 0, result.output
    assert "random: int8 one operator at a time, 1 photos, minmax ranges" in result.stdout
    assert "1 of 31 photos could not be read and were left out; 30 were calibrated with" in result.output
    written = json.loads((tmp_path / "s.json").read_text())
    assert (written["schema"], written["photos"], written["calibration_photos"]) == (
        "evit-edge-sensitivity/1",
        1,
        30,
    )
    losses = written["operators"]
    assert f"{len(losses) - 20} more cost less" in result.stdout
    worst = min(losses, key=lambda entry: entry["loss"]["sqnr_db"])
    assert f"{worst['loss']['sqnr_db']:.1f}" in result.stdout
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"} <= {entry["kind"] for entry in losses}
    assert all(0 < entry["loss"]["sqnr_db"] < 200 for entry in losses)
    assert (tmp_path / "s.svg").read_text().count("<svg") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibration": ()}, "no photos given; give --calibration DIR"),
        ({"samples": 0}, "0 samples, 64 photos, 1 threads, seed 0 given; at least 1, 1, 1 and 0 are needed"),
        ({"photos": 0}, "0 photos"),
        ({"threads": 0}, "0 threads"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_requests_that_cannot_be_met(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SensitivityRequest(**{"calibration": (Path("photos"),), **changes})


def test_photos_are_needed_not_their_ranges(m0_checkpoint: Path, tmp_path: Path) -> None:
    for source, error, message in (
        (calibration_path(EVERYDAY, "tflite"), RequestError, "a calibration cache given; the photos themselves"),
        (tmp_path, DataError, "holds no photos"),
    ):
        with pytest.raises(error, match=message):
            sensitivity(SensitivityRequest((source,), weights=str(m0_checkpoint)))


def test_a_picture_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    options = ["--calibration", str(tmp_path), "--picture", str(tmp_path / "s.txt")]
    result = CliRunner().invoke(app, ["sensitivity", "none.pth", *options])
    assert (result.exit_code, result.stderr.count("\n"), ".svg" in result.stderr) == (1, 1, True)


@pytest.mark.parametrize(
    ("count", "everything", "shown", "left"), [(20, False, 20, 0), (23, False, 20, 3), (23, True, 23, 0)]
)
def test_the_worst_are_printed_first(
    count: int,
    everything: bool,
    shown: int,
    left: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    print_report(report(count), everything=everything)
    told = capsys.readouterr().out
    assert re.findall(r"operator_\d+", told) == [f"operator_{i}" for i in reversed(range(count - shown, count))]
    assert re.findall(r"(\d+) more cost less", told) == ([str(left)] if left else [])


def test_the_picture_names_the_twenty_worst(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_sensitivity(report(23), tmp_path / "s.svg")
    drawn = (tmp_path / "s.svg").read_text()
    assert set(re.findall(r"<!-- (operator_\d+) -->", drawn)) == {f"operator_{i}" for i in range(3, 23)}
    for text in ("CONV_2D", "ADD", "MUL", "28.0 dB, 22 flips", "net: int8 one by one, 9 photos, mse ranges"):
        assert text in drawn
