"""Mutate small models and give them to the readers: nothing but this project's errors may come out.

    python tests/fuzz/run.py --count 50000              # each of the four readers; minutes to an hour
    python tests/fuzz/run.py --reader onnx --count 500 --seed 7
    python tests/fuzz/run.py --reader onnx --again tests/fuzz/found/onnx-crash-...

Atheris (libFuzzer for Python) mutates the files in tests/fuzz/corpus and keeps what reaches new lines of this
project's code. A reader fails on another exception, after 10 s with one file, or with more than 2 GiB held; the
file is then in tests/fuzz/found. Each reader runs in a process of its own; the exit code is 1 if one has failed.
"""

from __future__ import annotations

import argparse
import importlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PARTS = ("", "converters", "calibration", "app", "tests/fuzz", "tests/support")
TIMEOUT_S, MEMORY_MIB, LONGEST = 10, 2048, 20_000
_CHECKS = {"tflite": ("tflite",), "onnx": ("onnx",), "package": ("package",)}
_EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
READERS = ("tflite", "onnx", "package", "checkpoint")

Read = Callable[[bytes], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a reader.

    Attributes:
        reader: Its name.
        files: Mutated files that it was given.
        seconds: That took.
        sound: Those that were accepted.
        memory_mib: Most memory that was held, the libraries' own included.
        late: Files that took too long once and not again.
        failures: Files that it failed on.
    """

    reader: str
    files: int
    sound: int
    seconds: float
    memory_mib: int
    late: int
    failures: tuple[Path, ...]


def reader(name: str, folder: Path) -> Read:
    """The function under test. Libraries are imported first, so that only new lines of this project count.

    Args:
        name: One of the four.
        folder: To lay files down in.
    """
    import atheris

    if name in ("package", "checkpoint"):
        import safetensors.torch  # noqa: F401
        import torch

        torch.set_num_threads(1)
    if name == "onnx":
        import onnx.onnx_ml_pb2  # noqa: F401
    if name == "package":
        from evit_edge.runtime.coreml.protobuf import message_classes

        message_classes()
    with atheris.instrument_imports(include=["evit_edge", "evit_converters"]):
        for module in _CHECKS.get(name, ()):  # which are imported when they are needed: too late to be watched
            importlib.import_module(f"evit_edge.runtime.checks.{module}")
        return {"tflite": _tflite, "onnx": _onnx, "package": _package, "checkpoint": _checkpoint}[name](folder)


def _tflite(folder: Path) -> Read:
    from evit_edge.runtime.checks import check_model
    from evit_edge.runtime.tflite_file import read_tflite_file

    path = folder / "m.tflite"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        check_model(path)
        read_tflite_file(path)

    return read


def _onnx(folder: Path) -> Read:
    from evit_edge.runtime.checks import check_model

    path = folder / "m.onnx"
    (folder / "weights.bin").write_bytes(bytes(36))

    def read(content: bytes) -> None:
        path.write_bytes(content)
        check_model(path)

    return read


def _package(folder: Path) -> Read:
    from seeds import unpack_package

    from evit_edge.runtime.checks import Limits, check_model
    from evit_edge.runtime.checks.memory import require_fits
    from evit_edge.runtime.checks.package import declared_bytes
    from evit_edge.runtime.coreml.description import read_description
    from evit_edge.runtime.coreml.package import read_package
    from evit_edge.runtime.coreml.weights import decode_constants

    def read(content: bytes) -> None:
        path = unpack_package(content, folder)
        check_model(path)
        package = read_package(path)
        require_fits(declared_bytes(package.function), Limits(memory_bytes=2**28))
        read_description(package)
        decode_constants(package.function)

    return read


def _checkpoint(folder: Path) -> Read:
    from evit_edge.errors import EvitEdgeError
    from evit_edge.models.checkpoints import load_checkpoint, read_weights

    paths = [folder / f"m{suffix}" for suffix in (".pth", ".safetensors")]

    def read(content: bytes) -> None:
        for path in paths:
            path.write_bytes(content)
            with suppress(EvitEdgeError):
                load_checkpoint(path)
        with suppress(EvitEdgeError):
            read_weights(paths[0])
            return
        read_weights(paths[1])

    return read


def mutated(content: bytes, longest: int, seed: int) -> bytes:
    """Change a few places and leave the rest where it is: what shifts all that follows is refused at once.

    One time in five libFuzzer's own ways, which insert, delete and join.
    """
    import atheris

    draw = random.Random(seed)
    if len(content) < 8 or draw.random() < 0.2:
        return bytes(atheris.Mutate(content, longest))
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 3, 5))):
        place, way = draw.randrange(len(changed)), draw.random()
        if way < 0.3:
            changed[place] = draw.randrange(256)
        elif way < 0.5:
            changed[place] ^= 1 << draw.randrange(8)
        elif way < 0.7:  # a small step, as of an offset or a number of a thing
            changed[place] = (changed[place] + draw.choice((-8, -4, -2, -1, 1, 2, 4, 8))) % 256
        elif way < 0.9:
            width = draw.choice((2, 4, 8))
            place -= place % width
            value = draw.choice((*_EXTREMES, len(changed), draw.getrandbits(12)))
            changed[place : place + width] = (value % 256**width).to_bytes(width, "little")[: len(changed) - place]
        else:
            size, source = draw.randrange(1, 17), draw.randrange(len(changed))
            piece = changed[source : source + size]
            changed[place : place + len(piece)] = piece
    return bytes(changed[:longest])


def target(arguments: argparse.Namespace) -> None:
    """Fuzz one reader in this process."""
    import atheris

    from evit_edge.errors import EvitEdgeError

    warnings.simplefilter("ignore")
    name = arguments.target
    read = reader(name, arguments.folder)

    sound = (arguments.folder / "sound").open("ab", buffering=0)  # a byte each; libFuzzer ends without a last word

    def one(content: bytes) -> None:
        with suppress(EvitEdgeError):
            read(content)
            sound.write(b".")

    if arguments.again:
        for path in arguments.again:
            started = time.perf_counter()
            one(path.read_bytes())
            if time.perf_counter() - started > TIMEOUT_S:
                raise SystemExit(f"{path} took more than {TIMEOUT_S} s")
        return
    (HERE / "found").mkdir(exist_ok=True)
    kept = arguments.folder / "kept"
    kept.mkdir()
    options = [
        f"-runs={arguments.count}",
        f"-seed={arguments.seed}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={LONGEST}",
        "-len_control=0",
        "-reduce_inputs=0",  # smaller files reach the same lines and are refused sooner
        "-prefer_small=0",
        "-keep_seed=1",
        "-mutate_depth=1",
        "-cross_over=0",
        f"-artifact_prefix={HERE / 'found'}/{name}-",
        "-print_final_stats=1",
    ]
    arguments_of_libfuzzer = [sys.argv[0], *options, str(kept), str(HERE / "corpus" / name)]
    atheris.Setup(arguments_of_libfuzzer, one, custom_mutator=mutated)
    atheris.Fuzz()


def _memory_folder() -> str | None:
    """Files that live for a millisecond do not have to reach a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def run(name: str, count: int, seed: int) -> Outcome:
    """Fuzz one reader in processes of its own, one after the other until the count is reached or one has failed.

    On a crowded machine a file may take its time for other reasons than its own; what was late is read once more.
    """
    files = sound = memory = late = 0
    failures: tuple[Path, ...] = ()
    started = time.perf_counter()
    while files < count and not failures:
        done, accepted, found = _once(name, count - files, seed)
        sound += accepted
        files += _figure("number_of_executed_units", done)
        memory = max(memory, _figure("peak_rss_mb", done))
        seed += 1
        failures = tuple(path for path in found if "timeout" not in path.name or not _in_time(name, path))
        late += len(found) - len(failures)
        if failures:
            sys.stderr.write(done[-3000:])
    return Outcome(name, files, sound, time.perf_counter() - started, memory, late, failures)


def _once(name: str, count: int, seed: int) -> tuple[str, int, list[Path]]:
    """One process: what it says, how many files it accepted, and what it found."""
    before = set((HERE / "found").glob(f"{name}-*"))
    command = [sys.executable, __file__, "--target", name, "--count", str(count), "--seed", str(seed), "--folder"]
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:  # libFuzzer ends without cleaning up
        done = subprocess.run([*command, folder], capture_output=True, text=True, errors="replace", check=False)
        accepted = (Path(folder) / "sound").stat().st_size
    found = sorted(set((HERE / "found").glob(f"{name}-*")) - before)
    if not found and (done.returncode or not _figure("number_of_executed_units", done.stderr)):
        sys.stderr.write(done.stderr[-4000:])
        raise SystemExit(f"{name}: the fuzzer itself failed with {done.returncode}")
    return done.stderr, accepted, found


def _in_time(name: str, path: Path) -> bool:
    """Whether a file, read alone, takes no more than the limit; it then is no finding."""
    command = [sys.executable, __file__, "--reader", name, "--again", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    path.unlink()
    return True


def _figure(name: str, text: str) -> int:
    found = re.search(rf"stat::{name}:\s+(\d+)", text)
    return int(found[1]) if found else 0


def main() -> None:
    """Fuzz, and print a line a reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", choices=READERS, action="append", help="only this one; repeatable")
    parser.add_argument("--count", type=int, default=2000, help="files for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", type=Path, nargs="+", help="files to read once more, such as what was found")
    parser.add_argument("--target", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.again:
        arguments.target = (arguments.reader or READERS)[0]
        arguments.folder = Path(tempfile.mkdtemp())
    if arguments.target:
        target(arguments)
        return
    failed = False
    for name in arguments.reader or READERS:
        found = run(name, arguments.count, arguments.seed)
        print(
            f"{found.reader}: {found.files} files in {found.seconds:.0f} s, {found.sound} of them accepted, "
            f"{found.memory_mib} MiB at most, "
            f"{found.late} late once, "
            f"{len(found.failures)} failures {' '.join(map(str, found.failures))}".rstrip(),
            flush=True,
        )
        failed |= bool(found.failures)
    if not any((HERE / "found").glob("*")):
        shutil.rmtree(HERE / "found", ignore_errors=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / part) for part in PARTS]
    main()
