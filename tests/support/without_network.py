"""Running Python where nothing goes out of the machine: every attempt is noted and refused, children's too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = (Path(__file__).parent / "no_network", ROOT, ROOT / "converters", ROOT / "calibration", ROOT / "app")


def run(
    notes: Path, code: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python code; :func:`called` reads ``notes`` afterwards."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DO_NOT_TRACK"))}
    added = {"PYTHONPATH": os.pathsep.join(map(str, PARTS)), "EVIT_EDGE_CALLS": str(notes), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**known, **added, **(environment or {})},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=1000,
        check=False,
    )


def called(notes: Path) -> list[str]:
    """What tried to go out, a line for each attempt."""
    return notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
