import asyncio
import dataclasses
import io
import json
import string
import struct
import threading
import time
from functools import partial
from pathlib import Path

import flet as ft
import msgpack
import numpy as np
import pytest
from flet.controls.base_control import BaseControl
from flet.controls.context import _context_page
from flet.data_channel import _ProtocolMuxedDataChannel
from flet.messaging.connection import Connection
from flet.messaging.protocol import MessageAction, configure_encode_object_for_msgpack
from flet.messaging.session import Session as FletSession
from flet.pubsub.pubsub_hub import PubSubHub
from PIL import Image

from evit_app import benchmark_panel
from evit_app.application import App
from evit_app.camera_link import CameraLink, page_link
from evit_app.choices import Shelf, SourceChoice, SourceKind, sources_here
from evit_app.measuring import request_for
from evit_app.server import ASSETS
from evit_app.session import Session, this_device
from evit_app.texts import ENGLISH, KOREAN, LANGUAGES
from evit_edge.benchmark.report import read_report


class Client(Connection):
    """A person at a screen: takes what the page sends, shows live pictures, picks ``file``, has cameras."""

    def __init__(self, loop):
        super().__init__()
        self.loop, self.pubsubhub = loop, PubSubHub(loop=loop)
        self.file, self.asked, self.crashes, self.frames, self.saved = None, [], [], [], []
        self.cameras, self.refusal = [], None
        self.session = None
        self.channels = {}

    @staticmethod
    def encode(body):
        """Turn into bytes as every transport does: that is when Flet notes what the client has been told."""
        return msgpack.packb(body, default=configure_encode_object_for_msgpack(BaseControl))

    def send_message(self, message):
        assert self.encode(message.body)
        if message.action is MessageAction.SESSION_CRASHED:
            self.crashes.append(message.body.message)
        if message.action is MessageAction.INVOKE_METHOD:
            body = message.body
            self.asked.append((body.name, body.args))
            result, error = self.answer(body.name, body.args)
            answer = (body.control_id, body.call_id, result, error)
            self.loop.call_soon(self.session.handle_invoke_method_results, *answer)

    def answer(self, name, args):
        """What a client does when asked: the result and the error."""
        if name == "save_file":
            self.saved.append(args["src_bytes"])
        answers = {
            "pick_files": ([] if self.file is None else [self.file], None),
            "get_available_cameras": (self.cameras, None),
            "initialize": (None, self.refusal),
        }
        return answers.get(name, (None, None))

    def data_channel_for(self, channel_id):
        return self.channels.setdefault(channel_id, _ProtocolMuxedDataChannel(channel_id, self))

    def send_data_channel_frame(self, channel_id, payload):
        self.frames.append(payload)
        self.loop.call_soon(self.channels[channel_id]._deliver, b"\xff")

    def unregister_data_channel(self, channel_id):
        self.channels.pop(channel_id, None)

    def dispose(self):
        pass


