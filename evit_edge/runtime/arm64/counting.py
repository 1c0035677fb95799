"""Executed instructions of an inference, counted by a plugin of ours in the emulator."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evit_edge.errors import ArtefactError, DeviceError
from evit_edge.runtime.arm64.interpreter import EmulatedInterpreter
from evit_edge.runtime.arm64.root import Arm64Root
from evit_edge.runtime.engines import Engine, noise

if TYPE_CHECKING:
    from evit_converters.tflite import PartitionReport

RUNS = 2
"""Inferences that are counted, after one that is not: it prepares what the later ones find ready."""

MARKS = (100_000, 100_001)
"""Numbers that no system call has: the guest's, to start and stop counting."""

_PLUGIN = Path(__file__).with_name("counter.c")
_QEMU = "qemu-aarch64"  # the package's qemu-aarch64-static is built without plugins
_LIMIT_S = 3600.0  # floats are emulated bit by bit: 0.1 s for a million instructions
_PROBE_LIMIT_S = 60.0


@dataclass(frozen=True)
class Counted:
    """What inferences of one model cost.

    Attributes:
        counts: Executed instructions of each.
        division: How XNNPACK divided the model there.
    """

    counts: tuple[int, ...]
    division: PartitionReport


@dataclass(frozen=True)
class Counter:
    """An emulator that counts.

    Attributes:
        root: The root with that emulator.
        log: File that gets a line for each count.
        version: Of the emulator, such as ``7.2.22``.
    """

    root: Arm64Root
    log: Path
    version: str

    def count(self, engine: Engine, path: Path, *, runs: int = RUNS, seed: int = 0) -> Counted:
        """Count the instructions of inferences, one thread; without loading, setting and reading tensors.

        Args:
            engine: One of the root's.
            path: The model, with one input.
            runs: Inferences to count.
            seed: Of the noise that is the input.

        Raises:
            ArtefactError: It has several inputs, the runtime refuses the file, or the process ends or gives no
                answer in time.
        """
        self.log.write_bytes(b"")
        interpreter = EmulatedInterpreter(self.root, engine, path, limit_s=_LIMIT_S, marks=MARKS)
        try:
            details = interpreter.get_input_details()
            if len(details) != 1:
                raise ArtefactError(f"{path} has {len(details)} inputs; a model with one is accepted")
            interpreter.set_tensor(details[0]["index"], noise(details[0], np.random.default_rng(seed)))
            for _ in range(1 + runs):
                interpreter.invoke()
            division = interpreter.partitions()
        finally:
            interpreter.close()
        counts = tuple(int(line) for line in self.log.read_text(encoding="ascii").split())
        if len(counts) != 1 + runs:
            raise ArtefactError(f"{path} was counted {len(counts)} times in {1 + runs} inferences on arm64")
        return Counted(counts[1:], division)


@contextmanager
def open_counter(root: Arm64Root) -> Iterator[Counter]:
    """Compile the plugin, which takes a tenth of a second, and see the emulator load it.

    Yields:
        The counter; its files are gone after the block.

    Raises:
        DeviceError: Compiler or emulator are missing or refuse the plugin; the message is what mends it.
    """
    qemu, compiler = shutil.which(_QEMU), shutil.which("cc")
    if qemu is None:
        raise DeviceError(f"{_QEMU} is not installed, and counts instructions: sudo apt-get install qemu-user")
    if compiler is None:
        raise DeviceError(
            "cc compiles what counts instructions, and is missing: sudo apt-get install gcc libc6-dev"
        )
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as name:
        plugin, log = Path(name) / "counter.so", Path(name) / "counts"
        defined = [f"-D{key}={number}" for key, number in zip(("START", "STOP"), MARKS, strict=True)]
        _run([compiler, "-O2", "-shared", "-fPIC", *defined, "-o", str(plugin), str(_PLUGIN)])
        options = ("-plugin", str(plugin).replace(",", ",,"), "-d", "plugin", "-D", str(log))
        counting = replace(root, qemu=Path(qemu), options=options)
        _run(counting.command("-S", "-c", "pass"))
        yield Counter(counting, log, _version(qemu))


def _version(qemu: str) -> str:
    words = _run([qemu, "--version"]).split()
    return words[2] if len(words) > 2 else "of unknown version"


def _run(command: list[str]) -> str:
    """What a program prints.

    Raises:
        DeviceError: It failed.
    """
    try:
        done = subprocess.run(  # noqa: S603 - compiler and emulator
            command, check=False, capture_output=True, text=True, errors="replace", timeout=_PROBE_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise DeviceError(f"instructions cannot be counted: {exc}") from exc
    if done.returncode:
        told = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise DeviceError(
            f"instructions cannot be counted: {Path(command[0]).name} says {told!r}; a C compiler and "
            "QEMU 4.2 to 8.2 with plugins are needed (Debian 12: sudo apt-get install qemu-user gcc libc6-dev)"
        )
    return done.stdout
