"""The ``adb`` program: commands that end, also where a phone does not answer, with errors that say what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from evit_edge.errors import DeviceError

QUESTION_S, COPY_S = 20.0, 300.0
_POLL_S = 0.1
_STATUS = "evit-edge-status:"


class StoppedError(Exception):
    """The measuring was asked to end; caught inside this package."""


@dataclass(frozen=True)
class Answer:
    """What a command on the phone gave.

    Attributes:
        text: Its output, both streams, without carriage returns.
        status: Its exit status.
    """

    text: str
    status: int


def find_adb() -> Path:
    """The program on the search path.

    Raises:
        DeviceError: There is none.
    """
    found = shutil.which("adb")
    if found is None:
        raise DeviceError(
            "adb is needed to reach a phone and was not found; install Android's platform-tools "
            "(Debian: apt-get install adb; macOS: brew install android-platform-tools) and put adb on the PATH"
        )
    return Path(found)


@dataclass(frozen=True)
class Adb:
    """``adb``, on one phone or on none.

    Attributes:
        program: Where it is.
        serial: The phone that commands go to; None for commands about adb itself.
        stop: Set it to end a waiting command early.
        patience_s: How long a command without a limit of its own may take.
    """

    program: Path
    serial: str | None = None
    stop: threading.Event | None = None
    patience_s: float = QUESTION_S

    def on(self, serial: str, stop: threading.Event | None = None) -> Adb:
        """The same program on one phone."""
        return Adb(self.program, serial, stop, self.patience_s)

    @property
    def command(self) -> list[str]:
        """Beginning of a command line."""
        return [str(self.program), *([] if self.serial is None else ["-s", self.serial])]

    def version(self) -> str:
        """Such as ``1.0.41 (29.0.6-debian)``."""
        text = self.run(("version",)).text
        found = re.search(r"version (\S+)(?:\s+Version (\S+))?", text)
        return " ".join(filter(None, found.groups())) if found else "unknown"

    def run(self, arguments: Sequence[str], timeout_s: float | None = None) -> Answer:
        """Run a command of adb's own, such as ``devices``.

        Raises:
            DeviceError: adb cannot be started or does not answer.
            StoppedError: ``stop`` was set meanwhile.
        """
        process = self.start(arguments)
        if process.stdin is not None:
            process.stdin.close()
        output: list[str] = []
        reader = threading.Thread(target=_read, args=(process.stdout, output), daemon=True)
        reader.start()
        limit_s = self.patience_s if timeout_s is None else timeout_s
        end = time.monotonic() + limit_s
        while reader.is_alive():
            reader.join(_POLL_S)
            if self.stop is not None and self.stop.is_set():
                end_process(process)
                raise StoppedError
            if time.monotonic() > end:
                end_process(process)
                raise DeviceError(
                    f"adb {arguments[0]} did not end within {limit_s:g} s{self._where()}; check the cable, "
                    "or run: adb kill-server"
                )
        status = process.wait()
        end_process(process)
        return Answer("".join(output).replace("\r", ""), status)

    def start(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command with pipes; in a session of its own, so that Ctrl-C in a terminal does not reach it.

        Raises:
            DeviceError: adb cannot be started.
        """
        try:
            return subprocess.Popen(  # noqa: S603
                [*self.command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as exc:
            raise DeviceError(f"{self.program} cannot be started: {exc.strerror or exc}") from exc

    def shell(self, command: str, timeout_s: float | None = None) -> Answer:
        """Run a command line in the phone's shell.

        The status is printed behind the output and read from there: old phones do not hand it on, and an output
        that ends without it was cut off.

        Raises:
            DeviceError: The phone is gone, or does not answer.
            StoppedError: ``stop`` was set meanwhile.
        """
        answer = self.run(("shell", f"{command}\ns=$?; echo; echo {_STATUS}$s"), timeout_s)
        text, mark, status = answer.text.rpartition(f"\n{_STATUS}")
        if not mark or not status.strip().isdecimal():
            raise DeviceError(self._lost(answer.text))
        return Answer(text.removesuffix("\n"), int(status))

    def push(self, local: Path, remote: str) -> None:
        """Copy a file onto the phone.

        Raises:
            DeviceError: It could not be copied.
            StoppedError: ``stop`` was set meanwhile.
        """
        answer = self.run(("push", str(local), remote), COPY_S)
        if answer.status == 0:
            return
        reason = _last_line(answer.text)
        if "No space left" in answer.text:
            raise DeviceError(f"{local.name} does not fit on phone {self.serial}: {reason}; make room on it")
        if "ermission denied" in answer.text:
            raise DeviceError(f"phone {self.serial} does not let {local.name} be copied to {remote}: {reason}")
        raise DeviceError(self._lost(answer.text) if self.gone() else f"push to {self.serial} failed: {reason}")

    def gone(self) -> bool:
        """Whether the phone cannot be reached any more."""
        try:
            return self.run(("get-state",)).text.strip() != "device"
        except DeviceError:
            return True

    def _lost(self, text: str) -> str:
        reason = _last_line(text) or "no answer"
        return (
            f"phone {self.serial} was lost ({reason}); check the cable and that the phone is on, then run again: "
            "what was copied onto it removes itself"
        )

    def _where(self) -> str:
        return "" if self.serial is None else f" on phone {self.serial}"


def end_process(process: subprocess.Popen[str]) -> None:
    """Terminate a process and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _read(stream: IO[str] | None, output: list[str]) -> None:
    if stream is not None:
        output.append(stream.read())


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("adb: ").removeprefix("error: ") if lines else ""