def controls_of(value):
    """All controls below a control, from top to bottom."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from controls_of(item)
    elif isinstance(value, ft.Control):
        yield value
        for field in ("controls", "content"):
            yield from controls_of(getattr(value, field, None))


def visible(page):
    """Controls that can be seen: those that are visible inside visible ones."""

    def below(value):
        if isinstance(value, (list, tuple)):
            for item in value:
                yield from below(item)
        elif isinstance(value, ft.Control) and value.visible:
            yield value
            for field in ("controls", "content"):
                yield from below(getattr(value, field, None))

    return list(below(page.controls))


class Scene:
    """A page in a real Flet session, and a person who uses it."""

    def __init__(self, shelf, sources=(), web=True):
        self.client = Client(asyncio.get_running_loop())
        self.client.session = self.session = FletSession(self.client)
        self.page = self.session.page
        self.page.web, self.page.platform = web, ft.PagePlatform.LINUX
        _context_page.set(self.page)
        self.client.encode(self.session.get_page_patch())  # what a client gets first
        self.app = App(shelf if callable(shelf) else lambda: shelf, sources)

    async def open(self):
        await self.app.start(self.page)
        return self

    def of(self, kind):
        return [control for control in visible(self.page) if isinstance(control, kind)]

    @property
    def texts(self):
        return [text.value for text in self.of(ft.Text) if text.value]

    @property
    def told(self):
        return " ".join(self.texts)

    def button(self, name):
        for one in controls_of(self.page.controls):
            if isinstance(one, ft.Button) and one.content == name:
                return one
            if isinstance(one, ft.IconButton) and one.tooltip == name:
                return one
        raise AssertionError(f"no button {name}")

    def choice(self, label):
        return next(one for one in self.of(ft.Dropdown) if one.label == label)

    async def click(self, name):
        await self.session.dispatch_event(self.button(name)._i, "click", None)

    async def choose(self, label, value):
        one = self.choice(label)
        one.value = value
        await self.session.dispatch_event(one._i, "select", None)

    async def pick(self, button, file):
        self.client.file = file
        await self.click(button)

    async def start(self):
        await self.click(ENGLISH.start)
        (live,) = [one for one in controls_of(self.page.controls) if isinstance(one, ft.RawImage)]
        opened = {"channel_name": "", "channel_id": 1}
        await self.session.dispatch_event(live._i, "data_channel_open", opened)

    async def until(self, condition):
        for _ in range(2000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"it did not come; the page says: {self.texts}; crashes: {self.client.crashes}")

    async def until_frames(self, count):
        have = len(self.client.frames)
        await self.until(lambda: len(self.client.frames) >= have + count)


def play(scene):
    """Run a scene; at its end nothing crashed and no thread is left."""

    async def whole():
        client = await scene()
        assert client.crashes == []

    asyncio.run(whole())
    assert [one.name for one in threading.enumerate() if one.name.startswith("evit-")] == []


def sent(path: Path):
    """What a browser hands over."""
    content = path.read_bytes()
    return {"id": 0, "name": path.name, "size": len(content), "path": None, "bytes": content}


@pytest.fixture
def shelf(model):
    shelf = Shelf((model,))
    yield shelf
    shelf.close()


@pytest.fixture
def photos(tmp_path):
    """A folder with one green picture, as a source."""
    folder = tmp_path / "meadows"
    folder.mkdir()
    Image.new("RGB", (64, 48), (20, 200, 60)).save(folder / "a.png")
    return sources_here((folder,))[:1]


def test_a_page_opens_with_the_model_its_runtime_and_the_reference(with_golden):
    artefact = with_golden()

    async def scene():
        s = await Scene(Shelf((artefact,))).open()
        info = Session.open(artefact).info
        runtime = f"{info.runtime} {info.runtime_version}"
        lines = [ENGLISH.device(this_device()), ENGLISH.model("colours.tflite", runtime, 1, 32)]
        assert "\n".join(lines) in s.texts
        assert "This device gives the reference's answer: sqnr" in s.told
        assert not s.button(ENGLISH.start).disabled
        return s.client

    play(scene)


def test_a_device_that_answers_differently_gets_a_red_banner(with_golden):
    artefact = with_golden(order=(1, 2, 0))

    async def scene():
        s = await Scene(Shelf((artefact,))).open()
        banners = [c for c in s.of(ft.Container) if c.bgcolor == ft.Colors.RED_700]
        assert [banner.content.value[:19] for banner in banners] == ["This device does NO"]
        return s.client

    play(scene)


@pytest.mark.parametrize("web", [True, False], ids=["browser", "desktop"])
def test_a_picked_picture_shows_bars_scores_and_times(shelf, green_photo, web):
    file = sent(green_photo) if web else {**sent(green_photo), "path": str(green_photo), "bytes": None}

    async def scene():
        s = await Scene(shelf, web=web).open()
        await s.pick(ENGLISH.choose, file)
        assert s.client.asked[0][1]["with_data"] is web
        assert [bar.semantics_label for bar in s.of(ft.ProgressBar)] == ["green", "blue", "red"]
        shares = [bar.value for bar in s.of(ft.ProgressBar)]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert shares[0] > 0.9
        assert ENGLISH.percent(shares[0]) in s.texts
        assert any(text.count(" ms") == 3 for text in s.texts)
        picture = s.of(ft.Image)[0]
        assert picture.src.startswith(b"\xff\xd8")
        assert picture.semantics_label == "Picture: meadow.png"
        assert not s.button(ENGLISH.choose).disabled
        return s.client

    play(scene)


def test_an_error_takes_the_old_answer_off_the_screen(shelf, green_photo, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("milk, bread")

    async def scene():
        s = await Scene(shelf).open()
        await s.pick(ENGLISH.choose, sent(green_photo))
        await s.pick(ENGLISH.choose, sent(notes))
        assert s.of(ft.ProgressBar) == []
        assert "not an image" in s.told
        await s.pick(ENGLISH.choose, sent(green_photo))
        assert len(s.of(ft.ProgressBar)) == 3
        assert "not an image" not in s.told
        return s.client

    play(scene)


@pytest.mark.parametrize("button", [ENGLISH.choose, ENGLISH.open_model], ids=["picture", "model"])
def test_a_path_from_a_browser_is_not_followed(shelf, green_photo, button):
    async def scene():
        s = await Scene(shelf).open()
        await s.pick(button, {**sent(green_photo), "path": str(green_photo), "bytes": None})
        assert "meadow.png did not arrive; choose it again" in s.texts
        assert s.of(ft.ProgressBar) == []
        return s.client

    play(scene)


def test_choosing_nothing_changes_nothing(shelf):
    async def scene():
        s = await Scene(shelf).open()
        before = s.texts
        for button in (ENGLISH.choose, ENGLISH.open_model, ENGLISH.open_video):
            await s.pick(button, None)
        assert s.texts == before
        return s.client

    play(scene)


def test_a_broken_model_is_told_and_nothing_can_be_started(tmp_path):
    async def scene():
        s = await Scene(Shelf((tmp_path / "gone.tflite",))).open()
        assert "no artefact at" in s.told
        assert s.button(ENGLISH.start).disabled
        assert s.button(ENGLISH.choose).disabled
        return s.client

    play(scene)


def test_a_shelf_that_cannot_be_filled_is_told(tmp_path):
    (tmp_path / ".m.tflite.half.tflite").touch()  # of a program that was killed

    def no_shelf():
        from evit_app.choices import models_at

        return Shelf(models_at((tmp_path,)))

    async def scene():
        s = await Scene(no_shelf).open()
        assert "holds no .tflite file; evit-edge convert writes one" in s.told
        return s.client

    play(scene)


def test_a_broken_model_that_is_opened_leaves_the_old_one_in_use(shelf, green_photo):
    async def scene():
        s = await Scene(shelf).open()
        await s.pick(ENGLISH.open_model, sent(green_photo))
        assert "meadow.png" in s.told
        assert s.choice(ENGLISH.model_choice).value == str(shelf.paths[0])
        await s.pick(ENGLISH.choose, sent(green_photo))
        assert len(s.of(ft.ProgressBar)) == 3
        return s.client

    play(scene)


def test_a_model_that_is_opened_is_used_and_offered(shelf, model, green_photo, tmp_path):
    other = tmp_path / "other.tflite"
    other.write_bytes(model.read_bytes())

    async def scene():
        s = await Scene(shelf).open()
        await s.pick(ENGLISH.open_model, sent(other))
        assert "other.tflite" in s.told
        assert [option.text for option in s.choice(ENGLISH.model_choice).options] == [
            "colours.tflite",
            "other.tflite",
        ]
        s.app.close()
        assert not shelf.paths[1].exists()
        return s.client

    play(scene)


def test_a_live_source_shows_frames_labels_and_four_rates(shelf, photos):
    async def scene():
        s = await Scene(shelf, photos, web=False).open()
        await s.start()
        await s.until_frames(3)
        assert Image.open(io.BytesIO(s.client.frames[-1][1:])).size == (64, 48)
        assert [bar.semantics_label for bar in s.of(ft.ProgressBar)] == ["green", "blue", "red"]
        await s.until(lambda: sum("/s" in text for text in s.texts) == 4)
        for name in (ENGLISH.rate_camera, ENGLISH.rate_inference, ENGLISH.rate_end_to_end, ENGLISH.rate_display):
            assert name in s.texts
        assert "frames dropped" in s.told
        assert "picture to label" in s.told
        assert "Live: meadows" in s.texts
        await s.click(ENGLISH.stop)
        assert ENGLISH.stopped in s.texts
        return s.client

    play(scene)


def test_pause_holds_the_picture_and_resume_goes_on(shelf, photos):
    async def scene():
        s = await Scene(shelf, photos, web=False).open()
        await s.start()
        await s.until_frames(2)
        await s.click(ENGLISH.pause)
        assert ENGLISH.paused in s.texts
        await asyncio.sleep(0.5)  # what was on its way arrives
        held = len(s.client.frames)
        await asyncio.sleep(0.5)
        assert len(s.client.frames) == held
        await s.click(ENGLISH.resume)
        await s.until_frames(2)
        await s.click(ENGLISH.stop)
        return s.client

    play(scene)


def test_flip_mirror_and_turn_reach_the_picture(shelf, tmp_path):
    folder = tmp_path / "corner"
    folder.mkdir()
    corner = np.zeros((48, 64, 3), np.uint8)
    corner[8:20, 16:28] = 255  # top left, inside the square that the model sees
    Image.fromarray(corner).save(folder / "a.png")

    def brightest(client):
        grey = np.asarray(Image.open(io.BytesIO(client.frames[-1][1:])).convert("L"), np.float32)
        height, width = grey.shape
        square = min(height, width) // 2 - 6  # within the drawn square, which is bright too
        y, x = height // 2, width // 2
        inner = grey[y - square : y + square, x - square : x + square]
        top = inner[:square].sum() > inner[square:].sum()
        left = inner[:, :square].sum() > inner[:, square:].sum()
        return (height, width), bool(top), bool(left)

    async def scene():
        s = await Scene(shelf, sources_here((folder,))[:1], web=False).open()
        await s.start()
        await s.until_frames(2)
        seen = [brightest(s.client)]
        for name in (ENGLISH.flip, ENGLISH.mirror, ENGLISH.turn):
            await s.click(name)
            await s.until_frames(4)
            seen.append(brightest(s.client))
        await s.click(ENGLISH.stop)
        assert seen[:3] == [((48, 64), True, True), ((48, 64), False, True), ((48, 64), False, False)]
        assert seen[3][0] == (64, 48)
        return s.client

    play(scene)


def test_two_models_side_by_side_agree_on_the_same_frames(model, photos, tmp_path):
    other = tmp_path / "other.tflite"
    other.write_bytes(model.read_bytes())

    async def scene():
        s = await Scene(Shelf((model, other)), photos, web=False).open()
        await s.choose(ENGLISH.compare, str(other))
        await s.start()
        await s.until_frames(2)
        assert [bar.semantics_label for bar in s.of(ft.ProgressBar)] == ["green", "blue", "red"] * 2
        await s.until(lambda: "same label on 100.0 % of" in s.told)
        assert {"colours.tflite", "other.tflite"} <= set(s.texts)
        await s.choose(ENGLISH.compare, "")
        await s.until_frames(2)
        assert len(s.of(ft.ProgressBar)) == 3
        await s.click(ENGLISH.stop)
        return s.client

    play(scene)


def test_a_snapshot_has_its_labels_burnt_in(shelf, photos):
    async def scene():
        s = await Scene(shelf, photos, web=False).open()
        await s.start()
        await s.until_frames(2)
        await s.click(ENGLISH.snapshot)
        (saved,) = s.client.saved
        picture = np.asarray(Image.open(io.BytesIO(saved)).convert("RGB"))
        assert picture.shape == (48, 64, 3)
        assert picture[20, 32].argmax() == 1
        assert picture[-4].max() < 120 or picture[-12:].std() > 20  # a dark strip with light letters
        await s.click(ENGLISH.stop)
        return s.client

    play(scene)


def test_below_the_threshold_the_page_says_not_sure(shelf, photos):
    async def scene():
        s = await Scene(shelf, photos, web=False).open()
        await s.start()
        await s.until_frames(2)
        (slider,) = s.of(ft.Slider)
        slider.value = 100
        await s.session.dispatch_event(slider._i, "change", None)
        assert "Not sure below 100 %" in s.texts
        await s.until(lambda: ENGLISH.not_sure in s.texts)
        (switch,) = s.of(ft.Switch)
        switch.value = False
        await s.session.dispatch_event(switch._i, "change", None)
        await s.until_frames(2)
        await s.click(ENGLISH.stop)
        return s.client

    play(scene)


def test_a_source_that_cannot_be_opened_is_told_and_another_can_be_chosen(shelf, photos):
    gone = SourceChoice(SourceKind.VIDEO, "/nowhere/gone.mp4", "gone.mp4")

    async def scene():
        s = await Scene(shelf, (gone, *photos), web=False).open()
        await s.click(ENGLISH.start)
        await s.until(lambda: "is no video that can be read" in s.told)
        assert ENGLISH.start in [one.content for one in s.of(ft.Button)]
        await s.choose(ENGLISH.source, photos[0].key)
        await s.start()
        await s.until_frames(2)
        assert "is no video" not in s.told
        await s.click(ENGLISH.stop)
        return s.client

    play(scene)


def test_without_any_source_a_video_or_a_picture_is_offered(shelf):
    async def scene():
        s = await Scene(shelf, (), web=False).open()
        await s.click(ENGLISH.start)
        await s.until(lambda: ENGLISH.no_camera in s.told)
        assert ENGLISH.offer in s.told
        return s.client

    play(scene)


def half_green():
    """A JPEG whose left half is green."""
    picture = np.full((48, 64, 3), (200, 20, 60), np.uint8)
    picture[:, :32] = (20, 200, 60)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=95)
    return stream.getvalue()


class Script:
    """A browser's end of the camera's socket: answers as the page's script does."""

    def __init__(self, cameras=(), refusal=None):
        self.cameras, self.refusal, self.told = list(cameras), refusal, []
        self.inbox, self.link = asyncio.Queue(), CameraLink()
        page_link.set(self.link)
        self.inbox.put_nowait({"type": "websocket.connect"})
        self.serving = asyncio.create_task(self.link.serve(self.inbox.get, self.receive))

    async def receive(self, message):
        if message["type"] != "websocket.send":
            return
        told = json.loads(message["text"])
        self.told.append(told)
        if "start" not in told:
            return
        run, wanted = told["run"], told["start"]
        if self.refusal is not None:
            self.tell(run=run, failed=self.refusal[0], reason=self.refusal[1])
        else:
            self.tell(run=run, started=wanted or self.cameras[0], names=self.cameras)

    def tell(self, **what):
        self.inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(what)})

    def show(self, jpeg):
        """Send a picture that was taken now."""
        run = next(told["run"] for told in reversed(self.told) if "start" in told)
        content = struct.pack("<Id", run, time.perf_counter()) + jpeg
        self.inbox.put_nowait({"type": "websocket.receive", "bytes": content})
        return run

    async def show_until(self, condition):
        for _ in range(500):
            if condition():
                return
            self.show(half_green())
            await asyncio.sleep(0.05)
        raise AssertionError("it did not come")

    async def leave(self):
        self.inbox.put_nowait({"type": "websocket.disconnect"})
        await self.serving


