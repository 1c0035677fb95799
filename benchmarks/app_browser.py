"""How the app does in a browser: Chromium with a 640x480 camera that shows a photo, through the whole page.

Prints the four rates and the delays that the page itself shows, each second's, as medians; how the app's memory
grows; and how long the program takes to end after SIGTERM while it runs. Needs Chromium and Playwright.

    python benchmarks/app_browser.py demo-output/everyday-int8.tflite
    python benchmarks/app_browser.py demo-output/everyday-int8.tflite --seconds 600
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import skimage.data
from app_rates import memory_slope, resident_bytes
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from evit_app.texts import ENGLISH

RATES = (ENGLISH.rate_camera, ENGLISH.rate_inference, ENGLISH.rate_end_to_end, ENGLISH.rate_display)


@dataclass(frozen=True)
class Seen:
    """What the page showed.

    Attributes:
        rates: Each rate's values, per second, in the order of ``RATES``.
        delays_ms: From picture to label.
        app_cpu_s: Processor time of the app while it was watched, seconds.
        browser_cpu_s: The same of Chromium, all its processes.
        watched_s: How long that was, seconds.
        ending_s: From SIGTERM to the program's end, seconds.
        memory: Pairs of time (seconds) and resident size of the app (bytes).
    """

    rates: list[list[float]]
    delays_ms: list[float]
    app_cpu_s: float
    browser_cpu_s: float
    watched_s: float
    ending_s: float
    memory: list[tuple[float, int]]


def write_camera(folder: Path) -> Path:
    """Two seconds of a hand-held look at a cup of coffee, as motion JPEG for Chromium's fake camera.

    The view wanders, so that no two frames in a row have the same scores: labels that stand still cost no drawing.
    """
    photo, path = Image.fromarray(skimage.data.coffee()), folder / "coffee.mjpeg"
    with path.open("wb") as film:
        for i in range(60):
            angle = 2 * math.pi * i / 60
            left, top = 33 + 30 * math.sin(angle), 20 + 15 * math.cos(2 * angle)
            view = photo.resize((640, 480), Image.Resampling.BILINEAR, (left, top, left + 480, top + 360))
            view.save(film, "JPEG", quality=90)
    return path


def watch(model: Path, camera: Path, seconds: int) -> Seen:
    """Start the app and a browser, and read the page once a second."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "evit_app.program", str(model), "--web", "--port", str(port)]
    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    arguments.append(f"--use-file-for-fake-video-capture={camera}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, sync_playwright() as playwright:
        if process.stdout is not None:
            process.stdout.readline()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start(page, f"http://127.0.0.1:{port}")
        before, began = cpu_times(process.pid), time.perf_counter()
        words, memory = [], []
        for _ in range(seconds):
            words.append(read(page))
            memory.append((time.perf_counter() - began, resident_bytes(process.pid)))
        after, watched_s = cpu_times(process.pid), time.perf_counter() - began
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        ending_s = time.perf_counter() - began
        browser.close()
    app_s, browser_s = (late - early for early, late in zip(before, after, strict=True))
    return Seen(*parse(words), app_s, browser_s, watched_s, ending_s, memory)


def start(page: Page, address: str) -> None:
    """Open the page and start the camera; ten seconds do not count."""
    page.goto(address)
    placeholder = page.locator("flt-semantics-placeholder")
    placeholder.wait_for(state="attached", timeout=120_000)
    placeholder.dispatch_event("click")
    ready = page.get_by_role("button", name=ENGLISH.start, exact=True, disabled=False)
    ready.dispatch_event("click", timeout=120_000)
    time.sleep(10)


def read(page: Page) -> str:
    """What the page says, a second later."""
    time.sleep(1)
    return str(page.locator("flt-semantics-host").inner_text())


def cpu_times(app: int) -> tuple[float, float]:
    """Processor seconds so far of the app, and of Chromium below this process (Linux)."""
    tick = os.sysconf("SC_CLK_TCK")
    parents, spent, names = {}, {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            pid = int(stat.parent.name)
            parents[pid], names[pid] = int(fields[1]), name
            spent[pid] = (int(fields[11]) + int(fields[12])) / tick
    browser = 0.0
    for pid, name in names.items():
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and "chrom" in name:
            browser += spent[pid]
    return spent.get(app, 0.0), browser


def parse(pages: list[str]) -> tuple[list[list[float]], list[float]]:
    """Rates in the order in which the page shows them, and delays."""
    found = [[float(value) for value in re.findall(r"([\d.]+)/s", words)] for words in pages]
    whole = [values for values in found if len(values) == len(RATES)]
    delays = [float(value) for words in pages for value in re.findall(r"picture to label ([\d.]+) ms", words)]
    return [list(column) for column in zip(*whole, strict=True)], delays


def main() -> None:
    """Read the options, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = watch(options.model, write_camera(Path(folder)), options.seconds)
    for name, values in zip(RATES, seen.rates, strict=True):
        print(f"{name}: {statistics.median(values):.1f}/s (lowest {min(values):.1f}, highest {max(values):.1f})")
    if seen.delays_ms:
        print(f"picture to label: p50 {statistics.median(seen.delays_ms):.1f} ms")
    shown = statistics.mean(seen.rates[3]) * seen.watched_s
    app_ms, browser_ms = (1000 * spent / shown for spent in (seen.app_cpu_s, seen.browser_cpu_s))
    print(f"processor time per frame shown: app {app_ms:.1f} ms, browser {browser_ms:.1f} ms")
    slope = memory_slope(seen.memory)
    if slope is not None:
        end = seen.memory[-1][1] / 1e6
        print(f"memory of the app: {slope / 1e6:+.2f} MB a minute after the first, {end:.0f} MB at the end")
    print(f"ended {seen.ending_s:.2f} s after SIGTERM")


if __name__ == "__main__":
    main()
