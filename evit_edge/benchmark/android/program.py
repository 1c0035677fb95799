"""TFLite's official ``benchmark_model`` for Android: where it is, whether it fits a phone, how it is called."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from evit_edge.benchmark.report import Accelerator
from evit_edge.errors import DeviceError, require
from evit_edge.files import sha256_of

SOURCES = {
    "arm64-v8a": (
        "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
        "android_aarch64_benchmark_model"
    ),
    "armeabi-v7a": (
        "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
        "android_arm_benchmark_model"
    ),
}
"""Where the TensorFlow team publishes it, by instruction set.
Source: https://ai.google.dev/edge/litert/models/measurement, "Native benchmark binary"."""

LITERT_SOURCE = "https://storage.googleapis.com/litert/binaries/latest/android_arm64/benchmark_model"
"""LiteRT's own. Source: https://ai.google.dev/edge/litert/next/benchmark."""

_MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}  # e_machine of ELF
_HEAD = 65536
MOST_S = 600.0
"""The tool ends its runs then, whatever was asked for."""


class Dialect(StrEnum):
    """Whose options a program takes."""

    TFLITE = "TFLite"
    LITERT = "LiteRT"


@dataclass(frozen=True)
class Program:
    """A ``benchmark_model``.

    Attributes:
        path: On this machine.
        abi: Instruction set that it is for.
        dialect: Whose options it takes.
        sha256: Of the file; it tells no version of itself.
    """

    path: Path
    abi: str
    dialect: Dialect
    sha256: str


@dataclass(frozen=True)
class Way:
    """How a model is run.

    Attributes:
        accelerator: On what.
        threads: With how many.
    """

    accelerator: Accelerator
    threads: int


@dataclass(frozen=True)
class Amount:
    """How long one call measures, and what beside.

    Attributes:
        runs: Timed runs at least.
        seconds: Timed seconds at least.
        warmup_s: Seconds of warm-up at least.
        profile: Whether to time operators.
        peak_memory: Whether to watch memory, which disturbs times.
    """

    runs: int
    seconds: float
    warmup_s: float
    profile: bool = False
    peak_memory: bool = False


def cache_folder() -> Path:
    """Where programs are looked for: ``benchmark_model`` in this user's cache folder.

    Raises:
        MissingExtraError: platformdirs is not installed.
    """
    folder: str = require("platformdirs", extra="phones").user_cache_dir("evit-edge", appauthor=False)
    return Path(folder) / "benchmark_model"


def find_program(given: Path | None, abis: tuple[str, ...]) -> Program:
    """The program for a phone.

    Args:
        given: As the user named it; None to look in the cache folder.
        abis: What the phone runs, the preferred one first.

    Raises:
        DeviceError: There is none, or it is for another kind of device.
        MissingExtraError: platformdirs is not installed.
    """
    if given is not None:
        program = read_program(given)
        if program.abi not in abis:
            raise DeviceError(
                f"{given} is for {program.abi} and the phone runs {', '.join(abis)}; {_where(abis, None)}"
            )
        return program
    folder = cache_folder()
    found = [_readable(path) for path in sorted(folder.glob("*"))] if folder.is_dir() else []
    for abi in abis:
        for program in filter(None, found):
            if program.abi == abi:
                return program
    raise DeviceError(f"no benchmark_model for {', '.join(abis)} is in {folder}; {_where(abis, folder)}")


def read_program(path: Path) -> Program:
    """Look at a program.

    Raises:
        DeviceError: It is no program for Android.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise DeviceError(
            f"benchmark_model {path} cannot be read: {exc.strerror or exc}; {_where((), None)}"
        ) from exc
    abi = _abi(content)
    if abi is None:
        raise DeviceError(f"{path} is no program for Android; {_where((), None)}")
    litert = b"use_profiler" in content and b"enable_op_profiling" not in content
    return Program(path, abi, Dialect.LITERT if litert else Dialect.TFLITE, sha256_of(path))


def options(program: Program, graph: str, way: Way, amount: Amount) -> list[str]:
    """Arguments of one call.

    Args:
        program: Whose dialect to speak.
        graph: The model, on the phone.
        way: How to run it.
        amount: How long, and what beside.

    Raises:
        DeviceError: The program has no such accelerator.
    """
    given = [f"--graph={graph}", f"--num_threads={way.threads}"]
    given += [f"--num_runs={amount.runs}", f"--min_secs={amount.seconds:g}", f"--max_secs={MOST_S:g}"]
    given += ["--warmup_runs=1", f"--warmup_min_secs={amount.warmup_s:g}"]
    given += _accelerated(program.dialect, way.accelerator)
    if amount.profile:
        given.append("--use_profiler=true" if program.dialect is Dialect.LITERT else "--enable_op_profiling=true")
    if amount.peak_memory:
        given.append("--report_peak_memory_footprint=true")
    return given


def _accelerated(dialect: Dialect, accelerator: Accelerator) -> list[str]:
    accepted = {Accelerator.CPU: "", Accelerator.GPU: "--use_gpu=true"}
    if dialect is Dialect.TFLITE:
        accepted = {Accelerator.CPU: "--use_xnnpack=true", Accelerator.GPU: "--use_gpu=true"}
        accepted[Accelerator.NNAPI] = "--use_nnapi=true"
    if accelerator not in accepted:
        names = ", ".join(accepted)
        raise DeviceError(f"{accelerator} asked for; {dialect}'s benchmark_model on Android takes {names}")
    return [accepted[accelerator]] if accepted[accelerator] else []


def _readable(path: Path) -> Program | None:
    try:
        return read_program(path)
    except DeviceError:
        return None


def _abi(content: bytes) -> str | None:
    """By the ELF header; None for what is no ELF program, or one for another system than Android."""
    if content[:4] != b"\x7fELF" or len(content) < 20:
        return None
    (machine,) = struct.unpack_from("<H" if content[5] == 1 else ">H", content, 18)
    foreign = b"/ld-linux" in content[:_HEAD] or b"/ld-musl" in content[:_HEAD]
    return None if foreign else _MACHINES.get(machine)


def _where(abis: tuple[str, ...], folder: Path | None) -> str:
    url = next((SOURCES[abi] for abi in abis if abi in SOURCES), SOURCES["arm64-v8a"])
    place = f"put it into {folder}" if folder is not None else "give it with --benchmark-model"
    return f"download {url} and {place}"