def test_a_browsers_camera_is_shown_as_it_is_and_named(shelf):
    async def scene():
        script = Script(["Webcam", "Other"])
        s = await Scene(shelf).open()
        await s.start()
        await s.until(lambda: "Live: Webcam" in s.texts)
        await script.show_until(lambda: len(s.client.frames) >= 2)
        frame = np.asarray(Image.open(io.BytesIO(s.client.frames[-1][1:])))
        assert frame[24, 4].argmax() == 1
        assert frame[24, 60].argmax() == 0
        options = s.choice(ENGLISH.source).options
        assert [option.text for option in options] == ["Webcam", "Other"]
        await s.choose(ENGLISH.source, options[1].key)
        await s.until(lambda: "Live: Other" in s.texts)
        await s.click(ENGLISH.stop)
        await s.until(lambda: script.told[-1].get("stop") is True)
        await script.leave()
        return s.client

    play(scene)


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (("NotFoundError", "Requested device not found"), ENGLISH.no_camera),
        (("NotAllowedError", "the user said no"), ENGLISH.camera_refused),
        (("NotReadableError", "in use"), "in use"),
    ],
    ids=["none", "refused", "in-use"],
)
def test_a_browser_without_a_usable_camera_is_told(shelf, refusal, told):
    async def scene():
        script = Script(refusal=refusal)
        s = await Scene(shelf).open()
        await s.click(ENGLISH.start)
        await s.until(lambda: told in s.told)
        assert ENGLISH.offer in s.told
        await script.leave()
        return s.client

    play(scene)


