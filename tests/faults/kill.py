"""Kill a command at random moments, and look at what it leaves: the old output or the new one, complete.

    python tests/faults/kill.py convert --kills 100     # about ten minutes on one core
    python tests/faults/kill.py train --kills 100
    python tests/faults/kill.py benchmark --kills 100

* convert: another model, with --overwrite, over an output that is there. Afterwards all files are of one of the
  two, and ``verify`` passes.
* train: the same run started again and again until it ends; its weights are then those of an undisturbed run.
* benchmark: a report over a report. Afterwards it is the old one or a new one, and can be read.

No hidden file of a killed program may be left once the command has gone through. The exit code is 1 if something
was not as it should be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("", "converters", "calibration", "app", "tests/support")
PATHS = os.pathsep.join(str(ROOT / part) for part in PARTS)
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}


class WrongError(Exception):
    """What was found is neither the old nor the new output."""


def run(*arguments: object) -> float:
    """Run a command to its end; the seconds that it took."""
    started = time.perf_counter()
    done = subprocess.run(command(arguments), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WrongError(f"{arguments[0]} failed: {done.stderr[-500:]}")
    return time.perf_counter() - started


def command(arguments: Sequence[object]) -> list[str]:
    """The program's command line."""
    return [sys.executable, "-m", "evit_edge.cli.main", *map(str, arguments)]


def killed(after_s: float, *arguments: object) -> bool:
    """Start a command and kill it after so many seconds; whether it had ended before."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command(arguments), env=ENVIRONMENT, stdout=quiet, stderr=quiet, start_new_session=True
    ) as process:
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False
        return True


def hidden(folder: Path) -> list[str]:
    """Names that a program has made for itself."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that users see, but for the time in manifests."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith("."):
            continue
        content = path.read_bytes()
        if name.endswith(".json"):  # the manifest
            fields = json.loads(content)
            del fields["created"], fields["command"]
            content = json.dumps(fields).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def checkpoint(path: Path) -> Path:
    """The shipped model, with other biases of its classifier."""
    from evit_edge.models.checkpoints import load_checkpoint, save_checkpoint

    shipped = load_checkpoint("everyday")
    shipped.model.head.linear.bias.data.add_(0.1)
    save_checkpoint(
        path, shipped.model, name="everyday", labels=shipped.labels, preprocessing=shipped.preprocessing
    )
    return path


def convert(folder: Path, kills: int, draw: random.Random) -> str:
    """Overwrite an artefact with another one's."""
    from evit_edge.publishing import finish

    weights: list[str | Path] = ["everyday", checkpoint(folder / "other.safetensors")]
    places, seconds = [folder / name for name in ("old", "new", "out")], 0.0
    for path, place in zip(weights, places, strict=False):
        seconds = run("convert", "--weights", path, "--output", place)
    old, new = (contents(place) for place in places[:2])
    shutil.copytree(places[0], places[2])
    outcomes = {"old": 0, "new": 0}
    for number in range(kills):
        now = contents(places[2])
        path = weights[0] if now == new else weights[1]
        killed(draw.uniform(0, 1.1 * seconds), "convert", "--weights", path, "--output", places[2], "--overwrite")
        finish(places[2])
        found = contents(places[2])
        if found not in (old, new):
            raise WrongError(f"kill {number}: {found}, neither {old} nor {new}")
        outcomes["old" if found == now else "new"] += 1
    run("verify", next(places[2].glob("*.tflite")))
    run("convert", "--weights", weights[0], "--output", places[2], "--overwrite")
    if hidden(places[2]):
        raise WrongError(f"{hidden(places[2])} left")
    return f"{outcomes['old']} times the old output, {outcomes['new']} times the new one"


def train(folder: Path, kills: int, draw: random.Random) -> str:
    """Start a run until it ends, again and again; compare its weights with an undisturbed run's."""
    data = photos(folder / "data")
    options = ("--epochs", 4, "--batch-size", 4, "--image-size", 128, "--workers", 0, "--name", "m")
    seconds = run("train", data, "--output", folder / "whole", *options)
    whole = weights_of(folder / "whole")
    runs = done = 0
    while done < kills:
        output = folder / f"run{runs}"
        runs += 1
        while done < kills and not killed(draw.uniform(0.5, seconds), "train", data, "--output", output, *options):
            done += 1
            for path in output.glob("[!.]*.safetensors"):
                weights_of(output, path.name)  # whole, or an exception; what is hidden may be half
        run("train", data, "--output", output, *options)
        if weights_of(output) != whole or weights_of(output, "best.safetensors") != weights_of(
            folder / "whole", "best.safetensors"
        ):
            raise WrongError(f"run {runs} ended with other weights")
        if hidden(output):
            raise WrongError(f"{hidden(output)} left")
        shutil.rmtree(output)
    return f"{runs} runs ended with the weights of the undisturbed one"


def photos(folder: Path) -> Path:
    """Two classes of noise."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0)
    for channel, name in enumerate(("a", "b")):
        (folder / name).mkdir(parents=True)
        for i in range(8):
            image = noise.integers(0, 60, (130, 140, 3), dtype=np.uint8)
            image[..., channel] += 180
            Image.fromarray(image).save(folder / name / f"{i}.png")
    return folder


def weights_of(folder: Path, name: str = "last.safetensors") -> dict[str, str]:
    """SHA-256 of each tensor."""
    from safetensors.numpy import load_file

    return {key: hashlib.sha256(value.tobytes()).hexdigest() for key, value in load_file(folder / name).items()}


def benchmark(folder: Path, kills: int, draw: random.Random) -> str:
    """Write a report over a report."""
    import tiny_models as tiny

    from evit_edge.benchmark import read_report

    model = tiny.write_tflite(folder / "m.tflite")
    (folder / "out").mkdir()
    report = folder / "out" / "report.json"
    arguments = ("benchmark", model, "--runs", 8, "--only-inference", "--json", report)
    seconds = run(*arguments)
    outcomes = {"old": 0, "new": 0}
    for _ in range(kills):
        before = report.read_bytes()
        killed(draw.uniform(0, 1.1 * seconds), *arguments)
        read_report(report)
        outcomes["old" if report.read_bytes() == before else "new"] += 1
    run(*arguments)
    if hidden(folder / "out"):
        raise WrongError(f"{hidden(folder / 'out')} left")
    return f"{outcomes['old']} times the old report, {outcomes['new']} times a new one"


COMMANDS: dict[str, Callable[[Path, int, random.Random], str]] = {
    "convert": convert,
    "train": train,
    "benchmark": benchmark,
}


def main() -> None:
    """Kill, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS, nargs="+")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.command:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = COMMANDS[name](Path(folder), arguments.kills, random.Random(arguments.seed))
            except WrongError as exc:
                raise SystemExit(f"{name}: {exc}") from exc
        print(f"{name}: {arguments.kills} kills in {time.perf_counter() - started:.0f} s: {found}", flush=True)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / part) for part in PARTS]
    main()
