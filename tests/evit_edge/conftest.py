"""Small real models: a colour classifier in several input forms, and a random EfficientViT with its artefact."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evit_edge import __version__
from evit_edge.files import sha256_of
from evit_edge.golden import Golden, write_golden
from evit_edge.manifest import (
    ArtefactEntry,
    Manifest,
    Quantization,
    SourceEntry,
    golden_path,
    manifest_path,
    read_manifest,
    write_manifest,
)
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime import open_runner
from evit_edge.runtime.tflite_file import DESCRIPTION_NAME

COLOURS = ("red", "green", "blue")
SIDE = 32


def append(path: Path, **members: str) -> None:
    """Append text files to a .tflite, as TFLite Metadata does."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "."), text)


def colour_net(form: str):
    """Mean of each channel, times 10; ``form`` is DTYPE-LAYOUT-OUTPUT."""
    torch = pytest.importorskip("torch")
    dtype, layout, output = form.split("-")

    class Colour(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 1, bias=False)
            self.conv.weight.data = torch.eye(3).reshape(3, 3, 1, 1)

        def forward(self, x):
            if dtype == "uint8":
                x = x.float() / 255
            elif dtype == "int8":
                x = (x.float() + 128) / 255
            if layout == "nhwc":
                x = x.permute(0, 3, 1, 2)
            x = 10 * self.conv(x).mean((2, 3))
            return x if output == "logits" else x.softmax(-1)

    shape = (1, SIDE, SIDE, 3) if layout == "nhwc" else (1, 3, SIDE, SIDE)
    kind = {"uint8": torch.uint8, "int8": torch.int8, "float32": torch.float32}[dtype]
    return Colour().eval(), torch.zeros(shape, dtype=kind)


COLOUR_FORMS = (
    "uint8-nhwc-probabilities",
    "float32-nchw-logits",
    "float32-nhwc-probabilities",
    "int8-nhwc-logits",
)


@pytest.fixture(scope="session")
def colour_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A classifier of red, green and blue in each form, labels inside; read only. Float inputs take 0..1."""
    pytest.importorskip("litert_torch", reason="making a .tflite needs litert-torch, which is for Linux")
    from evit_converters.tflite import export

    folder = tmp_path_factory.mktemp("colour")
    paths = {form: folder / f"{form}.tflite" for form in COLOUR_FORMS}
    for form, path in paths.items():
        path.write_bytes(export(*colour_net(form)))
        append(path, labels__txt="\n".join(COLOURS))
    return paths


@pytest.fixture(scope="session")
def colour_model(colour_models: dict[str, Path]) -> Path:
    """The form that this project's artefacts have."""
    return colour_models["uint8-nhwc-probabilities"]


def _paint(colour: str, seed: int = 0) -> np.ndarray:
    """A noisy plane of one colour; uint8 (48, 64, 3)."""
    image = np.random.default_rng(seed).integers(0, 60, (48, 64, 3))
    image[..., COLOURS.index(colour)] += 150
    return image.astype(np.uint8)


@pytest.fixture
def colour_photos(tmp_path: Path) -> Path:
    """Class folders with ten photos each; one of the reds is truly green, two of the blues are red."""
    shown = {"red": ["red"] * 9 + ["green"], "green": ["green"] * 10, "blue": ["blue"] * 8 + ["red"] * 2}
    for label, colours in shown.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i, colour in enumerate(colours):
            Image.fromarray(_paint(colour, i)).save(tmp_path / "photos" / label / f"{i}.png")
    return tmp_path / "photos"


def randomised_m0(classes: int = 5, seed: int = 0):
    """M0 at 128 px with random weights and BatchNorm statistics, so that no branch is an identity."""
    torch = pytest.importorskip("torch")
    from evit_edge.models.config import variant
    from evit_edge.models.efficientvit import EfficientViT

    torch.manual_seed(seed)
    model = EfficientViT(variant("m0").adapted(num_classes=classes, image_size=128)).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or name.endswith("bn.weight"):
            tensor.uniform_(0.6, 1.4)
        elif name.endswith(("running_mean", "bn.bias", "attention_biases")):
            tensor.normal_(0, 0.3)
        elif name.endswith("linear.weight"):
            tensor.normal_(0, 0.2)
    return model


