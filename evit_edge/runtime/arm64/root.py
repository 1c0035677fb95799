"""Where the emulator and the root are, or the command that brings what is missing."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from evit_edge.errors import DeviceError, require
from evit_edge.runtime.engines import KNOWN, Engine

_HERE = Path(__file__).parent
_BUILDER = _HERE / "build_root.sh"
_PINS = _HERE / "requirements.txt"
_QEMU = "qemu-aarch64-static"
_CPU = "cortex-a76"  # as build_root.sh describes it to the runtimes

CORE = "Cortex-A76"
"""What is emulated, for people: with dot products, without i8mm and SVE."""


@dataclass(frozen=True)
class Arm64Root:
    """An emulator and what it runs.

    Attributes:
        folder: Debian's Python for arm64, and the wheels under ``wheels``.
        qemu: The emulator.
        options: Of the emulator, beyond core and root.
    """

    folder: Path
    qemu: Path
    options: tuple[str, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        """The command that starts Python there, single-threaded maths and no bytecode left behind."""
        settings = (f"PYTHONPATH={self.folder / 'wheels'}", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")
        guest = [part for setting in settings for part in ("-E", setting)]
        python = self.folder / "usr" / "bin" / "python3.11"
        emulator = [str(self.qemu), "-cpu", _CPU, *self.options, "-L", str(self.folder), *guest]
        return [*emulator, str(python), "-B", "-s", *arguments]

    def engines(self) -> tuple[Engine, ...]:
        """The runtimes there, the preferred one first."""
        wheels = self.folder / "wheels"
        found = (
            (name, module, list(wheels.glob(f"{name.replace('-', '_')}-*.dist-info"))) for name, module in KNOWN
        )
        return tuple(
            Engine(name, folders[0].stem.partition("-")[2], module, name == "ai-edge-litert")
            for name, module, folders in found
            if folders
        )


def cache_folder() -> Path:
    """Where the root is looked for: in this user's cache folder.

    Raises:
        MissingExtraError: platformdirs is not installed.
    """
    folder: str = require("platformdirs", extra="phones").user_cache_dir("evit-edge", appauthor=False)
    return Path(folder) / "arm64"


def root_key() -> str:
    """What ``ready`` holds in a root that today's script and pins made: hex SHA-256 of both."""
    return hashlib.sha256(_BUILDER.read_bytes() + _PINS.read_bytes()).hexdigest()


def find_root(given: Path | None = None) -> Arm64Root:
    """The emulator and the root.

    Args:
        given: As the user named it; None for the one in the cache folder.

    Raises:
        DeviceError: One of them is missing or the root is of another release; the message is what mends it.
        MissingExtraError: platformdirs is not installed.
    """
    folder = (cache_folder() if given is None else given).resolve()
    qemu = shutil.which(_QEMU)
    if qemu is None:
        raise DeviceError(f"{_QEMU} is not installed: sudo apt-get install qemu-user-static")
    try:
        key = (folder / "ready").read_text(encoding="utf-8").strip()
    except OSError:
        raise DeviceError(f"no root for arm64 at {folder}; build it: {_build(folder)}") from None
    if key != root_key():
        raise DeviceError(f"the root at {folder} is of another release; build it anew: {_build(folder)}")
    return Arm64Root(folder, Path(qemu))


def _build(folder: Path) -> str:
    words = [f"PYTHON={shlex.quote(sys.executable)}", "sh", shlex.quote(str(_BUILDER)), shlex.quote(str(folder))]
    return " ".join(words)
