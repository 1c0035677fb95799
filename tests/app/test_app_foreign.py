"""Models that kill their engine, in the app: a line on the page, and the next model works."""

import os
import signal

import numpy as np
import pytest
import tiny_models as tiny

from evit_app.choices import Shelf
from evit_app.session import Session
from evit_edge.errors import ArtefactError
from evit_edge.runtime.apart import can_run_apart
from evit_edge.runtime.checks import Limits
from evit_edge.runtime.isolated import IsolatedRunner

pytestmark = pytest.mark.skipif(not can_run_apart(), reason="this system starts no processes")

PICTURE = np.zeros((1, tiny.SIDE, tiny.SIDE, 3), np.uint8)


@pytest.mark.parametrize(
    ("bend", "reason"),
    [(tiny.wild_radius, "SIGSEGV"), (tiny.endless, "took more than 10 s"), (tiny.constant_input, "is a constant")],
    ids=["crash", "hang", "refused"],
)
def test_a_dangerous_model_is_told_and_the_app_goes_on(tmp_path, bend, reason):
    bad, good = tmp_path / "bad.tflite", tmp_path / "good.tflite"
    tiny.write_tflite(bad, bend)
    tiny.write_tflite(good)
    shelf = Shelf((good, bad), Limits(time_s=10.0))  # a crowded machine starts a process in seconds
    with pytest.raises(ArtefactError, match=rf"bad\.tflite.*{reason}"):
        shelf.session(bad)
    assert shelf.session(good).runner.run(PICTURE).shape == (1, 3)
    shelf.close()


def test_a_model_whose_process_died_is_opened_again(tmp_path):
    path = tiny.write_tflite(tmp_path / "m.tflite")
    shelf = Shelf((path,))
    first = shelf.session(path)
    assert shelf.session(path) is first
    assert isinstance(first.runner, IsolatedRunner)
    os.kill(first.runner.process_id, signal.SIGKILL)
    with pytest.raises(ArtefactError, match=r"m\.tflite: .* killed the process that ran it \(SIGKILL\)"):
        first.runner.run(PICTURE)
    second = shelf.session(path)
    assert second is not first
    assert second.runner.run(PICTURE).shape == (1, 3)
    shelf.close()
    assert not second.alive


def test_without_limits_a_model_runs_in_this_process(tmp_path):
    session = Session.open(tiny.write_tflite(tmp_path / "m.tflite"), limits=None)
    assert not isinstance(session.runner, IsolatedRunner)
    assert session.alive
    session.close()