M0_LABELS = ("cup", "cat", "rocket", "astronaut", "camera")
M0_RULE = Preprocessing(image_size=128, crop_fraction=0.9)


@pytest.fixture(scope="session")
def m0_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random M0 with labels and a rule of its own; read only."""
    pytest.importorskip("safetensors")
    from evit_edge.models.checkpoints import save_checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_checkpoint(
        path, randomised_m0(), name="random", labels=M0_LABELS, preprocessing=M0_RULE, aliases={"mug": "cup"}
    )
    return path


def _describe(artefact: Path, *, sha256: str, quantization: Quantization = Quantization.NONE) -> Manifest:
    """The manifest of a file, with what its engine says."""
    info = open_runner(artefact).info
    return Manifest(
        tool_version=__version__,
        command="evit-edge convert",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=SourceEntry(
            "random", "efficientvit_m0", info.num_classes, info.image_size, "r.safetensors", sha256
        ),
        artefact=ArtefactEntry(
            file=artefact.name,
            format="tflite",
            sha256=sha256_of(artefact),
            size_bytes=artefact.stat().st_size,
            input=info.input,
            output=info.output,
            output_kind=info.output_kind,
            labels=len(info.labels or ()),
            partitions=1,
        ),
        quantization=quantization,
        calibration=None,
        preprocessing=info.preprocessing,
        versions={"numpy": np.__version__},
        aliases={"mug": "cup"},
    )


@pytest.fixture(scope="session")
def m0_artefact(
    m0_checkpoint: Path, photos: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The random M0 as float .tflite with manifest and golden vectors beside it; read only."""
    pytest.importorskip("litert_torch", reason="making a .tflite needs litert-torch, which is for Linux")
    import torch

    from evit_converters.tflite import export
    from evit_edge.models.deploy import deploy
    from evit_edge.runtime.torch_checkpoint import TorchRunner

    path = tmp_path_factory.mktemp("artefact") / "random.tflite"
    net = deploy(randomised_m0(), mean=M0_RULE.mean, std=M0_RULE.std, tokenwise=True)
    path.write_bytes(export(net.eval(), torch.zeros(1, 128, 128, 3, dtype=torch.uint8)))
    described = {"preprocessing": M0_RULE.to_json(), "aliases": {"mug": "cup"}, "output_kind": "probabilities"}
    append(path, labels__txt="\n".join(M0_LABELS))
    append(path, **{DESCRIPTION_NAME.replace(".", "__"): json.dumps(described)})
    images = np.stack([M0_RULE.apply(image) for image in photos.values()])
    write_golden(golden_path(path), Golden(images, TorchRunner.open(m0_checkpoint).run(images)))
    write_manifest(manifest_path(path), _describe(path, sha256=sha256_of(m0_checkpoint)))
    return path


def _copy_artefact(artefact: Path, folder: Path, **changes) -> Path:
    """Copy an artefact with all that lies beside it; ``changes`` go into the manifest's artefact entry."""
    copy = folder / artefact.name
    copy.write_bytes(artefact.read_bytes())
    golden_path(copy).write_bytes(golden_path(artefact).read_bytes())
    manifest = read_manifest(manifest_path(artefact))
    write_manifest(manifest_path(copy), replace(manifest, artefact=replace(manifest.artefact, **changes)))
    return copy


@pytest.fixture(scope="session")
def describe():
    """Function: the manifest of a file, with what its engine says."""
    return _describe


@pytest.fixture(scope="session")
def copy_artefact():
    """Function: copy an artefact with what lies beside it, with changes to its manifest."""
    return _copy_artefact