@pytest.mark.parametrize("by", ["track", "connection", "garbage"])
def test_a_camera_that_is_unplugged_is_told(shelf, by):
    async def scene():
        script = Script(["Webcam"])
        s = await Scene(shelf).open()
        await s.start()
        await s.until(lambda: "Live: Webcam" in s.texts)
        await script.show_until(lambda: len(s.client.frames) >= 2)
        if by == "track":
            script.tell(run=script.show(half_green()), failed="TrackEnded", reason="it ended")
        elif by == "connection":
            await script.leave()
        else:
            script.show(b"no picture at all")
        told = {"track": "TrackEnded: it ended", "connection": "was closed", "garbage": "that are no picture"}[by]
        await s.until(lambda: told in s.told)
        assert ENGLISH.stopped in s.texts
        if by != "connection":
            await script.leave()
        return s.client

    play(scene)


CAMERA = {"name": "Back", "lens_direction": "back", "sensor_orientation": 90, "lens_type": "unknown"}


def phone(scene):
    scene.page.platform = ft.PagePlatform.ANDROID
    return scene


def test_a_phones_image_stream_is_turned_upright(shelf):
    async def scene():
        s = phone(Scene(shelf, web=False))
        s.client.cameras = [CAMERA]
        await s.open()
        await s.start()
        await s.until(lambda: ("start_image_stream", None) in s.client.asked)
        (camera,) = [one for one in controls_of(s.page.controls) if type(one).__name__ == "Camera"]
        picture = {"width": 64, "height": 48, "format": None, "encoded_format": "jpeg", "bytes": half_green()}
        for _ in range(3):
            await s.session.dispatch_event(camera._i, "stream_image", picture)
            await s.until_frames(1)
        frame = np.asarray(Image.open(io.BytesIO(s.client.frames[-1][1:])))
        assert frame.shape == (64, 48, 3)
        assert frame[4, 24].argmax() == 1
        assert frame[60, 24].argmax() == 0
        await s.click(ENGLISH.stop)
        return s.client

    play(scene)


