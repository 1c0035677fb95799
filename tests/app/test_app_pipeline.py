import threading

import numpy as np
import pytest

from evit_app.frames import Frame, Orientation, SourceError
from evit_app.labels import LabelRule
from evit_app.pipeline import Pipeline
from evit_edge.errors import ArtefactError, RequestError
from evit_edge.runtime import open_runner

GREEN, RED = (20, 200, 60), (200, 20, 60)


def picture(colour, size=(48, 64)):
    return np.full((*size, 3), colour, np.uint8)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Script:
    """A source that gives what a test says, at a steady pace."""

    name = "script"

    def __init__(self, clock, pictures, period_s=0.1):
        self.clock, self.pictures, self.period_s = clock, list(pictures), period_s
        self.closed = threading.Event()

    def read(self):
        if not self.pictures:
            raise SourceError("script: unplugged")
        item = self.pictures.pop(0)
        if item is None:
            return None
        self.clock.now += self.period_s
        return Frame(item, self.clock.now, 0.0)

    def close(self):
        self.closed.set()


class Slowed:
    """A real runner that takes as long as a test says."""

    def __init__(self, runner, clock, inference_s):
        self.runner, self.clock, self.inference_s = runner, clock, inference_s
        self.info = runner.info

    def run(self, images):
        self.clock.now += self.inference_s
        return self.runner.run(images)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def build(model, clock):
    runner = open_runner(model)

    def make(pictures, *inference_s, **options):
        runners = tuple(Slowed(runner, clock, seconds) for seconds in inference_s or (0.02,))
        return Pipeline(Script(clock, pictures), runners, clock=clock, **options)

    return make


def test_a_frame_gets_labels_and_its_times(build):
    pipeline = build([picture(GREEN)])
    assert pipeline.capture()
    assert pipeline.infer()
    labelled = pipeline.take(0)
    (reading,) = labelled.readings
    assert [p.label for p in reading.predictions] == ["green", "blue", "red"]
    assert (reading.sure, reading.top1) == (True, "green")
    assert labelled.stages.inference_s == pytest.approx(0.02)
    assert labelled.stages.delay_s == pytest.approx(0.02)
    assert pipeline.take(0) is None


def test_the_latest_frame_wins_and_what_it_replaces_is_counted(build):
    pipeline = build([picture(GREEN), picture(GREEN), picture(RED)])
    for _ in range(3):
        pipeline.capture()
    pipeline.infer()
    assert pipeline.take(0).readings[0].predictions[0].label == "red"
    assert not pipeline.infer(0)
    figures = pipeline.figures()
    assert (figures.captured, figures.dropped) == (3, 2)


def test_four_rates_that_are_four_different_things(build, clock):
    pipeline = build([picture(GREEN)] * 12, 0.02)
    shown = 0
    for i in range(12):
        pipeline.capture()
        if i % 2:  # every second frame reaches the model, every fourth the screen
            pipeline.infer()
            labelled = pipeline.take(0)
            if i % 4 == 1:
                clock.now += 0.01
                pipeline.shown(labelled)
                shown += 1
    rates = pipeline.figures().rates
    # 12 frames of 0.1 s, 6 runs of 0.02 s and 3 answers of the screen of 0.01 s pass on the one clock.
    assert rates.camera == pytest.approx(11 / (11 * 0.1 + 5 * 0.02 + 3 * 0.01))
    assert rates.inference == pytest.approx(50)
    assert rates.end_to_end == pytest.approx(5 / (10 * 0.1 + 5 * 0.02 + 3 * 0.01))
    assert rates.display == pytest.approx((shown - 1) / (8 * 0.1 + 4 * 0.02 + 2 * 0.01))
    assert pipeline.figures().display_s == pytest.approx(0.01)


