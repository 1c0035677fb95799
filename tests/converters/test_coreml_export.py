"""What an exported package is: its format, its normalisation, its words; and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evit_converters import coreml
from evit_converters.coreml import ComputePrecision, DeploymentTarget, Interface, OutputKind, Program
from evit_converters.errors import ExportError, InterfaceError, ModelFileError, ModuleError
from evit_edge.runtime.coreml import Evaluator, Package, Precision, read_package

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LOGITS = Interface(32, MEAN, STD, output_kind=OutputKind.LOGITS)


def saved(program: Program, folder: Path) -> Package:
    """The program as a reader finds it."""
    coreml.save(program, folder / "net.mlpackage")
    return read_package(folder / "net.mlpackage")


def normalised(images: np.ndarray, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Tensor:
    """uint8 (B, S, S, 3) to float64 (B, 3, S, S)."""
    offset, width = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
    return ((torch.from_numpy(images).double() / 255 - offset) / width).permute(0, 3, 1, 2)


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())


def pictures() -> np.ndarray:
    """Noise, black and white: a plain picture is where wrong padding shows most."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    return np.concatenate([noise, np.zeros_like(noise[:1]), np.full_like(noise[:1], 255)])


@pytest.mark.parametrize(("target", "version"), list(zip(DeploymentTarget, (6, 7, 8, 9), strict=True)))
@pytest.mark.parametrize("precision", ComputePrecision)
def test_target_gives_the_specification_version_and_the_image_stays_float32(
    target: DeploymentTarget, version: int, precision: ComputePrecision, tmp_path: Path
) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    package = saved(coreml.export(module, LOGITS, precision=precision, target=target), tmp_path)
    assert (package.specification_version, package.opset) == (version, target.value)
    scale = np.float32(1 / (255 * np.mean(STD)))
    assert package.image is not None
    assert (package.image.name, package.image.color_order) == ("image", "RGB")
    assert package.image.scale == (float(scale),) * 3
    assert package.image.bias == tuple(float(np.float32(-255 * mean * float(scale))) for mean in MEAN)


def float32_error(module: nn.Module, images: np.ndarray, **kwargs: tuple[float, ...]) -> tuple[float, Tensor]:
    """Torch's own error on these images, and its answer in float64."""
    x = normalised(images, **kwargs)
    with torch.no_grad():
        single = module(x.float())
        expected = module.double()(x)
        module.float()
    return error(single, expected), expected


def test_float32_package_computes_the_module(
    float32_program: Program, plane_net: nn.Module, tmp_path: Path
) -> None:
    package = saved(float32_program, tmp_path)
    noise, logits = float32_error(plane_net, pictures())
    actual = Evaluator(package, Precision.FLOAT64).run(pictures())
    assert error(actual, logits.softmax(-1)) < 4 * noise


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 5)),
        nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
    ids=["no convolution", "depthwise first", "padding before"],
)
def test_normalisation_is_exact_whatever_reads_the_image(module: nn.Module, tmp_path: Path) -> None:
    module.eval()
    mean, std = (0.1, 0.5, 0.9), (0.05, 0.25, 1.5)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    interface = Interface(32, mean, std, output_kind=OutputKind.LOGITS)
    package = saved(coreml.export(module, interface, precision=ComputePrecision.FLOAT32), tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    noise, expected = float32_error(module, pictures(), mean=mean, std=std)
    actual = Evaluator(package, Precision.FLOAT64).run(pictures())
    assert error(actual, expected) < max(4 * noise, 2e-7)


class MultiplyAdd(nn.Module):
    """What coremltools takes for a BatchNorm: a factor and an offset for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor([0.9, 1.1, 1.3])[:, None, None])
        self.register_buffer("offset", torch.tensor([0.1, -0.2, 0.3])[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.factor + self.offset).mean((2, 3))


def test_multiply_add_gets_no_epsilon(tmp_path: Path) -> None:
    module = MultiplyAdd().eval()
    program = coreml.export(module, LOGITS, precision=ComputePrecision.FLOAT32)
    package = saved(program, tmp_path)
    assert "batch_norm" not in {operation.type for operation in package.function.block.operations}
    x = normalised(pictures())
    with torch.no_grad():
        expected = module.double()(x)
    # coremltools' epsilon of 1e-5 would shrink the factors' products by 3e-6 to 6e-6.
    assert error(Evaluator(package, Precision.FLOAT64).run(pictures()), expected) < 5e-7


class Lessened(nn.Module):
    """A constant is taken from what a convolution makes, and read once more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("offset", torch.tensor([0.5, -1.0, 2.0, 0.25])[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return ((self.conv(x) - self.offset).relu() * self.offset).mean((2, 3))


@pytest.mark.parametrize("precision", ComputePrecision)
def test_a_constant_that_is_taken_away_is_not_added(precision: ComputePrecision, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Lessened().eval()
    package = saved(coreml.export(module, LOGITS, precision=precision), tmp_path)
    x = normalised(pictures())
    with torch.no_grad():
        expected = module.double()(x)
    bound = 5e-7 if precision is ComputePrecision.FLOAT32 else 2e-3
    assert error(Evaluator(package, Precision.FLOAT64).run(pictures()), expected) < bound


def test_package_says_what_the_interface_says(
    float16_program: Program, interface: Interface, tmp_path: Path
) -> None:
    package = saved(float16_program, tmp_path)
    assert package.labels == tuple(interface.labels)
    assert package.predicted_probabilities == "classLabel_probs"
    assert package.metadata["author"] == "Nobody"
    assert package.metadata["license"] == "MIT"
    assert package.metadata["version"] == "1.2.3"
    assert package.metadata["description"] == "plane net: Sorts nothing."
    assert package.user_defined["com.apple.coreml.model.preview.type"] == "imageClassifier"
    assert json.loads(package.user_defined["labels"]) == list(interface.labels)
    assert package.user_defined["evit_edge"] == "{}"


def test_logits_are_an_array_and_the_labels_stay_in_the_metadata(
    plane_net: nn.Module, interface: Interface, tmp_path: Path
) -> None:
    wanted = dataclasses.replace(interface, output_kind=OutputKind.LOGITS)
    package = saved(coreml.export(plane_net, wanted, precision=ComputePrecision.FLOAT32), tmp_path)
    assert [(output.name, output.shape) for output in package.outputs] == [("logits", (1, 7))]
    assert package.labels is None
    assert json.loads(package.user_defined["labels"]) == list(interface.labels)
    noise, expected = float32_error(plane_net, pictures())
    assert error(Evaluator(package, Precision.FLOAT64).run(pictures()), expected) < 4 * noise


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 0}, "1 or more"),
        ({"mean": (0.5,)}, "three values each"),
        ({"std": (0.0, 1.0, 1.0)}, "std positive"),
        ({"mean": (float("nan"), 0.5, 0.5)}, "finite"),
        ({"labels": ["a", " "]}, "an empty label"),
        ({"labels": ["crane", "a", "crane"]}, "'crane'"),
        ({"user_defined": {"labels": "x"}}, "written from the interface"),
    ],
    ids=["size", "mean", "std", "nan", "empty label", "label twice", "reserved key"],
)
def test_impossible_interfaces_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InterfaceError, match=message):
        Interface(**({"image_size": 32, "mean": MEAN, "std": STD} | wrong))


