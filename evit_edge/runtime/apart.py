"""A child process with limits that answers messages, and what is said when it dies of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evit_edge import errors
from evit_edge.errors import ArtefactError, EvitEdgeError
from evit_edge.runtime.checks.limits import Limits, shown
from evit_edge.runtime.wire import BrokenMessageError, Message, receive, send

_LOOK_S = 0.2
_KEPT_LINES = 20
_PIPE_BYTES = 2**20
_END_S = 2.0
_OUT_OF_MEMORY = ("bad_alloc", "MemoryError", "allocate memory", "out of memory", "Cannot allocate")
"""What C++, Python, PyTorch, ONNX Runtime and the system say."""


def can_run_apart() -> bool:
    """Whether this system starts Python processes: phones do not."""
    return sys.platform in ("linux", "darwin", "win32") and not hasattr(sys, "getandroidapilevel")


class Apart:
    """A child process; ended with this object at the latest.

    It gets a session of its own, so that Ctrl-C in a terminal reaches this process alone, and so that whatever it
    starts can be ended with it.

    Args:
        module: What to run; gets the memory limit as its argument, and messages on its standard input.
        limits: Its memory; the time of each answer.
        subject: The model's name, for messages.
    """

    def __init__(self, module: str, limits: Limits, subject: str) -> None:
        self._limits, self._subject = limits, subject
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-m", module, str(limits.memory_bytes)],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._watch = _Watch(self._process, limits.memory_bytes)
        threading.Thread(target=_drain, args=(self._process, self._lines), daemon=True).start()
        self._finalizer = weakref.finalize(self, _end, self._process, self._watch)
        self._input, self._output = _numbers(self._process)

    @property
    def process_id(self) -> int:
        """The system's number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ask(
        self, message: Message, body: bytes | memoryview = b"", *, doing: str, time_s: float, most_bytes: int = 0
    ) -> tuple[Message, bytearray]:
        """Send a message and wait for the answer; see :meth:`hear`."""
        self._watch.deadline_s = time.monotonic() + time_s  # a process that does not read would block the sending
        self.tell(message, body)
        return self.hear(doing, time_s=time_s, most_bytes=most_bytes)

    def tell(self, message: Message, body: bytes | memoryview = b"") -> None:
        """Send a message.

        Raises:
            ArtefactError: The process has died.
        """
        try:
            send(self._input, message, body)
        except OSError as exc:
            raise self._dead("asking it") from exc

    def hear(self, doing: str, *, time_s: float | None, most_bytes: int = 2**30) -> tuple[Message, bytearray]:
        """Wait for a message.

        Args:
            doing: What is waited for, such as ``opening it``.
            time_s: How long; without end where None.
            most_bytes: The longest body that is accepted.

        Raises:
            EvitEdgeError: The error that the process tells of.
            ArtefactError: It died, took too long or too much, or talks nonsense.
        """
        self._watch.deadline_s = None if time_s is None else time.monotonic() + time_s
        try:
            message, body = receive(self._output, most_bytes)
        except EOFError as exc:
            raise self._dead(doing) from exc
        except (BrokenMessageError, OSError) as exc:
            self.close()
            raise ArtefactError(f"{self._subject}: the process that ran it answered nonsense: {exc}") from exc
        finally:
            self._watch.deadline_s = None
        if "error" in message:
            raise self._told(message, doing)
        return message, body

    def close(self) -> None:
        """End the process and all that it has started. Any number of times."""
        self._finalizer()

    def _told(self, message: Message, doing: str) -> EvitEdgeError:
        """The error that the child had."""
        name, text = str(message["error"]), " ".join(str(message.get("text", "")).split())
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, EvitEdgeError):
            return kind(text)
        if name == "MemoryError" or any(words in text for words in _OUT_OF_MEMORY):
            return self._needs_more(doing)
        return ArtefactError(f"{self._subject}: {doing} failed: {name}: {text}")

    def _needs_more(self, doing: str) -> ArtefactError:
        limit = shown(self._limits.memory_bytes)
        return ArtefactError(
            f"{self._subject}: {doing} needs more than {limit} of memory; --memory-limit allows more"
        )

    def _dead(self, doing: str) -> EvitEdgeError:
        """Why the process is no more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        reason, code = self._watch.reason, self._process.poll()
        self.close()
        lines = list(self._lines)
        if reason == "time":
            limit = f"{self._limits.time_s:g} s"
            return ArtefactError(f"{self._subject}: {doing} took more than {limit}; --time-limit allows more")
        if reason == "memory" or any(words in line for line in lines for words in _OUT_OF_MEMORY):
            return self._needs_more(doing)
        if code is not None and code < 0:
            return ArtefactError(
                f"{self._subject}: {doing} killed the process that ran it ({_signal_name(-code)}): "
                "the file is damaged or malicious, or its engine has a defect"
            )
        last = lines[-1] if lines else "nothing"
        return ArtefactError(f"{self._subject}: {doing} ended the process that ran it (code {code}): {last}")


class _Watch:
    """Kills a process that misses a deadline or grows too large.

    Attributes:
        deadline_s: ``time.monotonic`` at which to kill; None for never.
        reason: ``time`` or ``memory`` once it has killed.
    """

    def __init__(self, process: subprocess.Popen[bytes], memory_bytes: int) -> None:
        self.deadline_s: float | None = None
        self.reason: str | None = None
        self.ended = threading.Event()
        self._process, self._memory_bytes = process, memory_bytes
        threading.Thread(target=self._look, name="model-watch", daemon=True).start()

    def _look(self) -> None:
        while not self.ended.wait(_LOOK_S) and self._process.poll() is None:
            deadline = self.deadline_s
            if deadline is not None and time.monotonic() > deadline:
                self.reason = "time"
            elif resident_bytes(self._process.pid) > self._memory_bytes:
                self.reason = "memory"
            if self.reason is not None:
                kill_all(self._process)
                return


def resident_bytes(process_id: int) -> int:
    """Memory that a process holds now; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session, and what it has started."""
    if process.poll() is None and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()


def _end(process: subprocess.Popen[bytes], watch: _Watch) -> None:
    watch.ended.set()
    kill_all(process)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _drain(process: subprocess.Popen[bytes], lines: deque[str]) -> None:
    """Keep the last lines of what the process writes to stderr, and let it write as much as it likes."""
    stream = process.stderr
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError), stream:
        while part := stream.read(2**14):
            lines.extend(line[:200] for line in part.decode("utf-8", "replace").splitlines() if line.strip())


def _numbers(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Descriptors of the process's input and output, with room for several pictures where the system allows it."""
    if process.stdin is None or process.stdout is None:
        raise OSError("no pipes")
    pair = process.stdin.fileno(), process.stdout.fileno()
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pair[0], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return pair


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# The child's side.


def enter() -> int:
    """Take the limits on; give the descriptor for answers.

    What native code prints to standard output goes to standard error from now on: it would garble the answers.
    """
    own = os.dup(1)
    os.dup2(2, 1)
    limit_memory(int(sys.argv[1]))
    return own


def limit_memory(size_bytes: int) -> None:
    """Let the system refuse more memory than that to this process, and dump no core. Does nothing on Windows."""
    try:
        import resource
    except ImportError:
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Private writable memory. RLIMIT_AS would count what libraries reserve and never touch.
        resource.setrlimit(resource.RLIMIT_DATA, (size_bytes, size_bytes))


@contextmanager
def at_most(time_s: float) -> Iterator[None]:
    """Let the system end this process if the block takes longer, even where nobody watches any more."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, time_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
