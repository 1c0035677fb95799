import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evit_app.frames import Orientation, SourceError
from evit_app.sources import Camera, HandedOver, Pacer, PhotoFolder, VideoFile, list_cameras

SIZE = (64, 48)
COLOURS = [(220, 30, 30), (30, 200, 30), (30, 30, 220)]


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def video(tmp_path):
    """Three frames, red, green and blue, at 25 a second."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "colours.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, SIZE)
    for red, green, blue in COLOURS:
        writer.write(np.full((SIZE[1], SIZE[0], 3), (blue, green, red), np.uint8))
    writer.release()
    return path


def test_a_video_is_rgb_paced_and_repeats(video, clock):
    source = VideoFile(video, clock=clock, sleep=clock.sleep)
    frames = [source.read() for _ in range(7)]
    source.close()
    assert [int(frame.image.mean(axis=(0, 1)).argmax()) for frame in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert frames[0].image.shape == (48, 64, 3)
    np.testing.assert_allclose([frame.captured_s for frame in frames], np.arange(7) / 25, atol=1e-9)
    with pytest.raises(SourceError, match="is closed"):
        source.read()


def test_a_video_can_be_turned(video, clock):
    source = VideoFile(video, orientation=Orientation(quarter_turns=1), clock=clock, sleep=clock.sleep)
    assert source.read().image.shape == (64, 48, 3)
    source.close()
    source.close()


@pytest.mark.parametrize("name", ["gone.mp4", "notes.mp4"], ids=["missing", "text"])
def test_what_is_no_video_is_named(tmp_path, name):
    (tmp_path / "notes.mp4").write_text("milk, bread")
    with pytest.raises(SourceError, match=name):
        VideoFile(tmp_path / name)


def test_each_photo_is_looked_at_for_a_while(tmp_path, clock):
    for name, colour in zip("abc", COLOURS, strict=True):
        Image.new("RGB", SIZE, colour).save(tmp_path / f"{name}.png")
    for name in ("notes.txt", "._a.png"):
        (tmp_path / name).write_text("milk, bread")
    source = PhotoFolder(tmp_path, rate=10, each_s=0.2, clock=clock, sleep=clock.sleep)
    frames = [source.read() for _ in range(8)]
    assert [tuple(frame.image[0, 0]) for frame in frames] == [COLOURS[i] for i in (0, 0, 1, 1, 2, 2, 0, 0)]
    np.testing.assert_allclose(np.diff([frame.captured_s for frame in frames]), 0.1)


@pytest.mark.parametrize("name", ["", "gone"], ids=["empty", "missing"])
def test_a_folder_without_photos_is_refused(tmp_path, name):
    with pytest.raises(SourceError, match=r"holds no photos; \.bmp"):
        PhotoFolder(tmp_path / name)


def test_a_photo_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bad.jpg").write_text("milk, bread")
    with pytest.raises(SourceError, match=r"bad\.jpg.*not an image"):
        PhotoFolder(tmp_path).read()


def jpeg(colour):
    stream = io.BytesIO()
    Image.new("RGB", SIZE, colour).save(stream, "JPEG")
    return stream.getvalue()


def test_of_what_is_handed_over_the_latest_is_read(clock):
    source = HandedOver("phone", clock=clock)
    for time_s, colour in enumerate(COLOURS):
        source.hand_over(jpeg(colour), time_s)
    clock.now = 2.5
    frame = source.read()
    assert int(frame.image.mean(axis=(0, 1)).argmax()) == 2
    assert (frame.captured_s, frame.read_s) == (2, 0.5)
    assert source.read() is None


def test_a_mirrored_camera_is_put_right(clock):
    half = np.zeros((*SIZE[::-1], 3), np.uint8)
    half[:, : SIZE[0] // 2] = 255
    stream = io.BytesIO()
    Image.fromarray(half).save(stream, "JPEG")
    source = HandedOver("laptop", orientation=Orientation(mirrored=True), clock=clock)
    source.hand_over(stream.getvalue(), 0.0)
    image = source.read().image
    assert image[:, -1].min() > 200
    assert image[:, 0].max() < 50


def test_a_camera_that_fails_says_why(clock):
    source = HandedOver("phone", clock=clock)
    source.fail("the browser refused the camera")
    with pytest.raises(SourceError, match="refused the camera"):
        source.read()


def test_rubbish_that_is_handed_over_is_an_error(clock):
    source = HandedOver("phone", clock=clock)
    source.hand_over(b"milk", 0.0)
    with pytest.raises(SourceError, match=r"phone: .*no picture"):
        source.read()


def test_a_camera_that_is_not_there_is_told():
    pytest.importorskip("cv2")
    with pytest.raises(SourceError, match=r"camera 93 cannot be opened.*choose another source"):
        Camera(93)


def test_cameras_are_listed_with_names():
    for index, name in list_cameras():
        assert index >= 0
        assert name


@given(rate=st.floats(1, 240), work=st.lists(st.floats(0, 0.2), min_size=2, max_size=30))
def test_a_pacer_never_runs_ahead_and_never_hurries_to_catch_up(rate, work):
    clock = Clock()
    pacer = Pacer(rate, clock, clock.sleep)
    starts = []
    for duration in work:
        pacer.wait()
        starts.append(clock.now)
        clock.sleep(duration)
    # One call may follow a late one early, by what the late one was late; never a burst of more.
    assert len(starts) <= (starts[-1] - starts[0]) * rate + 2
    spans = np.subtract(starts[2:], starts[:-2])
    assert (spans > 1 / rate - 1e-9).all()
