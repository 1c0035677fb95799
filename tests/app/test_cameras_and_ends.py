"""A machine's cameras by a stand-in for OpenCV, and the ends of things: nothing chosen, too late."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_models import write_tflite

from evit_app import pictures, program, sources
from evit_app.choices import Shelf, SourceChoice, SourceKind, open_source, sources_here
from evit_app.measuring import Measurement
from evit_app.sources import Camera, PhotoFolder, SourceError, VideoFile, list_cameras
from evit_edge.errors import EvitEdgeError, MissingExtraError, RequestError
from evit_edge.preprocessing import Preprocessing


class Device:
    """OpenCV's ``VideoCapture``: blue pictures until it is unplugged; every second one is torn."""

    def __init__(self, index: int) -> None:
        self.opened, self.plugged, self.torn, self.settings = index < 3, True, False, {}

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opened

    def set(self, key: int, value: int) -> None:
        self.settings[key] = value

    def grab(self) -> bool:
        return self.plugged

    def retrieve(self):
        self.torn = not self.torn
        return self.torn, np.full((4, 6, 3), (255, 0, 0), np.uint8)

    def release(self) -> None:
        self.opened = False


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(
        VideoCapture=Device,
        CAP_PROP_FRAME_WIDTH=3,
        CAP_PROP_FRAME_HEIGHT=4,
        CAP_PROP_BUFFERSIZE=38,
        COLOR_BGR2RGB=4,
        cvtColor=lambda bgr, _: np.ascontiguousarray(bgr[..., ::-1]),
    )
    monkeypatch.setattr(sources, "_opencv", lambda: found)
    monkeypatch.setattr(sources, "list_cameras", lambda: [(1, "a webcam")])


def test_a_camera_gives_rgb_of_the_size_asked_for_until_it_is_unplugged(opencv) -> None:
    moments = iter([10.0, 10.5, 11.0, 12.0])
    camera = Camera(1, size=(320, 240), clock=lambda: next(moments))
    assert camera.name == "a webcam"
    device = camera._device
    assert device.settings == {3: 320, 4: 240, 38: 1}
    frame = camera.read()
    assert frame is not None
    assert frame.captured_s == 10
    np.testing.assert_array_equal(frame.image, np.full((4, 6, 3), (0, 0, 255)))
    assert camera.read() is None  # a torn one is none, and no end
    device.plugged = False
    with pytest.raises(SourceError, match="a webcam sends no pictures any more"):
        camera.read()
    camera.close()
    assert not device.opened


def test_a_camera_that_does_not_open_is_named_by_its_number(opencv) -> None:
    with pytest.raises(SourceError, match="camera 5 cannot be opened"):
        Camera(5)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_where_cameras_cannot_be_listed_the_first_is_offered(platform: str, monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert list_cameras() == [(0, "camera 0")]


def test_a_cameras_second_node_is_no_camera(tmp_path: Path, monkeypatch) -> None:
    for node, name, index in (
        ("video0", "Front\n", "0\n"),
        ("video1", "Front\n", "1\n"),
        ("video4", "Back\n", None),
    ):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(name)
        if index is not None:
            (tmp_path / node / "index").write_text(index)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sources, "Path", lambda _: tmp_path)
    assert list_cameras() == [(0, "Front"), (4, "Back")]


def test_each_kind_of_source_is_opened(opencv, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "a.png")
    assert isinstance(open_source(SourceChoice(SourceKind.CAMERA, "1", "a webcam")), Camera)
    assert isinstance(
        open_source(SourceChoice(SourceKind.FOLDER, str(tmp_path / "photos"), "photos")), PhotoFolder
    )
    browsers = next(kind for kind in SourceKind if kind.value not in ("camera", "video", "folder"))
    with pytest.raises(RequestError, match="a camera, a video or a folder of this machine is accepted"):
        open_source(SourceChoice(browsers, "", "the browser's"))


def test_folders_and_videos_are_told_apart_and_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    found = sources_here((tmp_path, tmp_path / "clip.mp4"))[:2]
    assert [one.kind for one in found] == [SourceKind.FOLDER, SourceKind.VIDEO]
    with pytest.raises(RequestError, match=r"no video and no folder at .*gone\.mp4; --source takes either"):
        sources_here((tmp_path / "gone.mp4",))


def test_a_video_without_a_picture_and_one_that_is_closed(tmp_path: Path) -> None:
    video = VideoFile.__new__(VideoFile)
    video._path = tmp_path / "v.mp4"
    rewound: list[tuple[int, int]] = []
    video._file = SimpleNamespace(read=lambda: (False, None), set=lambda *given: rewound.append(given))
    video._cv2 = SimpleNamespace(CAP_PROP_POS_FRAMES=1)
    with pytest.raises(SourceError, match=r"v\.mp4 holds no picture that can be read"):
        video._next()
    assert rewound == [(1, 0)]
    video._file = None
    with pytest.raises(SourceError, match=r"v\.mp4 is closed"):
        video._next()


def test_what_a_browser_hands_over_lies_until_the_shelf_is_closed(tmp_path: Path) -> None:
    shelf = Shelf((write_tflite(tmp_path / "m.tflite"),), None)
    first, second = shelf.receive("../x\\clip.mp4", b"1"), shelf.receive("clip.mp4", b"2")
    assert (first.name, second.name) == ("clip.mp4", "clip.mp4")
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    assert first.parent.parent == second.parent.parent
    shelf.put(shelf.paths[0])
    assert len(shelf.paths) == 1  # offered once
    shelf.close()
    assert not first.exists()
    Shelf((tmp_path / "m.tflite",), None).close()  # nothing was received


def test_a_large_frame_is_made_small_and_a_small_one_left(coffee: np.ndarray) -> None:
    rule = Preprocessing(image_size=224)
    large = np.tile(coffee, (4, 4, 1))
    for image, longest in ((large, pictures.LIVE_SIDE), (coffee[:100, :120], 120)):
        with Image.open(io.BytesIO(pictures.live_jpeg(image, rule))) as shown:
            assert max(shown.size) == longest
            assert shown.width / shown.height == pytest.approx(image.shape[1] / image.shape[0], rel=0.02)


def test_a_window_needs_a_display_and_flets_window(monkeypatch) -> None:
    monkeypatch.setattr("flet.utils.platform_utils.is_linux_server", lambda: True)
    with pytest.raises(RequestError, match="a window was asked for and there is no display; use --web"):
        program._check_desktop()
    monkeypatch.setattr("flet.utils.platform_utils.is_linux_server", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="flet-desktop is needed for a window: pip install flet-desktop=="):
        program._check_desktop()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    program._check_desktop()


def test_a_measurement_settles_once_and_not_after_its_page_is_gone() -> None:
    measurement = Measurement.__new__(Measurement)
    measurement._loop = measurement._done = measurement._told = None
    measurement._settle(None, EvitEdgeError("late"))  # no page any more: nothing happens

    async def page() -> None:
        measurement._loop = asyncio.get_running_loop()
        measurement._settle(None, EvitEdgeError("before anybody waits"))
        await asyncio.sleep(0)
        measurement._done = measurement._loop.create_future()
        measurement._settle(None, EvitEdgeError("first"))
        measurement._settle(None, EvitEdgeError("second"))
        with pytest.raises(EvitEdgeError, match=r"^first$"):
            await measurement._done

    asyncio.run(page())
    measurement._settle(None, EvitEdgeError("the loop is closed"))
