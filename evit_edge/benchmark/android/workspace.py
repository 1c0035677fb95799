"""A folder on a phone that removes itself, come what may.

A shell on the phone holds it: it reads from a pipe that this process keeps open. When the pipe ends, because the
measuring is done, or this process was killed, or the cable was pulled, it ends what still runs there and removes
the folder. (adbd sends such a shell SIGHUP when the connection breaks, and closes its input.) A folder that was
left behind even so, by a phone that was switched off, is removed by the next run.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from evit_edge.benchmark.android.adb import QUESTION_S, Adb, Answer, end_process
from evit_edge.errors import DeviceError

PARENT, PREFIX = "/data/local/tmp", "evit-edge-"
_READY = "evit-edge-ready"
_FAREWELL_S = 5.0

_HOLDER = """D={folder}
mkdir $D || exit 1
bye() {{ trap '' HUP INT TERM; k=$(cat $D/pid 2>/dev/null); [ -n "$k" ] && kill $k 2>/dev/null; rm -rf $D; }}
trap bye EXIT
trap 'exit 129' HUP INT TERM
echo $$ > $D/holder
echo {ready}
cat > /dev/null"""

_SWEEP = """for d in {parent}/{prefix}*; do
  [ -d "$d" ] || continue
  h=$(cat "$d/holder" 2>/dev/null)
  if [ -n "$h" ] && grep -q "$d" "/proc/$h/cmdline" 2>/dev/null; then echo "busy $d"; else rm -rf "$d"; fi
done"""


@dataclass(frozen=True)
class Workspace:
    """The folder, while it is there.

    Attributes:
        adb: On the phone.
        folder: Its path there.
    """

    adb: Adb
    folder: str

    def push(self, local: Path, name: str, *, executable: bool = False) -> str:
        """Copy a file into it; the path there.

        Raises:
            DeviceError: It could not be copied or made executable.
        """
        remote = f"{self.folder}/{name}"
        self.adb.push(local, remote)
        if executable:
            answer = self.adb.shell(f"chmod 755 {remote} && {remote} --help > /dev/null 2>&1; [ $? -ne 126 ]")
            if answer.status:
                raise DeviceError(
                    f"phone {self.adb.serial} does not let {name} run from {self.folder} (permission denied); "
                    "work profiles and some makers forbid it: use another phone or its owner's profile"
                )
        return remote

    def run(self, program: str, arguments: list[str], timeout_s: float) -> Answer:
        """Run a program there; its number is kept so that the holder can end it.

        Raises:
            DeviceError: The phone is gone, or does not answer.
        """
        inner = f"echo $$ > {self.folder}/pid; exec {shlex.join([program, *arguments])} 2>&1"
        return self.adb.shell(f"sh -c {shlex.quote(inner)}", timeout_s)


@contextmanager
def workspace(adb: Adb) -> Iterator[Workspace]:
    """Make the folder for the time of the block.

    Raises:
        DeviceError: The phone lets none be made there, or another run is using it.
    """
    _sweep(adb)
    folder = f"{PARENT}/{PREFIX}{uuid.uuid4().hex[:12]}"
    holder = adb.start(("shell", _HOLDER.format(folder=folder, ready=_READY)))
    try:
        _await_ready(adb, holder, folder)
        yield Workspace(adb, folder)
    finally:
        _let_go(holder)


def _sweep(adb: Adb) -> None:
    answer = adb.shell(_SWEEP.format(parent=PARENT, prefix=PREFIX))
    if "busy " in answer.text:
        raise DeviceError(f"phone {adb.serial} is being measured by another run; wait until it has ended")


def _await_ready(adb: Adb, holder: subprocess.Popen[str], folder: str) -> None:
    lines: list[str] = []
    reader = threading.Thread(target=_first_line, args=(holder, lines), daemon=True)
    reader.start()
    reader.join(QUESTION_S)
    if lines and _READY in lines[0]:
        return
    end_process(holder)
    reason = " ".join("".join(lines).split()) or "no answer"
    raise DeviceError(f"phone {adb.serial} lets no folder {folder} be made: {reason}")


def _first_line(holder: subprocess.Popen[str], lines: list[str]) -> None:
    with suppress(OSError, ValueError):  # closed meanwhile
        lines.append(holder.stdout.readline() if holder.stdout else "")


def _let_go(holder: subprocess.Popen[str]) -> None:
    """Close the pipe, and give the phone time to tidy up."""
    if holder.stdin is not None:
        with suppress(OSError):  # the other end is gone already
            holder.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        holder.wait(_FAREWELL_S)
    end_process(holder)