@pytest.mark.parametrize(
    ("cameras", "refusal", "told"),
    [
        ([], None, ENGLISH.no_camera),
        ([CAMERA], "CameraException(CameraAccessDenied, the user said no)", ENGLISH.camera_refused),
    ],
    ids=["none", "refused"],
)
def test_a_phone_without_a_usable_camera_is_told(shelf, cameras, refusal, told):
    async def scene():
        s = phone(Scene(shelf, web=False))
        s.client.cameras, s.client.refusal = cameras, refusal
        await s.open()
        await s.click(ENGLISH.start)
        await s.until(lambda: told in s.told)
        return s.client

    play(scene)


def test_a_closed_tab_stops_everything_and_a_reload_goes_on(shelf, photos):
    async def scene():
        s = await Scene(shelf, photos, web=False).open()
        await s.start()
        await s.until_frames(2)
        await s.session.dispatch_event(s.page._i, "app_lifecycle_state_change", {"state": "hide"})
        await s.session.disconnect(60)
        assert [one.name for one in threading.enumerate() if one.name.startswith("evit-")] == []
        await s.session.connect(s.client)
        assert s.page.app_visible
        await s.until_frames(2)
        await s.session.disconnect(60)
        return s.client

    play(scene)


def test_the_language_can_be_changed(shelf, photos):
    async def scene():
        s = await Scene(shelf, photos, web=False).open()
        await s.start()
        await s.until_frames(1)
        await s.choose(ENGLISH.language_choice, "ko")
        assert KOREAN.nothing_chosen in s.texts
        assert s.button(KOREAN.start)
        return s.client

    play(scene)


