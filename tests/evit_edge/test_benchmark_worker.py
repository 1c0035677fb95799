"""The process that measures for another, its both ends: what it answers, and that it goes with its parent."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from evit_edge.benchmark import apart, worker
from evit_edge.cli import interruption
from evit_edge.strict_json import MismatchError


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the worker answers; its own side is replaced, and nobody tells it anything."""
    answers: list[object] = []
    monkeypatch.setattr(worker, "enter", lambda: 1)
    monkeypatch.setattr(worker, "_listen", lambda stop: None)
    monkeypatch.setattr(worker, "send", lambda to, message: answers.append((to, message)))
    return answers


@pytest.mark.parametrize("stopped", [True, False])
def test_a_stop_that_came_before_is_heard(stopped: bool, told: list[object], monkeypatch) -> None:
    seen: list[tuple[int, object, bool]] = []
    monkeypatch.setattr(worker, "receive", lambda _: ({"request": {"a": 1}, "stopped": stopped}, b""))
    monkeypatch.setattr(worker, "_measure", lambda to, fields, stop: seen.append((to, fields, stop.is_set())))
    worker.main()
    assert (seen, told) == ([(1, {"a": 1}, stopped)], [])


@pytest.mark.parametrize(
    ("raised", "answers"),
    [
        (ZeroDivisionError("x" * 5000), [(1, {"error": "ZeroDivisionError", "text": "x" * 4000})]),
        (KeyboardInterrupt(), [(1, {"error": "KeyboardInterrupt", "text": ""})]),
        (BrokenPipeError(), []),
    ],
    ids=["error", "interruption", "nobody listens"],
)
def test_what_goes_wrong_is_the_parents_to_tell(raised, answers, told: list[object], monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(worker, "receive", lambda _: ({"request": {}, "stopped": False}, b""))
    monkeypatch.setattr(worker, "_measure", fail)
    worker.main()
    assert told == answers


@pytest.mark.parametrize("groups", [True, False])
def test_it_ends_with_its_parent_and_all_that_was_started(groups: bool, monkeypatch) -> None:
    """After a message that means nothing, one that says stop, and the end of them."""
    messages, done, stop = iter([{}, {"stop": True}]), [], threading.Event()

    def receive(_: int) -> tuple[object, bytes]:
        try:
            return next(messages), b""
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(worker, "receive", receive)
    monkeypatch.setattr(
        worker,
        "os",
        SimpleNamespace(
            _exit=lambda code: done.append(("exit", code)),
            **({"killpg": lambda *given: done.append(given)} if groups else {}),
        ),
    )
    worker._listen(stop)
    assert stop.is_set()
    assert done == [(0, signal.SIGKILL)] * groups + [("exit", 1)]


def test_a_stop_is_passed_on_once_and_not_after_the_end() -> None:
    heard: list[object] = []
    whole = SimpleNamespace(tell=heard.append)
    stop, done = threading.Event(), threading.Event()
    stop.set()
    apart._pass_on(stop, done, whole)  # type: ignore[arg-type]
    assert heard == [{"stop": True}]
    done.set()
    apart._pass_on(stop, done, whole)  # type: ignore[arg-type]
    assert heard == [{"stop": True}]


@pytest.mark.parametrize("message", [{}, {"times": 3}, {"times": {"m": [0]}}, {"times": {}, "progress": 7}])
def test_progress_that_is_none_is_nonsense(message: dict[str, object]) -> None:
    with pytest.raises(MismatchError):
        apart._Told(lambda _: None).tell(message)


def test_ctrl_c_is_remembered_only_where_it_is_heard(monkeypatch) -> None:
    monkeypatch.setattr(interruption, "_pressed", threading.Event())
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interruption.remember()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interruption.remember()
        interruption.stop_if_interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert interruption.was_interrupted()
        with pytest.raises(KeyboardInterrupt):
            interruption.stop_if_interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
