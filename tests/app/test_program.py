import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from evit_app import program

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration", "app"))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def invoke(*arguments):
    return CliRunner().invoke(program.app, [str(argument) for argument in arguments])


def fetch(address, tries=240):
    """The answer to GET, as soon as there is one."""
    for _ in range(tries):
        try:
            return urllib.request.urlopen(address, timeout=10)
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.25)
    raise AssertionError(f"nothing answers at {address}")


@pytest.fixture
def served(model, tmp_path):
    """The program in web mode, in a process of its own: its port."""
    port = free_port()
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "secret.txt").write_text("not to be served")
    command = [sys.executable, "-m", "evit_app.program", str(model), "--web", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": PATHS}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith(f"evit-edge-app: http://127.0.0.1:{port} ")
            fetch(f"http://127.0.0.1:{port}/").close()
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def test_a_browser_gets_the_page_and_only_own_pages_a_socket(served):
    origin = f"http://127.0.0.1:{served}"
    with fetch(origin + "/") as page:
        text = page.read().decode()
        policy = page.headers["content-security-policy"]
    assert "noCdn=true" in text
    assert "default-src 'self'" in policy
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        fetch(origin + "/secret.txt")
    refused.value.close()

    async def knock(from_page):
        async with connect(f"ws://127.0.0.1:{served}/ws", origin=from_page):
            return True

    assert asyncio.run(knock(origin))
    for stranger in ("https://example.org", None):
        with pytest.raises(InvalidStatus, match="403"):
            asyncio.run(knock(stranger))


def test_only_this_machine_is_listened_to():
    with program._listening(free_port()) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_is_named(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = invoke(model, "--web", "--port", port)
    assert answer.exit_code == 1
    assert f"port {port} cannot be used" in answer.stderr
    assert "--port" in answer.stderr


def test_a_missing_model_is_one_line(tmp_path):
    answer = invoke(tmp_path / "gone.tflite", "--web")
    assert answer.exit_code == 1
    assert answer.stderr.count("\n") == 1
    assert "no artefact at" in answer.stderr


def test_a_model_must_be_named():
    assert invoke("--web").exit_code == 2


@pytest.mark.parametrize(
    ("missing", "options"), [("flet", ()), ("flet_web", ("--web",))], ids=["flet", "flet-web"]
)
def test_without_flet_the_command_that_installs_it_is_told(model, monkeypatch, missing, options):
    find = program.importlib.util.find_spec
    monkeypatch.setattr(
        program.importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest)
    )
    answer = invoke(model, *options)
    assert answer.exit_code == 1
    assert "pip install 'evit-edge[app]'" in answer.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_a_window_without_a_display_points_to_the_browser(model, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    answer = invoke(model)
    assert answer.exit_code == 1
    assert "use --web" in answer.stderr


def test_help_loads_no_flet():
    check = "import sys, evit_app.program; print(sorted({'flet', 'numpy', 'uvicorn', 'PIL'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": PATHS}
    answer = subprocess.run(
        [sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_the_mobile_recipe_installs_only_what_a_phone_has():
    recipe = tomllib.loads((ROOT / "app" / "pyproject.toml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [requirement.split(";")[0].split("==")[0].strip() for requirement in recipe["project"]["dependencies"]]
    assert names == ["evit-edge", "flet", "tflite-runtime"]
    assert "flet==1.0.5" in set(recipe["project"]["dependencies"]) & set(project["optional-dependencies"]["app"])
    local = (ROOT / "app" / recipe["tool"]["flet"]["dev_packages"]["evit-edge"]).resolve()
    assert local == ROOT


def test_an_open_page_does_not_hold_the_program_nor_fill_the_terminal(model, tmp_path):
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "evit_app.program", str(model), "--web", "--port", str(port)]

    async def leave(process):
        async with connect(f"ws://127.0.0.1:{port}/ws", origin=origin):
            process.send_signal(signal.SIGINT)
            return await asyncio.to_thread(process.communicate, timeout=60)

    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": PATHS}
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        fetch(origin + "/").close()
        _, stderr = asyncio.run(leave(process))
    assert (process.returncode, stderr) == (0, "")
