import asyncio
import json
import threading
from dataclasses import replace

import jsonschema
import pytest

from evit_app import benchmark_panel
from evit_app.measuring import Measurement, request_for
from evit_app.session import Session
from evit_edge.benchmark import BenchmarkRequest, DeviceChoice, Status
from evit_edge.benchmark.report import read_report
from evit_edge.benchmark.request import Phase
from evit_edge.benchmark.schema import published_schema
from evit_edge.errors import ArtefactError, EvitEdgeError
from evit_edge.runtime.checks import Limits


def short(sessions):
    """The app's own request, with fewer runs."""
    return replace(request_for(sessions), min_runs=20, min_time_s=0.05, cold_start=False, peaks=False)


def endless(sessions):
    return replace(request_for(sessions), min_runs=10**9, cold_start=False, peaks=False)


def left():
    return [one.name for one in threading.enumerate() if one.name.startswith("evit-")]


def test_the_app_measures_what_the_command_line_measures_by_default(model):
    sessions = [Session.open(model, threads=2), Session.open(model, threads=2)]
    request = request_for(sessions)
    by_default = BenchmarkRequest((str(model), str(model)), threads=(2,), command=request.command, limits=Limits())
    assert request == by_default
    assert request.device == DeviceChoice()
    assert request.command.startswith("evit-edge benchmark colours.tflite colours.tflite --threads 2")


def test_a_report_comes_with_progress_of_each_step(model):
    told = []

    async def whole():
        return await Measurement(short([Session.open(model)]), told.append).run()

    report = asyncio.run(whole())
    assert report.status is Status.COMPLETE
    assert [entry.name for entry in report.models] == ["colours.tflite"]
    phases = list(dict.fromkeys(progress.phase for progress in told))
    assert phases == [Phase.LOAD, Phase.WARM_UP, Phase.MEASURE, Phase.STAGES]
    assert left() == []


def test_a_stopped_measurement_gives_what_it_has_and_ends_its_thread(model):
    async def whole():
        measurement = Measurement(endless([Session.open(model)]), lambda progress: measuring.set())
        measuring = asyncio.Event()
        running = asyncio.create_task(measurement.run())
        await measuring.wait()
        measurement.stop()
        return await running

    assert asyncio.run(whole()).status is Status.PARTIAL
    assert left() == []


def test_a_cancelled_wait_ends_the_measurement_too(model):
    async def whole():
        measurement = Measurement(endless([Session.open(model)]), lambda progress: measuring.set())
        measuring = asyncio.Event()
        running = asyncio.create_task(measurement.run())
        await measuring.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.to_thread(measurement.end)

    asyncio.run(whole())
    assert left() == []


def test_a_model_that_is_gone_is_told(model):
    session = Session.open(model)
    model.unlink()

    async def whole():
        with pytest.raises(ArtefactError, match="no artefact at"):
            await Measurement(short([session]), lambda progress: None).run()

    asyncio.run(whole())


def test_what_the_engine_raises_is_handed_over(model):
    """A broken progress callback raises inside the thread, as an engine may."""

    class Broken(Measurement):
        def _tell(self, progress):
            raise ZeroDivisionError("inside")

    async def whole():
        with pytest.raises(EvitEdgeError, match="ZeroDivisionError: inside"):
            await Broken(short([Session.open(model)]), lambda progress: None).run()

    asyncio.run(whole())
    assert left() == []


def test_saved_reports_are_those_of_the_command_line(model, tmp_path):
    async def whole():
        return await Measurement(short([Session.open(model)]), lambda progress: None).run()

    report = asyncio.run(whole())
    files = benchmark_panel.report_files(report)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    jsonschema.validate(json.loads(files["evit-edge-report.json"]), published_schema())
    assert read_report(tmp_path / "evit-edge-report.json") == report
    page = files["evit-edge-report.html"].decode()
    assert page.startswith("<!doctype html>")
    assert "colours.tflite" in page
