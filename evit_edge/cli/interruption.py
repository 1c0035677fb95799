"""Ctrl-C, remembered: libraries turn the KeyboardInterrupt that it raises into errors of their own."""

from __future__ import annotations

import signal
import threading
from typing import Any

INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended

_pressed = threading.Event()


def remember() -> None:
    """From now on, let Ctrl-C be remembered as well as raised. Only the main thread can do this."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as nohup does
        signal.signal(signal.SIGINT, _interrupt)


def was_interrupted() -> bool:
    """Whether Ctrl-C was pressed; an error that comes after it is a consequence."""
    return _pressed.is_set()


def stop_if_interrupted() -> None:
    """Raise what a library has swallowed: an interruption that came in a callback of native code leads nowhere.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if was_interrupted():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: Any) -> None:
    _pressed.set()
    signal.default_int_handler(number, frame)
