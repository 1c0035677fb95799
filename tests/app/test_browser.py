"""The app in Chromium, with a camera that shows a photo. Nothing but this machine may be asked for anything."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evit_app.texts import ENGLISH, KOREAN
from evit_edge.benchmark.report import Status, read_report

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration", "app"))
PICTURES = ROOT / "ci-output" / "screenshots"
PATIENCE_MS = 120_000  # two busy cores draw the page, run the camera and other tests beside it
ALLOWED = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def chromium(missing):
    """Function: start Chromium with more arguments."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing("Chromium is not installed (apt-get install chromium)")
    if importlib.util.find_spec("playwright") is None:
        missing("Playwright is not installed (pip install playwright; no browser of its own is needed)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield lambda *arguments: playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required", *arguments]
        )


@pytest.fixture(scope="module")
def camera_file(coffee, tmp_path_factory):
    """Motion JPEG, 640x480, of a cup of coffee, mostly red."""
    path = tmp_path_factory.mktemp("camera") / "coffee.mjpeg"
    photo = tmp_path_factory.mktemp("camera") / "coffee.jpg"
    height = coffee.shape[0]
    width = height * 4 // 3
    left = (coffee.shape[1] - width) // 2
    Image.fromarray(coffee[:, left : left + width]).resize((640, 480)).save(photo, quality=90)
    path.write_bytes(photo.read_bytes() * 30)
    return path


@pytest.fixture(scope="module")
def browser(chromium, camera_file):
    """Chromium that allows its camera, which shows the coffee."""
    started = chromium(*FAKE_CAMERA, f"--use-file-for-fake-video-capture={camera_file}")
    yield started
    started.close()


