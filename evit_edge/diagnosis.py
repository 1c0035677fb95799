"""What this machine has, and what of evit-edge works on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass

from evit_edge import __version__
from evit_edge.runtime.engines import installed_engines

EXTRAS: dict[str, tuple[str, ...]] = {
    "convert": (
        "torch",
        "litert-torch",
        "ai-edge-quantizer",
        "coremltools",
        "flatbuffers",
        "networkx",
        "safetensors",
        "huggingface_hub",
        "platformdirs",
    ),
    "train": ("torch", "kornia", "opencv-python-headless", "safetensors", "huggingface_hub", "matplotlib"),
    "plot": ("matplotlib",),
    "onnx": ("onnxruntime", "onnx", "onnxscript"),
    "phones": ("platformdirs",),
    "app": ("flet", "flet-web", "flet-camera", "opencv-python-headless"),
}
_LINUX_ONLY = {"litert-torch", "ai-edge-quantizer"}


@dataclass(frozen=True)
class ExtraReport:
    """One optional part.

    Attributes:
        name: As pip takes it.
        versions: Distribution to version; None where it is missing.
        install: The command that installs the part.
    """

    name: str
    versions: dict[str, str | None]
    install: str

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return all(version is not None for version in self.versions.values())


@dataclass(frozen=True)
class Capability:
    """Something that evit-edge does.

    Attributes:
        name: What.
        works: Whether it does here.
        detail: With what, or what is missing and how to mend it.
    """

    name: str
    works: bool
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """Everything found.

    Attributes:
        version: Of evit-edge.
        python: Version of Python.
        platform: System, release and machine.
        cpus: Logical processors.
        extras: Optional parts.
        runtimes: Engines that import, the preferred one first, with versions.
        accelerators: Devices that torch sees besides the CPU.
        adb: Version of adb; None where there is none.
        capabilities: What works here.
    """

    version: str
    python: str
    platform: str
    cpus: int
    extras: tuple[ExtraReport, ...]
    runtimes: dict[str, str]
    accelerators: tuple[str, ...]
    adb: str | None
    capabilities: tuple[Capability, ...]


def diagnose() -> Diagnosis:
    """Look around; imports torch where it is installed."""
    extras = tuple(_extra(name) for name in EXTRAS)
    runtimes = {engine.name: engine.version for engine in installed_engines()}
    if _version("torch") is not None:
        runtimes["torch"] = str(_version("torch"))
    adb = _adb_version()
    return Diagnosis(
        version=__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpus=os.cpu_count() or 1,
        extras=extras,
        runtimes=runtimes,
        accelerators=_accelerators() if "torch" in runtimes else (),
        adb=adb,
        capabilities=_capabilities({extra.name: extra for extra in extras}, runtimes, adb),
    )


def _extra(name: str) -> ExtraReport:
    wanted = [d for d in EXTRAS[name] if d not in _LINUX_ONLY or sys.platform == "linux"]
    return ExtraReport(name, {d: _version(d) for d in wanted}, f"pip install 'evit-edge[{name}]'")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _accelerators() -> tuple[str, ...]:
    import torch

    cuda = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return (*cuda, "mps") if torch.backends.mps.is_available() else tuple(cuda)


def _adb_version() -> str | None:
    path = shutil.which("adb")
    if path is None:
        return None
    try:
        answer = subprocess.run([path, "version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.splitlines()[0] if answer.stdout else None


def _capabilities(
    extras: dict[str, ExtraReport], runtimes: dict[str, str], adb: str | None
) -> tuple[Capability, ...]:
    engines = [f"{name} {version}" for name, version in runtimes.items() if name != "torch"]
    running = Capability("run .tflite files", bool(engines), ", ".join(engines) or "pip install ai-edge-litert")
    parts = (
        ("run checkpoints", "convert", ("torch", "safetensors")),
        ("run .onnx files", "onnx", EXTRAS["onnx"]),
        ("train", "train", EXTRAS["train"]),
        ("plots", "plot", EXTRAS["plot"]),
        ("desktop and web app", "app", EXTRAS["app"]),
    )
    phones = Capability("phones over USB", adb is not None, adb or "install Android's platform-tools (adb)")
    return (running, _conversion(extras["convert"]), *(_part(extras[e], name, d) for name, e, d in parts), phones)


def _conversion(extra: ExtraReport) -> Capability:
    if sys.platform != "linux":
        return Capability(
            "convert to TFLite", False, "litert-torch exists for Linux only; copy the artefact from there"
        )
    return _part(extra, "convert to TFLite", EXTRAS["convert"])


def _part(extra: ExtraReport, name: str, needed: tuple[str, ...]) -> Capability:
    missing = [d for d in needed if d in extra.versions and extra.versions[d] is None]
    return Capability(name, not missing, f"{', '.join(missing)} missing: {extra.install}" if missing else "ready")
