"""Fixtures for all tests: real photos, what lies beside the checkout, and the side environments."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import skimage.data
from hypothesis import settings
from PIL import Image

from evit_edge.errors import DeviceError
from evit_edge.runtime.arm64 import find_root

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

_LIBRARIES: list[Any] = []  # torch forgets a schema together with its Library object

# No deadline: a busy machine is no defect. In CI the same examples every time, so that red means a change.
settings.register_profile("evit", deadline=None, derandomize=IN_CI)
settings.load_profile("evit")


def pytest_configure() -> None:
    """In the background of a shell Ctrl-C is ignored, and programs that tests start inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _missing(what: str) -> None:
    """Skip on somebody's laptop, fail in CI: there a skip would hide that nothing was checked."""
    if IN_CI:
        pytest.fail(f"{what}; in CI it must be there", pytrace=False)
    pytest.skip(what)


def shared_folder() -> Path:
    """The folder with photos and foreign models: ``EVIT_EDGE_SHARED``, by default ``../shared``."""
    return Path(os.environ.get("EVIT_EDGE_SHARED") or ROOT.parent / "shared")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked ``shared`` where the folder is missing."""
    folder = shared_folder()
    if item.get_closest_marker("shared") and not (folder / "data").is_dir():
        _missing(f"{folder}/data is missing (EVIT_EDGE_SHARED names another place)")


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """Function: skip for lack of what is named; in CI, fail."""
    return _missing


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that holds ``data/`` (photos) and ``models/``; for tests marked ``shared``."""
    return shared_folder()


def _side_environment(name: str) -> Path:
    folder = ROOT / ".envs" / name
    if not (folder / "ready").exists():
        _missing(f"the environment .envs/{name} is not there (`make envs` builds it or says why it cannot)")
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def tflite_runtime_python() -> Path:
    """Interpreter with tflite-runtime 2.14, numpy 1 and evit_edge's base dependencies."""
    return _side_environment("tflite-runtime")


@pytest.fixture(scope="session")
def mediapipe_python() -> Path:
    """Interpreter with MediaPipe Tasks; evit_edge is not installed there."""
    return _side_environment("mediapipe")


@pytest.fixture(scope="session")
def arm64_root() -> Path:
    """Root in which qemu-aarch64-static runs TFLite's runtimes; of today's script and pins."""
    folder = ROOT / ".envs" / "arm64"
    try:
        find_root(folder)
    except DeviceError as exc:
        _missing(f"{exc} (`make envs` does that or says why it cannot)")
    return folder


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    """The module timm, an oracle. It imports torchvision, whose compiled part fits no CPU build of torch."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist": declare what it decorates, never call it
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        torch = importlib.import_module("torch")
        _LIBRARIES.append(torch.library.Library("torchvision", "DEF"))
        _LIBRARIES[0].define("nms(Tensor a, Tensor b, float c) -> Tensor")
        _LIBRARIES[0].define("qnms(Tensor a, Tensor b, float c) -> Tensor")
    return importlib.import_module("timm")


@pytest.fixture(scope="session")
def coffee() -> np.ndarray:
    """A cup of coffee, RGB uint8 (400, 600, 3), CC0."""
    return np.ascontiguousarray(skimage.data.coffee())


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Five photos that are inside scikit-image's wheel, RGB uint8 (H, W, 3)."""
    grey = np.repeat(skimage.data.camera()[..., None], 3, axis=2)
    names = ("astronaut", "cat", "coffee", "rocket")
    return {name: np.ascontiguousarray(getattr(skimage.data, name)()) for name in names} | {"camera": grey}


@pytest.fixture(scope="session")
def photo_folder(photos: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the five photos as JPEG; read only."""
    folder = tmp_path_factory.mktemp("photos")
    for name, image in photos.items():
        Image.fromarray(image).save(folder / f"{name}.jpg", quality=95)
    return folder


@pytest.fixture(scope="session")
def coffee_jpg(photo_folder: Path) -> Path:
    """The coffee as JPEG; read only."""
    return photo_folder / "coffee.jpg"


@pytest.fixture(scope="session")
def coffee_png(coffee: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The coffee as PNG; read only."""
    path = tmp_path_factory.mktemp("png") / "coffee.png"
    Image.fromarray(coffee).save(path)
    return path
