"""A promised accuracy on the small random network: kept with real artefacts, or refused with what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evit_calibration.budget import Trial
from evit_calibration.sensitivity import Loss, OperatorLoss
from evit_converters import tflite
from evit_edge.cli.convert import print_missed
from evit_edge.cli.main import app
from evit_edge.errors import DataError, RequestError, VerificationError
from evit_edge.manifest import BudgetEntry, Quantization, manifest_path, read_manifest, write_manifest
from evit_edge.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from evit_edge.pipeline import Budget, ConvertRequest, Progress, Stage, Target, convert
from evit_edge.pipeline.budget import BudgetReport
from evit_edge.runtime.torch_checkpoint import TorchRunner
from evit_edge.verification import GateStatus, VerifyRequest, verify

CROPS = 5


@pytest.fixture(scope="module")
def calibration(photos: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of the photos."""
    return _crops(photos, tmp_path_factory.mktemp("calibration"), seed=1, count=4)


@pytest.fixture(scope="module")
def validation(photos: dict[str, np.ndarray], hard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other crops, in folders named by what the checkpoint says of them: it is right on all."""
    crops, folder = (
        _crops(photos, tmp_path_factory.mktemp("crops"), seed=2, count=CROPS),
        tmp_path_factory.mktemp("v"),
    )
    runner = TorchRunner.open(hard)
    for path in sorted(crops.iterdir()):
        square = runner.info.preprocessing.apply(np.asarray(Image.open(path)))
        label = runner.info.label(int(runner.run(square[None]).argmax()))
        (folder / label).mkdir(exist_ok=True)
        path.rename(folder / label / path.name)
    return folder


def _crops(photos: dict[str, np.ndarray], folder: Path, *, seed: int, count: int) -> Path:
    rng = np.random.default_rng(seed)
    for name, photo in photos.items():
        for i in range(count):
            side = int(rng.integers(100, 240))
            top, left = rng.integers(0, photo.shape[0] - side), rng.integers(0, photo.shape[1] - side)
            Image.fromarray(photo[top : top + side, left : left + side]).save(folder / f"{name}-{i}.png")
    return folder


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model at 128 px."""
    return _saved(
        load_checkpoint("everyday", image_size=128), tmp_path_factory.mktemp("easy") / "easy.safetensors"
    )


def _saved(checkpoint: Checkpoint, path: Path) -> Path:
    rule = checkpoint.preprocessing
    save_checkpoint(path, checkpoint.model, name=path.stem, labels=checkpoint.labels, preprocessing=rule)
    return path


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a channel after two convolutions of its stem blown up and divided out."""
    checkpoint = load_checkpoint("everyday", image_size=128)
    with torch.no_grad():
        embedding = checkpoint.model.patch_embed
        for first, second in (("conv1", "conv2"), ("conv3", "conv4")):
            before, after = getattr(embedding, first), getattr(embedding, second)
            before.bn.weight[3] *= 300
            before.bn.bias[3] *= 300
            after.conv.weight[:, 3] /= 300
    return _saved(checkpoint, tmp_path_factory.mktemp("hard") / "hard.safetensors")


@pytest.fixture(scope="module")
def request_(hard: Path, calibration: Path, validation: Path) -> ConvertRequest:
    """Without an output folder yet."""
    return ConvertRequest(
        output=Path("nowhere"),
        weights=str(hard),
        quantization=Quantization.INT8,
        calibration=(calibration,),
        budget=Budget(30.0, (validation,)),
    )


@pytest.fixture(autouse=True)
def exported_once(monkeypatch: pytest.MonkeyPatch, exports: dict[tuple[int, ...], bytes]) -> None:
    """Exporting takes most of a conversion, and it is not what is tested."""
    real = tflite.export

    def export(module: torch.nn.Module, example: torch.Tensor) -> bytes:
        key = tuple(int(v.detach().double().abs().sum() * 1000) for v in module.state_dict().values())
        if key not in exports:
            exports[key] = real(module, example)
        return exports[key]

    monkeypatch.setattr(tflite, "export", export, raising=False)


@pytest.fixture(scope="module")
def exports() -> dict[tuple[int, ...], bytes]:
    return {}


def test_a_promise_is_kept_with_exemptions_that_are_recorded(request_: ConvertRequest, tmp_path: Path) -> None:
    told: list[Progress] = []
    result = convert(replace(request_, output=tmp_path / "out"), told.append)
    manifest = read_manifest(manifest_path(result.artefact))
    entry = manifest.budget
    assert entry is not None
    assert entry.kept
    assert entry.drop <= 30 < entry.drop_without
    assert entry.float_top1 == 1
    assert entry.photos == 5 * CROPS
    assert entry.interval[0] <= entry.drop <= entry.interval[1]
    assert set(manifest.exempt.values()) == {"float"}
    always = tflite.delicate_operators(next(iter(_floats(request_))))
    assert set(always) < set(manifest.exempt)
    assert len(manifest.exempt) < len(always) + 30
    assert entry.trials > 2
    assert [p.remark for p in told if p.stage is Stage.SEARCH and p.remark and "loses" in p.remark]
    report = verify(VerifyRequest(result.artefact))
    (gate,) = [gate for gate in report.gates if gate.name == "accuracy budget"]
    assert gate.status is GateStatus.PASSED
    write_manifest(
        manifest_path(result.artefact),
        replace(manifest, budget=replace(entry, max_drop=0, drop=1.0, interval=(0.5, 2.0))),
    )
    assert "accuracy budget" in {gate.name for gate in verify(VerifyRequest(result.artefact)).failed}


def test_a_promise_that_plain_int8_keeps_needs_no_search(
    request_: ConvertRequest, easy: Path, tmp_path: Path
) -> None:
    request = replace(request_, output=tmp_path / "out", weights=str(easy))
    result = convert(request)
    assert result.manifest.budget is not None
    assert result.manifest.budget.trials == 1
    assert result.manifest.budget.drop == result.manifest.budget.drop_without
    assert list(result.manifest.exempt) == tflite.delicate_operators(next(iter(_floats(request))))


def test_a_promise_does_not_stand_above_verification(request_: ConvertRequest, tmp_path: Path) -> None:
    assert request_.budget is not None
    anything = replace(request_, output=tmp_path / "out", budget=replace(request_.budget, max_drop=100.0))
    with pytest.raises(VerificationError, match="sqnr"):
        convert(anything)
    assert not (tmp_path / "out").exists()


def _floats(request: ConvertRequest) -> list[bytes]:
    from evit_edge.pipeline.to_tflite import export_float

    checkpoint: Checkpoint = load_checkpoint(request.weights)
    return [export_float(checkpoint, request.output_kind)]


def test_photos_in_both_sets_are_named(request_: ConvertRequest, calibration: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "cup"
    folder.mkdir(parents=True)
    copied = sorted(calibration.iterdir())[0]
    (folder / "renamed.png").write_bytes(copied.read_bytes())
    overlapping = replace(request_, output=tmp_path / "out", budget=Budget(1.0, (tmp_path / "photos",)))
    with pytest.raises(DataError, match=r"1 validation photos are calibrated with too.*renamed\.png"):
        convert(overlapping)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization": Quantization.FP16, "calibration": ()}, "--max-drop serves"),
        ({"target": Target.COREML, "quantization": Quantization.PALETTE4, "calibration": ()}, "--max-drop serves"),
    ],
    ids=["fp16", "palette"],
)
def test_budgets_are_for_int8(changes: dict[str, object], message: str, request_: ConvertRequest) -> None:
    with pytest.raises(RequestError, match=message):
        replace(request_, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("drop", "folders"), [(-1.0, (Path("v"),)), (1.0, ())], ids=["negative", "no photos"])
def test_a_budget_is_checked(drop: float, folders: tuple[Path, ...]) -> None:
    with pytest.raises(RequestError, match="max-drop"):
        Budget(drop, folders)


def test_a_promise_that_nothing_keeps_ends_with_three_and_the_best(
    request_: ConvertRequest, calibration: Path, validation: Path, tmp_path: Path
) -> None:
    """The interval of so few photos reaches beyond a thousandth of a point whatever the model answers."""
    from typer.testing import CliRunner

    options = ["--weights", request_.weights, "--quantize", "int8", "--calibration", str(calibration), "--json"]
    options += ["--max-drop", "0.001", "--strict", "--validation", str(validation), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["convert", *options])
    assert result.exit_code == 3, result.output
    assert "no model of" in result.stderr
    assert not (tmp_path / "out").exists()
    found = json.loads(result.stdout)["budget"]
    drops = [trial["drop"] for trial in found["trials"]]
    assert found["entry"]["drop"] == min(drops) <= drops[0]
    assert not any(trial["kept"] for trial in found["trials"])
    losses = [operator["loss"]["sqnr_db"] for operator in found["ranking"]]
    assert losses == sorted(losses)


def test_what_was_found_is_shown_as_tables(capsys: pytest.CaptureFixture[str]) -> None:
    entry = BudgetEntry(0.5, False, 2.0, (1.0, 3.0), 0.75, 0.73, 400, "ab" * 32, 5.0, 2)
    fault = OperatorLoss("conv_2d_7", "CONV_2D", Loss(12.5, 3, 32))
    trials = (Trial((), 5.0, 6.0, False), Trial(("conv_2d_7",), 2.0, 3.0, False))
    print_missed(BudgetReport(entry, ("conv_2d_7",), (fault,), trials), json=False)
    shown = capsys.readouterr().out
    for text in ("best of 2, on 400 photos", "2.00 [1.00, 3.00]", "operators at fault", "conv_2d_7", "12.5"):
        assert text in shown


@pytest.mark.slow
def test_the_same_promise_for_core_ml(request_: ConvertRequest, easy: Path, tmp_path: Path) -> None:
    request = replace(request_, output=tmp_path / "out", weights=str(easy), target=Target.COREML, calibration=())
    manifest = convert(request).manifest
    assert manifest.budget is not None
    assert manifest.budget.kept
    assert manifest.budget.photos == 5 * CROPS
