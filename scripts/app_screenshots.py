"""Make the README's two pictures of the app: live, and after a benchmark. Needs Chromium and Playwright.

    python scripts/app_screenshots.py live.tflite float.tflite int8.tflite

The photo is scikit-image's cup of coffee (by Rachel Michetti, CC0).
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import skimage.data
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from evit_app.texts import ENGLISH

DOCS = Path(__file__).resolve().parents[1] / "docs"
PATIENCE_MS = 120_000


@contextmanager
def page_of(models: list[Path], folder: Path) -> Iterator[Page]:
    """The app in a browser, described as for a screen reader."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "evit_app.program", *map(str, models), "--web", "--port", str(port)]
    with (
        subprocess.Popen([*command, "--source", str(folder)], stdout=subprocess.PIPE, text=True) as process,  # noqa: S603 - own program
        sync_playwright() as playwright,
    ):
        if process.stdout is not None:
            process.stdout.readline()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"http://127.0.0.1:{port}")
        page.locator("flt-semantics-placeholder").wait_for(state="attached")
        page.locator("flt-semantics-placeholder").dispatch_event("click")
        page.get_by_role("button", name=ENGLISH.start, exact=True, disabled=False).wait_for()
        yield page
        browser.close()
        process.terminate()


def choose(page: Page, name: str, option: str) -> None:
    """Take an option of a list."""
    page.get_by_role("button", name=name, exact=True).click(force=True)
    page.get_by_role("button", name=option, exact=True).last.click(force=True)


def press(page: Page, name: str) -> None:
    """Use a button."""
    page.get_by_role("button", name=name, exact=True).dispatch_event("click")


def save(page: Page, name: str) -> None:
    """Write the page as it is seen to ``docs``."""
    page.wait_for_timeout(3000)
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(DOCS / name, "JPEG", quality=82, optimize=True)


def main() -> None:
    """Start, wait, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs=3)
    live, first, second = parser.parse_args().models
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "coffee"
        folder.mkdir()
        Image.fromarray(skimage.data.coffee()[:, 33:566]).resize((640, 480)).save(folder / "coffee.png")
        with page_of([live], folder) as page:
            choose(page, ENGLISH.source, "coffee")
            press(page, ENGLISH.start)
            page.wait_for_timeout(8000)
            save(page, "app-live.jpg")
        with page_of([first, second], folder) as page:
            choose(page, ENGLISH.model_choice, first.name)
            choose(page, ENGLISH.compare, second.name)
            press(page, ENGLISH.benchmark)
            page.get_by_role("button", name=ENGLISH.benchmark_save.format(kind="JSON")).wait_for()
            page.mouse.move(560, 400)
            page.mouse.wheel(0, 690)
            save(page, "app-benchmark.jpg")


if __name__ == "__main__":
    main()