def test_the_theme_can_be_changed(shelf):
    async def scene():
        s = await Scene(shelf).open()
        await s.click(ENGLISH.theme)
        first = s.page.theme_mode
        await s.click(ENGLISH.theme)
        assert {first, s.page.theme_mode} == {ft.ThemeMode.DARK, ft.ThemeMode.LIGHT}
        return s.client

    play(scene)


def test_every_control_has_words_for_a_screen_reader(shelf):
    async def scene():
        s = await Scene(shelf).open()
        assert all(one.content.visible for one in s.of(ft.Semantics))  # else Flet shows an error in its place
        assert all(one.tooltip for one in s.of(ft.IconButton))
        assert all(isinstance(one.content, str) and one.content for one in s.of(ft.Button))
        lists = [one for one in s.of(ft.Semantics) if isinstance(one.content, ft.Dropdown)]
        assert [one.label for one in lists] == [one.label for one in s.of(ft.Dropdown)]
        (picture,) = [one for one in s.of(ft.Semantics) if one.image]
        assert picture.label == ENGLISH.live_picture
        return s.client

    play(scene)


def fewer_runs(monkeypatch, runs=20):
    """The page's own request, shorter or longer."""
    request = partial(dataclasses.replace, min_runs=runs, min_time_s=0.05, cold_start=False, peaks=False)
    monkeypatch.setattr(benchmark_panel, "request_for", lambda sessions: request(request_for(sessions)))