@pytest.fixture(scope="session")
def paint():
    """Function: a noisy plane of one colour."""
    return _paint


PROPERTIES = """[ro.product.manufacturer]: [Nobody]
[ro.product.model]: [Stand-in]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.build.fingerprint]: [nobody/standin/standin:14/X/1:user/release-keys]
[ro.soc.manufacturer]: [Acme]
[ro.soc.model]: [A1]"""
THERMAL = """IsStatusOverride: false
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=99.0, mType=3, mName=SKIN, mStatus=0}}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{{mValue=41.5, mType=0, mName=CPU, mStatus=0}}
\tTemperature{{mValue=0.0, mType=2, mName=SUBBAT, mStatus=0}}
Current cooling devices from HAL:"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  level: {level}
  scale: 100
  temperature: 287"""


class ScriptedPhones:
    """Phones that a program plays; ``folder`` is the file system of all of them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.program = folder.parent / "benchmark_model"
        header = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + (183).to_bytes(2, "little")
        self.program.write_bytes(header + bytes(44) + b"/system/bin/linker64 evit-edge scripted benchmark_model")

    def add(self, name: str = "scripted-1", *, status: int = 0, level: int = 80, tool=None, **phone) -> Path:
        """Attach one; ``tool`` and ``phone`` go into ``tool.json`` and ``phone.json``."""
        root = self.folder / name
        for part in ("data/local/tmp", "proc", "sys/devices/system/cpu/cpufreq/policy0", "bin"):
            (root / part).mkdir(parents=True)
        policy = root / "sys/devices/system/cpu/cpufreq/policy0"
        allowed = phone.pop("allowed", 2000000)
        for file, value in {
            "cpuinfo_max_freq": 2000000,
            "scaling_max_freq": allowed,
            "scaling_governor": "walt",
        }.items():
            (policy / file).write_text(f"{value}\n")
        (root / "proc/cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nprocessor\t: 1\n")
        (root / "proc/meminfo").write_text("MemTotal:        8000000 kB\n")
        self._write(root, "getprop", phone.pop("properties", PROPERTIES))
        self._write(root, "settings", str(phone.pop("saver", 0)))
        self._write(root, "thermal", THERMAL.format(status=status))
        self._write(root, "battery", BATTERY.format(level=level))
        dumpsys = root / "bin" / "dumpsys"
        dumpsys.write_text(
            f'#!/bin/sh\ncase "$1" in thermalservice) cat {root}/thermal.txt;; *) cat {root}/battery.txt;; esac'
        )
        dumpsys.chmod(0o755)
        (root / "phone.json").write_text(json.dumps({"model": "Stand_in", **phone}))
        (root / "tool.json").write_text(json.dumps({"mean_us": MEANS, **(tool or {})}))
        return root

    def _write(self, root: Path, name: str, text: str) -> None:
        (root / f"{name}.txt").write_text(text + "\n")
        program = root / "bin" / name
        program.write_text(f"#!/bin/sh\ncat {root}/{name}.txt\n")
        program.chmod(0o755)

    def left_behind(self) -> list[Path]:
        """What lies in the phones' folders for temporary files."""
        return sorted(self.folder.glob("*/data/local/tmp/*"))

    def processes(self) -> list[str]:
        """Command lines of processes that work on the phones."""
        lines = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.folder) in line or str(self.folder.parent / "programs") in line:
                lines.append(line)
        return lines


MEANS = {"model_0.tflite": 2000.0, "model_1.tflite": 1000.0}


@pytest.fixture
def phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedPhones:
    """No phone yet, and the scripted adb first on the PATH."""
    folder, programs = tmp_path / "phones", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    adb = programs / "adb"
    script = Path(__file__).resolve().parents[1] / "stand_ins" / "scripted_adb.py"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} -S {script} "$@"\n')
    adb.chmod(0o755)
    monkeypatch.setenv("SCRIPTED_PHONES", str(folder))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return ScriptedPhones(folder)
