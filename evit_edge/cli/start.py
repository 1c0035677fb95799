"""The console entry: so small that Ctrl-C finds it ready before anything else is imported."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress

from evit_edge.cli.interruption import INTERRUPTED, remember, was_interrupted


def main() -> None:
    """Import the program and run it; 130 when interrupted, whatever came of the interruption on the way."""
    try:
        remember()
        from evit_edge.cli.main import main as program

        program()
    except KeyboardInterrupt:
        _leave()
    except SystemExit as exc:
        if exc.code == INTERRUPTED:
            _leave()
        raise
    except Exception:
        if was_interrupted():
            _leave()
        raise


def _leave() -> None:
    """Clean up and end with 130.

    Not by ``sys.exit``: where the interruption has gone through an ``exec`` of a string, such as those in
    namedtuple and dataclass, Python 3.11 ends itself with SIGINT instead.
    """
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