def test_rates_go_when_nothing_happens_any_more(build, clock):
    pipeline = build([picture(GREEN)] * 5)
    for _ in range(5):
        pipeline.capture()
        pipeline.infer()
    assert None not in (pipeline.figures().rates.camera, pipeline.figures().rates.inference)
    clock.now += 10
    rates = pipeline.figures().rates
    assert (rates.camera, rates.inference, rates.end_to_end, rates.display) == (None, None, None, None)


def test_a_paused_pipeline_lets_frames_go_by(build):
    pipeline = build([picture(GREEN), picture(RED)])
    pipeline.paused = True
    assert not pipeline.capture()
    pipeline.paused = False
    pipeline.capture()
    pipeline.infer()
    assert pipeline.take(0).readings[0].top1 == "red"
    assert pipeline.figures().captured == 1


def test_the_user_turns_the_picture_that_the_model_sees(build):
    pipeline = build([picture(GREEN, (48, 64))], orientation=Orientation(quarter_turns=1))
    pipeline.capture()
    pipeline.infer()
    assert pipeline.take(0).image.shape == (64, 48, 3)


def test_labels_follow_slowly_while_smoothing_is_on(build):
    pictures = [picture(GREEN), picture(RED), picture(RED)]
    pipeline = build(pictures, rule=LabelRule(smoothing_s=10.0))
    tops = []
    for on in (True, True, False):
        pipeline.rule = LabelRule(smoothing_s=10.0 if on else None)
        pipeline.capture()
        pipeline.infer()
        reading = pipeline.take(0).readings[0]
        tops.append((reading.predictions[0].label, reading.top1))
    assert tops == [("green", "green"), ("green", "red"), ("red", "red")]


def test_below_the_threshold_it_is_not_sure(build):
    pipeline = build([picture((99, 100, 99))], rule=LabelRule(threshold=0.5))
    pipeline.capture()
    pipeline.infer()
    assert not pipeline.take(0).readings[0].sure


def test_two_models_see_the_same_frames(build):
    pipeline = build([picture(GREEN)] * 12, 0.06, 0.02)
    for _ in range(12):
        pipeline.capture()
        pipeline.infer()
    comparison = pipeline.figures().comparison
    assert (comparison.frames, comparison.agreement) == (12, 1.0)
    assert comparison.speed_ratio == pytest.approx(3)
    assert len(pipeline.take(0).readings) == 2


def test_no_model_is_refused(clock):
    with pytest.raises(RequestError, match="at least one"):
        Pipeline(Script(clock, []), (), clock=clock)


def wait_until(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not come")


def alive():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("evit-")}


def test_threads_label_frames_and_leave_nothing_behind(build):
    pipeline = build([picture(GREEN)] * 100_000)
    pipeline.start()
    labelled = [pipeline.take(5) for _ in range(3)]
    assert all(one.readings[0].top1 == "green" for one in labelled)
    pipeline.stop()
    pipeline.stop()
    assert not pipeline.running
    assert pipeline._source.closed.is_set()
    assert alive() == set()


def test_an_unplugged_camera_ends_the_run_and_is_told(build):
    pipeline = build([picture(GREEN), None, picture(GREEN)])
    pipeline.start()
    wait_until(lambda: pipeline.error is not None)
    pipeline.stop()
    assert "unplugged" in str(pipeline.error)
    assert pipeline._source.closed.is_set()
    assert alive() == set()


def test_a_model_that_breaks_while_running_ends_the_run_and_is_told(build, monkeypatch):
    pipeline = build([picture(GREEN)] * 100_000)

    def fail(images):
        raise ArtefactError("colours.tflite failed while running")

    monkeypatch.setattr(pipeline._runners[0], "run", fail)
    pipeline.start()
    wait_until(lambda: pipeline.error is not None)
    pipeline.stop()
    assert "failed while running" in str(pipeline.error)
    assert alive() == set()


def test_a_pipeline_that_never_started_can_be_stopped(build):
    pipeline = build([])
    pipeline.stop()
    assert pipeline.error is None
    assert alive() == set()
