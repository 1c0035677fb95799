"""How a process of its own may end, and what is told of it: against small programs that misbehave."""

from __future__ import annotations

import signal
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from evit_edge.errors import ArtefactError, DataError, RequestError
from evit_edge.runtime import apart
from evit_edge.runtime.apart import Apart, at_most, can_run_apart, resident_bytes
from evit_edge.runtime.checks import Limits

pytestmark = pytest.mark.skipif(not can_run_apart(), reason="this system starts no processes")

LIMITS = Limits()


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Function: starts a program that has ``answer``, ``told`` and ``sys``, and is not measured or limited."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    started = []

    def start(code: str, limits: Limits = LIMITS) -> Apart:
        head = (
            "import os, sys, time\nfrom evit_edge.runtime.wire import receive, send\n"
            "def answer(**what):\n    send(1, what)\n"
        )
        (tmp_path / "misbehaving.py").write_text(head + textwrap.dedent(code), encoding="utf-8")
        started.append(Apart("misbehaving", limits, "m.tflite"))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        ("answer(error='DataError', text='no  labels')", DataError, r"^no labels$"),
        (
            "answer(error='ValueError', text='bad shape')",
            ArtefactError,
            r"^m: opening failed: ValueError: bad shape",
        ),
        ("answer(error='Path', text='x')", ArtefactError, r"failed: Path: x$"),
        (
            "answer(error='MemoryError')",
            ArtefactError,
            r"opening needs more than 4\.0 GiB of memory",
        ),
        ("answer(error='RuntimeError', text='std::bad_alloc')", ArtefactError, r"needs more than 4\.0 GiB"),
        ("sys.exit(3)", ArtefactError, r"ended the process that ran it \(code 3\): nothing$"),
        ("sys.stderr.write('one\\n\\nboom\\n'); sys.exit(3)", ArtefactError, r"\(code 3\): boom$"),
        ("sys.stderr.write('bad_alloc\\n'); sys.exit(3)", ArtefactError, r"needs more than 4\.0 GiB"),
        ("os.kill(os.getpid(), 11)", ArtefactError, r"killed the process that ran it \(SIGSEGV\): the file is"),
        ("os.kill(os.getpid(), 40)", ArtefactError, r"killed the process that ran it \(signal 40\)"),
        ("os.write(1, bytes(99))", ArtefactError, r"answered nonsense"),
        ("os.write(1, b'\\xff' * 99)", ArtefactError, r"answered nonsense: a message of"),
        ("send(1, [1])", ArtefactError, r"answered nonsense: a message that is no JSON object"),
    ],
    ids=lambda value: value if isinstance(value, str) and "(" in value and "\\" not in value else "",
)
def test_an_end_is_told_by_its_cause(child, code: str, kind: type[Exception], told: str) -> None:
    process = child(code)
    with pytest.raises(kind, match=told.replace("^m:", r"^m\.tflite:")):
        process.hear("opening", time_s=60)


def test_a_process_that_says_nothing_is_killed_at_its_time(child) -> None:
    process = child("time.sleep(100)", Limits(time_s=0.5))
    with pytest.raises(ArtefactError, match=r"opening took more than 0\.5 s; --time-limit allows more$"):
        process.hear("opening", time_s=0.5)
    assert not process.alive


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process holds")
def test_a_process_that_holds_too_much_is_killed(child) -> None:
    limits = Limits(memory_bytes=2**28)
    process = child("held = b'x' * 2**29\ntime.sleep(100)", limits)
    with pytest.raises(ArtefactError, match=r"opening needs more than 256\.0 MiB of memory"):
        process.hear("opening", time_s=60)


def test_asking_the_dead_is_an_error(child) -> None:
    process = child("sys.exit(0)")
    with pytest.raises(ArtefactError):
        process.hear("opening", time_s=60)
    with pytest.raises(ArtefactError, match="asking it"):
        process.tell({"more": "x" * 10_000})


def test_a_message_and_its_body_come_as_they_were_sent(child) -> None:
    process = child("message, body = receive(0); send(1, {'got': message['a']}, bytes(body)[::-1])")
    answer, body = process.ask({"a": 7}, b"abc", doing="asking", time_s=60, most_bytes=3)
    assert (answer, bytes(body)) == ({"got": 7}, b"cba")


def test_more_than_was_asked_for_is_nonsense(child) -> None:
    process = child("receive(0); send(1, {}, b'1234')")
    with pytest.raises(ArtefactError, match="a message of 2 and 4 bytes"):
        process.ask({}, doing="asking", time_s=60, most_bytes=3)


def test_of_a_process_that_is_not_there_nothing_is_held() -> None:
    assert resident_bytes(2**22 + 1) == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers of that kind")
def test_a_timer_runs_while_the_block_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with at_most(50):
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    monkeypatch.delattr(signal, "setitimer")
    with at_most(50):  # as on Windows
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_without_pipes_there_is_no_process_to_talk_to() -> None:
    class NoPipes:
        stdin = stdout = stderr = None

    with pytest.raises(OSError, match="no pipes"):
        apart._numbers(NoPipes())  # type: ignore[arg-type]
    apart._drain(NoPipes(), [])  # type: ignore[arg-type]
    watch = type("Watch", (), {"ended": threading.Event()})()
    gone = type("Gone", (NoPipes,), {"poll": lambda _: 0, "kill": lambda _: None, "wait": lambda _: 0})()
    apart._end(gone, watch)
    assert watch.ended.is_set()


@pytest.mark.parametrize(
    ("platform", "android", "able"), [("linux", False, True), ("linux", True, False), ("ios", False, False)]
)
def test_phones_start_no_processes(
    platform: str, android: bool, able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    if android:
        monkeypatch.setattr(sys, "getandroidapilevel", lambda: 34, raising=False)
    assert can_run_apart() is able


def test_a_process_of_no_limits_is_refused() -> None:
    with pytest.raises(RequestError):
        Limits(time_s=0)
