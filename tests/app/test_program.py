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
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from evit_app import program, server
from evit_app.server import Address
from evit_edge.cli import plugins
from evit_edge.cli.main import OneLineErrors

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


@contextmanager
def running(command, **options):
    """The program in a process of its own: it and the first line it prints; it is ended where the test did not."""
    environment = {**os.environ, "PYTHONPATH": PATHS}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, **options) as process:
        try:
            yield process, process.stdout.readline()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=60)


@pytest.fixture
def served(model, tmp_path):
    """The program in web mode, in a process of its own: its port."""
    port = free_port()
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "secret.txt").write_text("not to be served")
    command = [sys.executable, "-m", "evit_app.program", str(model), "--web", "--port", str(port)]
    with running(command, cwd=tmp_path) as (_, line):
        assert line.startswith(f"evit-edge-app: http://127.0.0.1:{port} ")
        fetch(f"http://127.0.0.1:{port}/").close()
        yield port


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
    with server._listening(Address.of("127.0.0.1", free_port())) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "needs_token"),
    [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True), ("192.168.1.7", True)],
    ids=["loopback", "loopback6", "all", "network"],
)
def test_other_addresses_need_a_token_that_is_new_each_time(host, needs_token):
    address = Address.of(host, 8550)
    assert (address.token is not None) is needs_token
    assert (f"?token={address.token}" in address.url) is needs_token
    if needs_token:
        assert len(address.token) >= 32
        assert address.token != Address.of(host, 8550).token


def test_a_name_in_place_of_an_address_is_refused(model):
    answer = invoke(model, "--web", "--host", "example.org")
    assert answer.exit_code == 1
    assert "an IP address of this machine is accepted" in answer.stderr


def test_on_a_network_the_token_is_needed_and_warned_about(model):
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "evit_app.program",
        str(model),
        "--web",
        "--host",
        "0.0.0.0",
        "--port",
        str(port),
    ]
    here = f"http://127.0.0.1:{port}"
    jar = urllib.request.HTTPCookieProcessor()
    with running(command) as (process, line):
        token = line.split("?token=")[1].split()[0]
        for wrong in ("", "?token=guess"):
            with pytest.raises(urllib.error.HTTPError, match="401") as refused:
                fetch(f"{here}/{wrong}")
            refused.value.close()
        with urllib.request.build_opener(jar).open(f"{here}/?token={token}", timeout=30) as page:
            assert "noCdn=true" in page.read().decode()
        (cookie,) = jar.cookiejar

        async def knock(origin, *headers):
            async with connect(f"ws://127.0.0.1:{port}/ws", origin=origin, additional_headers=headers):
                return True

        known = ("cookie", f"{cookie.name}={cookie.value}")
        assert asyncio.run(knock(here, known))
        for origin, headers in (
            (here, ()),
            (here, [("cookie", f"{cookie.name}=guess")]),
            ("https://example.org", [known]),
        ):
            with pytest.raises(InvalidStatus, match="403"):
                asyncio.run(knock(origin, *headers))
        process.send_signal(signal.SIGTERM)
        assert "can be reached from other machines" in process.communicate(timeout=60)[1]


def test_the_command_line_finds_the_app_by_its_entry_point(tmp_path):
    information = tmp_path / "evit_edge_app-0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: evit-edge-app\nVersion: 0\n")
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["evit_edge.commands"]
    (information / "entry_points.txt").write_text(f"[evit_edge.commands]\napp = {points['app']}\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((PATHS, str(tmp_path)))}
    command = [sys.executable, "-m", "evit_edge.cli.main", "app", str(tmp_path / "gone.tflite"), "--web"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("evit-edge: error: no artefact at")


def test_without_the_app_the_command_line_tells_how_to_install_it(monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda group: ())
    bare = typer.Typer(cls=OneLineErrors)
    bare.callback()(lambda: None)
    plugins.add_plugins(bare)
    answer = CliRunner().invoke(bare, ["app", "--web", "model.tflite"])
    assert answer.exit_code == 1
    assert (
        answer.stderr.strip() == "evit-edge: error: evit-edge app is not installed: pip install 'evit-edge[app]'"
    )


def test_a_taken_port_is_named(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = invoke(model, "--web", "--port", port)
    assert answer.exit_code == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in answer.stderr
    assert "--port" in answer.stderr


def test_a_missing_model_is_one_line(tmp_path):
    answer = invoke(tmp_path / "gone.tflite", "--web")
    assert answer.exit_code == 1
    assert answer.stderr.count("\n") == 1
    assert "no artefact at" in answer.stderr


def test_a_model_must_be_named_where_the_demo_wrote_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = invoke("--web")
    assert answer.exit_code == 1
    assert "no model given; name a .tflite file" in answer.stderr


def test_a_source_that_is_not_there_is_named(model, tmp_path):
    answer = invoke(model, "--web", "--source", tmp_path / "gone.mp4")
    assert answer.exit_code == 1
    assert "gone.mp4; --source takes either" in answer.stderr


@pytest.mark.parametrize(
    ("missing", "options"),
    [("flet", ()), ("flet_camera", ()), ("flet_web", ("--web",))],
    ids=["flet", "flet-camera", "flet-web"],
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
    assert names == ["evit-edge", "flet", "flet-camera", "tflite-runtime"]
    assert "flet==1.0.5" in set(recipe["project"]["dependencies"]) & set(project["optional-dependencies"]["app"])
    local = (ROOT / "app" / recipe["tool"]["flet"]["dev_packages"]["evit-edge"]).resolve()
    assert local == ROOT
    for name in ("icon", "splash"):
        with Image.open(ROOT / "app" / "assets" / f"{name}.png") as picture:
            assert picture.size == (512, 512)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "terminate"])
def test_an_open_page_does_not_hold_the_program_nor_fill_the_terminal(model, ending):
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "evit_app.program", str(model), "--web", "--port", str(port)]

    async def leave(process):
        async with connect(f"ws://127.0.0.1:{port}/ws", origin=origin):
            process.send_signal(ending)
            return await asyncio.to_thread(process.communicate, timeout=60)

    with running(command) as (process, _):
        fetch(origin + "/").close()
        _, stderr = asyncio.run(leave(process))
    assert (process.returncode in (0, -ending), stderr) == (True, "")
