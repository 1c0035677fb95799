import asyncio
import dataclasses
from pathlib import Path

import flet as ft
import msgpack
import pytest
from flet.controls.base_control import BaseControl
from flet.controls.context import _context_page
from flet.messaging.connection import Connection
from flet.messaging.protocol import MessageAction, configure_encode_object_for_msgpack
from flet.messaging.session import Session as FletSession
from flet.pubsub.pubsub_hub import PubSubHub

from evit_app.session import Session
from evit_app.texts import ENGLISH
from evit_app.view import App


class Client(Connection):
    """A person at a screen: takes what the page sends, and picks ``file`` when asked."""

    def __init__(self, loop, file=None):
        super().__init__()
        self.loop, self.pubsubhub = loop, PubSubHub(loop=loop)
        self.file, self.asked, self.crashes = file, [], []
        self.session = None

    @staticmethod
    def encode(body):
        """Turn into bytes as every transport does: that is when Flet notes what the client has been told."""
        return msgpack.packb(body, default=configure_encode_object_for_msgpack(BaseControl))

    def send_message(self, message):
        assert self.encode(message.body)
        if message.action is MessageAction.SESSION_CRASHED:
            self.crashes.append(message.body.message)
        if message.action is MessageAction.INVOKE_METHOD and message.body.name == "pick_files":
            self.asked.append(message.body.args)
            picked = [] if self.file is None else [self.file]
            answer = (message.body.control_id, message.body.call_id, picked, None)
            self.loop.call_soon(self.session.handle_invoke_method_results, *answer)


def controls_of(value):
    """All controls below a control, from top to bottom."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from controls_of(item)
    elif isinstance(value, ft.Control):
        yield value
        for field in ("controls", "content"):
            yield from controls_of(getattr(value, field, None))


class Screen:
    """What is to be seen."""

    def __init__(self, page):
        self.all = [c for c in controls_of(page.controls) if c.visible]

    def of(self, kind):
        return [control for control in self.all if isinstance(control, kind)]

    @property
    def texts(self):
        return [text.value for text in self.of(ft.Text) if text.value]


def use(opener, *files, web=True):
    """Open a page and pick files one after the other; the screen after each, and the client."""

    async def scene():
        client = Client(asyncio.get_running_loop())
        client.session = session = FletSession(client)
        page = session.page
        page.web, page.platform = web, ft.PagePlatform.LINUX
        _context_page.set(page)
        client.encode(session.get_page_patch())  # what a client gets first
        app = App(opener)
        await app.start(page)
        screens = [Screen(page)]
        for file in files:
            client.file = file
            await session.dispatch_event(screens[0].of(ft.Button)[0]._i, "click", None)
            screens.append(Screen(page))
        assert client.crashes == []
        return screens, client

    return asyncio.run(scene())


def sent(path: Path):
    """What a browser hands over."""
    content = path.read_bytes()
    return {"id": 0, "name": path.name, "size": len(content), "path": None, "bytes": content}


def test_a_page_opens_with_the_model_its_runtime_and_the_reference(with_golden):
    artefact = with_golden()
    (screen,), _ = use(lambda: Session.open(artefact))
    info = Session.open(artefact).info
    assert screen.texts[0] == ENGLISH.model("colours.tflite", f"{info.runtime} {info.runtime_version}", 1, 32)
    assert screen.texts[1].startswith("This device gives the reference's answer: sqnr")
    assert not screen.of(ft.Button)[0].disabled


def test_a_device_that_answers_differently_gets_a_red_banner(with_golden):
    artefact = with_golden(order=(1, 2, 0))
    (screen,), _ = use(lambda: Session.open(artefact))
    banners = [c for c in screen.of(ft.Container) if c.bgcolor == ft.Colors.RED_700]
    assert [banner.content.value[:19] for banner in banners] == ["This device does NO"]


@pytest.mark.parametrize("web", [True, False], ids=["browser", "desktop"])
def test_a_picked_picture_shows_bars_scores_and_times(model, green_photo, web):
    file = sent(green_photo) if web else {**sent(green_photo), "path": str(green_photo), "bytes": None}
    (_, screen), client = use(lambda: Session.open(model), file, web=web)
    assert client.asked[0]["with_data"] is web
    assert [bar.semantics_label for bar in screen.of(ft.ProgressBar)] == ["green", "blue", "red"]
    shares = [bar.value for bar in screen.of(ft.ProgressBar)]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert shares[0] > 0.9
    assert ENGLISH.percent(shares[0]) in screen.texts
    assert screen.texts[-1].count(" ms") == 3
    (picture,) = screen.of(ft.Image)
    assert picture.src.startswith(b"\xff\xd8")
    assert picture.semantics_label == "Picture: meadow.png"
    assert not screen.of(ft.Button)[0].disabled


def test_an_error_takes_the_old_answer_off_the_screen(model, green_photo, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("milk, bread")
    (_, _, bad, good), _ = use(lambda: Session.open(model), sent(green_photo), sent(notes), sent(green_photo))
    assert bad.of(ft.Image) == bad.of(ft.ProgressBar) == []
    assert "not an image" in " ".join(bad.texts)
    assert len(good.of(ft.ProgressBar)) == 3
    assert "not an image" not in " ".join(good.texts)


def test_a_path_from_a_browser_is_not_followed(model, green_photo):
    file = {**sent(green_photo), "path": str(green_photo), "bytes": None}
    (_, screen), _ = use(lambda: Session.open(model), file)
    assert "meadow.png did not arrive; choose it again" in screen.texts
    assert screen.of(ft.Image) == []


def test_choosing_nothing_changes_nothing(model):
    (before, after), _ = use(lambda: Session.open(model), None)
    assert before.texts == after.texts


def test_a_broken_model_is_told_and_nothing_can_be_picked(tmp_path):
    (screen,), _ = use(lambda: Session.open(tmp_path / "gone.tflite"))
    assert "no artefact at" in screen.texts[0]
    assert screen.of(ft.Button)[0].disabled


def test_pages_share_one_model(model):
    opened = []

    def opener():
        opened.append(Session.open(model))
        return opened[-1]

    async def two():
        app = App(opener)
        return await asyncio.gather(app.session(), app.session())

    first, second = asyncio.run(two())
    assert first is second is opened[0]
    assert len(opened) == 1


def test_no_text_is_empty_or_unfilled():
    for name, text in dataclasses.asdict(ENGLISH).items():
        assert text.strip(), name
    assert "{" not in ENGLISH.model("m", "r 1", 1, 32) + ENGLISH.times(1, 2, 3) + ENGLISH.percent(0.5)
    assert ENGLISH.times(0.001, 0.002, 0.0035).endswith("inference 3.50 ms")
