"""A runner apart whose process answers what it should not, and where there is no process at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny

from evit_edge.errors import ArtefactError, MissingExtraError, RequestError
from evit_edge.models import sources
from evit_edge.runtime import engines, isolated, open_runner
from evit_edge.runtime.apart import can_run_apart
from evit_edge.runtime.isolated import IsolatedRunner, close, is_alive, open_isolated

PICTURE = np.zeros((1, 32, 32, 3), np.uint8)


@pytest.fixture
def runner(tmp_path: Path):
    if not can_run_apart():
        pytest.skip("this system starts no processes")
    found = open_isolated(tiny.write_tflite(tmp_path / "m.tflite"))
    assert isinstance(found, IsolatedRunner)
    yield found
    close(found)
    assert not is_alive(found)


@pytest.mark.parametrize(
    ("answer", "body"), [({"shape": [1, 4]}, bytes(12)), ({"shape": [1, 3]}, bytes(8)), ({}, bytes(12))]
)
def test_scores_of_another_shape_are_no_scores(runner, answer: dict, body: bytes, monkeypatch) -> None:
    monkeypatch.setattr(runner._apart, "ask", lambda *_, **__: (answer, bytearray(body)))
    with pytest.raises(ArtefactError, match=r"scores of shape .*; \(1, 3\) expected"):
        runner.run(PICTURE)


def test_a_remark_of_the_process_is_passed_on_and_taken_back(runner, monkeypatch) -> None:
    for told, kept in (("falls back", "falls back"), (7, "7"), (None, None)):
        answer = {"shape": [1, 3], "remark": told}
        monkeypatch.setattr(runner._apart, "ask", lambda *_, answer=answer, **__: (answer, bytearray(12)))
        runner.run(PICTURE)
        assert runner.info.remark == kept


def test_a_description_that_is_none_is_nonsense(runner) -> None:
    with pytest.raises(ArtefactError, match="the process that opened it answered nonsense"):
        runner._described({"path": 3})


def test_no_threads_are_refused_before_anything_starts(tmp_path: Path) -> None:
    for door in (open_isolated, open_runner):
        with pytest.raises(RequestError, match="0 threads given; at least 1 is needed"):
            door(tmp_path / "none.tflite", threads=0)


def test_a_checkpoint_from_the_hub_is_fetched_before_the_clock_runs(monkeypatch) -> None:
    monkeypatch.setattr(isolated, "can_run_apart", lambda: True)
    done: list[str] = []
    monkeypatch.setattr(sources, "resolve", lambda path: done.append(f"fetched {path}"))
    monkeypatch.setattr(isolated, "IsolatedRunner", lambda path, *_, **__: done.append(f"opened {path}"))
    open_isolated("hf:owner/name/weights.pth")
    assert done == ["fetched hf:owner/name/weights.pth", "opened hf:owner/name/weights.pth"]


def test_where_no_process_can_be_started_it_runs_in_this_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(isolated, "can_run_apart", lambda: False)
    found = open_isolated(tiny.write_tflite(tmp_path / "m.tflite"))
    assert not isinstance(found, IsolatedRunner)
    assert is_alive(found)
    close(found)  # nothing to end
    assert found.run(PICTURE).shape == (1, 3)


def test_a_checkpoint_states_its_own_input(m0_checkpoint: Path) -> None:
    from evit_edge.runtime import InputRange

    with pytest.raises(RequestError, match="is a checkpoint and states its own input; drop the input options"):
        open_runner(m0_checkpoint, input_range=InputRange.RAW)


def test_without_an_interpreter_its_installation_is_named(monkeypatch) -> None:
    monkeypatch.setattr(engines, "KNOWN", (("none", "no_such_interpreter"),))
    assert engines.installed_engines() == ()
    with pytest.raises(MissingExtraError, match="pip install ai-edge-litert"):
        engines.preferred_engine()


def test_an_interpreter_without_a_delegate_counts_no_partitions(tmp_path: Path, monkeypatch) -> None:
    path = tiny.write_tflite(tmp_path / "m.tflite")
    assert engines.delegate_partitions(path) is not None
    engine = engines.preferred_engine()
    monkeypatch.setattr(engines, "preferred_engine", lambda: replace(engine, delegates=False))
    assert engines.delegate_partitions(path) is None


def test_partitions_of_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"hello, world")
    for path in (tmp_path / "m.tflite", tmp_path / "none.tflite"):
        with pytest.raises(ArtefactError, match=r"is no usable \.tflite file"):
            engines.delegate_partitions(path)


@pytest.mark.parametrize(
    ("failure", "log", "reason"),
    [
        (ValueError("a\n b"), "INFO: hello", "a b"),
        (ValueError(""), "INFO: hello\nERROR: bad  op", "ERROR: bad op"),
        (ValueError(""), "INFO: hello", "nothing: most likely its values need too much memory"),
    ],
)
def test_an_engines_reason_is_one_line(failure: Exception, log: str, reason: str) -> None:
    assert engines._reason(failure, log) == reason