def test_labels_may_repeat_where_scores_go_by_number() -> None:
    assert Interface(32, MEAN, STD, labels=["crane", "crane"], output_kind=OutputKind.LOGITS).labels[1] == "crane"


class Branching(nn.Module):
    """What torch.export cannot trace: the way depends on the picture."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def with_weight(value: float) -> nn.Module:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    module[2].weight.data[0, 0] = value
    return module


@pytest.mark.parametrize(
    ("make", "labels", "wrong", "message"),
    [
        (lambda: nn.Flatten().train(), (), ModuleError, "training mode"),
        (lambda: with_weight(float("nan")), (), ModuleError, "2.weight holds 1 NaN"),
        (lambda: with_weight(1e5), (), ExportError, "beyond float16"),
        (lambda: with_weight(1), ("a", "b", "c"), ModuleError, "3 labels given for a module of 2 classes"),
        (lambda: nn.Identity().eval(), (), ModuleError, r"\(1, classes\) is needed"),
        (lambda: Branching().eval(), (), ExportError, "cannot trace Branching"),
    ],
    ids=["training", "nan", "overflow", "labels", "shape", "branch"],
)
def test_impossible_modules_are_refused(
    make: Callable[[], nn.Module], labels: tuple[str, ...], wrong: type[Exception], message: str
) -> None:
    with pytest.raises(wrong, match=message):
        coreml.export(make(), Interface(32, MEAN, STD, labels=labels))


class Unknown(nn.Module):
    """An operation that coremltools has no word for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x).mean((2, 3))


def test_what_coremltools_cannot_convert_is_named() -> None:
    with pytest.raises(ExportError, match=r"coremltools cannot convert Unknown.*bessel_j0"):
        coreml.export(Unknown().eval(), LOGITS)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    coreml.export(with_weight(1), LOGITS)
    assert capfd.readouterr() == ("", "")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_second_export_and_save_give_the_same_bytes(
    plane_net: nn.Module, interface: Interface, float16_program: Program, tmp_path: Path
) -> None:
    again = coreml.export(plane_net, interface, target=DeploymentTarget.IOS17)
    for name, program in (("a", float16_program), ("b", again)):
        coreml.save(program, tmp_path / f"{name}.mlpackage")
    first, second = contents(tmp_path / "a.mlpackage"), contents(tmp_path / "b.mlpackage")
    assert first == second
    assert sorted(first) == [
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
        "Manifest.json",
    ]


def test_a_package_is_replaced(float16_program: Program, float32_program: Program, tmp_path: Path) -> None:
    path = tmp_path / "net.mlpackage"
    coreml.save(float32_program, path)
    larger = contents(path)
    coreml.save(float16_program, path)
    assert sum(map(len, contents(path).values())) < sum(map(len, larger.values()))
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.mlpackage"]


@pytest.mark.parametrize("name", ["net.mlmodel", "there.mlpackage", "nowhere/net.mlpackage"])
def test_impossible_places_are_refused_and_left_as_they_were(
    name: str, float16_program: Program, tmp_path: Path
) -> None:
    (tmp_path / "there.mlpackage").mkdir()
    (tmp_path / "there.mlpackage" / "mine.txt").write_text("not a package")
    before = contents(tmp_path)
    with pytest.raises(ModelFileError, match=name.split("/", maxsplit=1)[0]):
        coreml.save(float16_program, tmp_path / name)
    assert contents(tmp_path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["there.mlpackage"]


def test_an_interrupted_save_leaves_the_old_package(float32_program: Program, tmp_path: Path) -> None:
    path = tmp_path / "net.mlpackage"
    coreml.save(float32_program, path)
    before = contents(tmp_path)
    lost = coreml.export(with_weight(1), LOGITS)
    shutil.rmtree(lost.model.weights_dir)
    with pytest.raises(ModelFileError, match="cannot write"):
        coreml.save(lost, path)
    assert contents(tmp_path) == before