@contextmanager
def serving(*arguments):
    """The app in a process of its own: its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "evit_app.program", *map(str, arguments), "--web", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": PATHS}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith("evit-edge-app: http")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@pytest.fixture
def served(model, tmp_path):
    """The app with two models of the same kind."""
    other = tmp_path / "other.tflite"
    other.write_bytes(model.read_bytes())
    with serving(model, other) as address:
        yield address


SPIES = """
window.sockets = [], window.tracks = [];
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await ask(wanted);
    window.tracks.push(...stream.getTracks());
    return stream;
};
window.WebSocket = new Proxy(WebSocket, {construct(kind, given) {
    window.sockets.push(new kind(...given));
    return window.sockets.at(-1);
}});
"""


class Tab:
    """A page as assistive technology sees it: by roles and names."""

    def __init__(self, browser, address, texts=ENGLISH, **options):
        self.strangers, self.texts = [], texts
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.route("**/*", self._guard)
        self.context.add_init_script(SPIES)
        self.page = self.context.new_page()
        self.page.goto(address)
        self.listen()

    def _guard(self, route):
        if route.request.url.startswith(ALLOWED):
            route.continue_()
        else:
            self.strangers.append(route.request.url)
            route.abort()

    def listen(self):
        """Flutter describes the page once something asks for it."""
        placeholder = self.page.locator("flt-semantics-placeholder")
        placeholder.wait_for(state="attached")
        placeholder.dispatch_event("click")
        self.page.get_by_role("button", name=self.texts.choose, exact=True, disabled=False).wait_for()

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def click(self, name):
        self.button(name).dispatch_event("click")

    def choose(self, name, option):
        """Open a list and take one of its options, by pointer."""
        self.button(name).click(force=True)
        self.button(option).last.click(force=True)

    def wait(self, text):
        self.page.get_by_text(text).first.wait_for()

    def wait_for(self, script, argument=None):
        self.page.wait_for_function(script, arg=argument, polling=100)

    def wait_for_label(self, label):
        """Until the best label, in large above the bars, is this one."""
        self.page.get_by_text(label, exact=True).nth(1).wait_for()

    @property
    def words(self):
        return self.page.locator("flt-semantics-host").inner_text()

    def shot(self, name):
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        self.page.wait_for_timeout(1500)  # what is described may not be drawn yet
        assert "must be provided" not in self.words  # Flet's complaints about controls are part of the page
        self.page.screenshot(path=path)
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"), np.int16)

    def close(self):
        self.context.close()
        assert self.strangers == []


@contextmanager
def opened(browser, address, **options):
    tab = Tab(browser, address, **options)
    yield tab
    tab.close()


FOUR_RATES = "() => (document.querySelector('flt-semantics-host').innerText.match(/\\d\\/s/g) || []).length === 4"


def test_the_camera_is_labelled_turned_paused_and_saved(browser, served, tmp_path):
    with opened(browser, served) as tab:
        tab.shot("start")
        tab.click(ENGLISH.start)
        tab.wait_for_label("red")
        tab.wait_for(FOUR_RATES)
        tab.wait(ENGLISH.rate_end_to_end)
        tab.shot("live")
        tab.click(ENGLISH.mirror)
        tab.click(ENGLISH.flip)
        tab.wait_for_label("red")
        tab.click(ENGLISH.pause)
        tab.wait(ENGLISH.paused)
        with tab.page.expect_download() as download:
            tab.click(ENGLISH.snapshot)
        download.value.save_as(tmp_path / "snapshot.jpg")
        with Image.open(tmp_path / "snapshot.jpg") as snapshot:
            assert snapshot.size == (640, 480)
        tab.click(ENGLISH.resume)
        tab.wait("Live: ")
        tab.click(ENGLISH.stop)
        tab.wait(ENGLISH.stopped)
        tab.wait_for("() => window.tracks.length === 1 && window.tracks[0].readyState === 'ended'")


def test_a_camera_that_is_unplugged_is_told_and_can_be_started_again(browser, served):
    with opened(browser, served) as tab:
        tab.click(ENGLISH.start)
        tab.wait_for_label("red")
        tab.page.evaluate("() => window.tracks[0].dispatchEvent(new Event('ended'))")
        tab.wait(ENGLISH.camera_lost.format(reason="TrackEnded"))
        tab.click(ENGLISH.start)
        tab.wait_for_label("red")


def test_two_models_run_side_by_side(browser, served):
    with opened(browser, served) as tab:
        tab.choose(ENGLISH.compare, "other.tflite")
        tab.click(ENGLISH.start)
        tab.wait("same label on 100.0 % of")
        tab.wait_for(FOUR_RATES)
        tab.shot("side-by-side")


def test_a_benchmark_is_measured_shown_and_saved(browser, slow_model, tmp_path):
    with serving(slow_model) as address, opened(browser, address) as tab:
        tab.click(ENGLISH.start)
        tab.wait_for_label("red")
        tab.click(ENGLISH.benchmark)
        tab.button(ENGLISH.benchmark_cancel).wait_for()
        for kind in ("JSON", "HTML"):
            with tab.page.expect_download(timeout=3 * PATIENCE_MS) as download:
                save = tab.button(ENGLISH.benchmark_save.format(kind=kind))
                save.dispatch_event("click", timeout=3 * PATIENCE_MS)
            download.value.save_as(tmp_path / f"report.{kind.lower()}")
        tab.wait_for("() => window.tracks.length === 2 && window.tracks[1].readyState === 'live'")  # it goes on
        tab.wait_for_label("red")
        tab.shot("benchmark")
    report = read_report(tmp_path / "report.json")
    assert report.status is Status.COMPLETE
    assert [entry.name for entry in report.models] == ["large.tflite"]
    assert all(row.stages and row.cold_start and row.memory for row in report.measurements)
    assert "large.tflite" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("by", ["reload", "cut"])
def test_after_a_reload_or_a_cut_connection_it_goes_on(browser, served, by):
    with opened(browser, served) as tab:
        tab.click(ENGLISH.start)
        tab.wait_for_label("red")
        if by == "reload":
            tab.page.reload()
            tab.listen()
        else:
            tab.page.evaluate("() => window.sockets.at(-1).close()")
            tab.wait_for("() => window.tracks[0].readyState === 'ended' && window.tracks.length === 2")
        tab.wait_for_label("red")
        tab.wait_for(FOUR_RATES)


def test_a_picture_from_disk_also_after_the_connection_was_cut(browser, served, green_photo):
    with opened(browser, served) as tab:
        tab.page.evaluate("() => window.sockets.at(-1).close()")
        tab.wait_for("() => window.sockets.length > 1 && window.sockets.at(-1).readyState === WebSocket.OPEN")
        tab.page.wait_for_timeout(2000)  # the page registers anew
        with tab.page.expect_file_chooser() as chooser:
            tab.click(ENGLISH.choose)
        chooser.value.set_files(green_photo)
        tab.wait_for_label("green")
        tab.shot("picture")


def test_a_refused_camera_is_told(chromium, served):
    refusing = chromium("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    with opened(refusing, served) as tab:
        tab.click(ENGLISH.start)
        tab.wait(ENGLISH.camera_refused)
        tab.shot("refused")
    refusing.close()


def test_without_a_camera_something_else_is_offered(chromium, served):
    bare = chromium("--use-fake-ui-for-media-stream")
    with opened(bare, served) as tab:
        tab.click(ENGLISH.start)
        tab.wait(ENGLISH.no_camera)
    bare.close()


def test_on_a_small_dark_phone_in_korean(browser, served):
    with opened(browser, served, color_scheme="dark") as tab:
        tab.page.set_viewport_size({"width": 360, "height": 740})
        tab.choose(ENGLISH.language_choice, KOREAN.language)
        tab.texts = KOREAN
        tab.button(KOREAN.start).wait_for()
        tab.click(KOREAN.start)
        tab.wait_for_label("red")
        picture = tab.shot("phone-korean-dark")
        assert np.median(picture) < 60  # dark


@pytest.mark.shared
def test_a_foreign_model_sees_the_coffee(browser, shared):
    with (
        serving(shared / "models" / "mobilenet_v2_1.0_224_quant.tflite") as address,
        opened(browser, address) as tab,
    ):
        tab.click(ENGLISH.start)
        tab.wait_for_label("espresso")
        tab.shot("espresso")
