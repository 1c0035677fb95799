"""The console entry: so small that Ctrl-C finds it ready before anything else is imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Import the program and run it; 130 when interrupted on the way."""
    try:
        from evit_edge.cli.main import main as program
    except KeyboardInterrupt:
        sys.exit(130)
    program()


if __name__ == "__main__":
    main()
