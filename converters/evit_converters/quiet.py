"""Silence for converters that narrate: their progress, logs and warnings, never their exceptions."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block nothing reaches stdout, stderr or logging, also not from C++; exceptions pass.

    Works on the process's file descriptors and streams, so other threads are silent meanwhile, too.
    """
    nowhere = io.StringIO()  # for Python's streams, which need not end in the descriptors
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            _redirected(1),
            _redirected(2),
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def _redirected(descriptor: int) -> Iterator[None]:
    """Send a file descriptor to the null device for the time of the block."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        saved = os.dup(descriptor)
    except OSError:  # closed already: nothing can be heard
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, descriptor)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(saved, descriptor)
        os.close(saved)
        os.close(null)