def test_a_benchmark_stops_the_camera_shows_its_report_and_starts_it_again(model, photos, tmp_path, monkeypatch):
    fewer_runs(monkeypatch)
    other = tmp_path / "other.tflite"
    other.write_bytes(model.read_bytes())

    async def scene():
        s = await Scene(Shelf((model, other)), photos, web=False).open()
        await s.choose(ENGLISH.compare, str(other))
        await s.start()
        await s.until_frames(2)
        await s.click(ENGLISH.benchmark)
        (table, steps) = s.of(ft.DataTable)
        assert [column.label.value for column in table.columns][:3] == ["model", "median ms", "p90"]
        assert [row.cells[0].content.value for row in table.rows] == ["colours.tflite", "other.tflite"]
        assert "preprocess" in [column.label.value for column in steps.columns]
        await s.until_frames(2)  # the camera goes on
        assert not s.button(ENGLISH.benchmark).disabled
        await s.click(ENGLISH.benchmark_save.format(kind="JSON"))
        await s.click(ENGLISH.benchmark_save.format(kind="HTML"))
        written, page = s.client.saved
        (tmp_path / "report.json").write_bytes(written)
        report = read_report(tmp_path / "report.json")
        assert [entry.name for entry in report.models] == ["colours.tflite", "other.tflite"]
        assert page.startswith(b"<!doctype html>")
        await s.click(ENGLISH.stop)
        return s.client

    play(scene)


@pytest.mark.parametrize("by", ["button", "closed-tab", "language", "program"])
def test_a_benchmark_can_be_ended_and_leaves_nothing_running(shelf, photos, monkeypatch, by):
    fewer_runs(monkeypatch, runs=10**9)

    async def scene():
        s = await Scene(shelf, photos, web=False).open()
        await s.start()
        await s.until_frames(1)
        begun = asyncio.create_task(s.click(ENGLISH.benchmark))
        await s.until(lambda: ENGLISH.phase_warm_up in s.told)
        names = [one.name for one in threading.enumerate() if one.name.startswith("evit-")]
        assert names == ["evit-benchmark"]
        assert s.button(ENGLISH.start).disabled
        if by == "button":
            await s.click(ENGLISH.benchmark_cancel)
        elif by == "closed-tab":
            await s.session.disconnect(60)
        elif by == "language":
            await s.choose(ENGLISH.language_choice, "ko")
        else:
            await asyncio.to_thread(s.app.close)
        await begun
        assert [one.name for one in threading.enumerate() if one.name.startswith("evit-")] == []
        if by == "button":
            assert "PARTIAL: the benchmark was stopped" in s.told
            assert not s.button(ENGLISH.start).disabled
        return s.client

    play(scene)


def fields(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_everything_with_the_same_figures():
    for name, english in dataclasses.asdict(ENGLISH).items():
        korean = getattr(KOREAN, name)
        assert english.strip(), name
        assert korean.strip(), name
        assert fields(english) == fields(korean), name


def test_every_letter_of_the_texts_is_in_the_font():
    tools = pytest.importorskip("fontTools.ttLib")
    known = set(tools.TTFont(ASSETS / "fonts" / "EvitSans.ttf").getBestCmap())
    letters = {letter for texts in LANGUAGES for text in vars(texts).values() for letter in text}
    assert {letter for letter in letters if ord(letter) not in known} == set()
