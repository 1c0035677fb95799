"""``hf:OWNER/NAME`` through the real hub client, against a local server that stands in for the hub."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LOAD = """
import sys
from evit_edge.models.checkpoints import load_checkpoint
print(load_checkpoint(sys.argv[1]).name)
"""


@pytest.fixture
def told() -> list[str]:
    """What the hub's client told of itself, a line for each request."""
    return []


@pytest.fixture
def stand_in_hub(m0_checkpoint: Path, told: list[str]) -> Iterator[str]:
    """A server with one file, at the address where the hub has a repository's weights."""
    content = m0_checkpoint.read_bytes()
    address = "/someone/random.net/resolve/main/model.safetensors"

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            if self._head():
                self.wfile.write(content)

        def _head(self) -> bool:
            told.append(self.headers["User-Agent"])
            found = self.path == address
            self.send_response(200 if found else 404)
            if found:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            else:
                self.send_header(
                    "X-Error-Code", "EntryNotFound" if "/random.net/" in self.path else "RepoNotFound"
                )
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            return found

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def load(reference: str, hub: str, home: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration"))
    changes = {"PYTHONPATH": paths, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", _LOAD, reference],
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_repository_is_downloaded_and_loaded(stand_in_hub: str, tmp_path: Path) -> None:
    answer = load("hf:someone/random.net", stand_in_hub, tmp_path)
    assert answer.stdout.strip() == "random", answer.stderr


def test_the_hub_is_not_told_what_is_installed_here(stand_in_hub: str, told: list[str], tmp_path: Path) -> None:
    load("hf:someone/random.net", stand_in_hub, tmp_path)
    assert told
    assert not [line for line in told if "torch" in line]


def test_a_missing_repository_is_one_clear_line(stand_in_hub: str, tmp_path: Path) -> None:
    answer = load("hf:someone/nothing", stand_in_hub, tmp_path)
    last = answer.stderr.strip().splitlines()[-1]
    assert "CheckpointError: hf:someone/nothing could not be downloaded" in last
