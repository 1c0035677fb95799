"""Measuring on phones: the flow on a scripted adb, which carries out in this machine's shell what is sent."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from evit_edge.benchmark import (
    BenchmarkRequest,
    DeviceChoice,
    Judgement,
    Status,
    benchmark,
    read_report,
    write_report,
)
from evit_edge.benchmark.android.adb import Adb, find_adb
from evit_edge.benchmark.android.attached import State, choose, parse_devices
from evit_edge.benchmark.android.phone import read_properties
from evit_edge.benchmark.android.program import Dialect, cache_folder, read_program
from evit_edge.benchmark.device import Verdict
from evit_edge.benchmark.html import html_page
from evit_edge.benchmark.markdown import markdown
from evit_edge.benchmark.report import Accelerator
from evit_edge.errors import DeviceError, ReportError, RequestError

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "converters", "calibration", "app"))


@pytest.fixture
def measure(phones, colour_models):
    """Function: measure two colour classifiers on the scripted phones."""
    artefacts = (str(colour_models["uint8-nhwc-probabilities"]), str(colour_models["float32-nhwc-probabilities"]))

    def call(device="android", stop=None, **changes):
        request = BenchmarkRequest(
            artefacts[: changes.pop("models", 1)],
            device=DeviceChoice.parse(device),
            benchmark_model=phones.program,
            min_time_s=0.0,
            **changes,
        )
        return benchmark(request, stop=stop)

    return call


def test_a_phone_is_measured(phones, measure):
    root = phones.add()
    report = measure(threads=(1, 4), operators=True, models=2)
    assert report.status is Status.COMPLETE
    (device,) = report.devices
    environment = device.environment
    assert (device.id, environment.os_version, environment.cpu.model) == ("scripted-1", "14 (API 34)", "Acme A1")
    assert (environment.cpu.logical_cores, environment.cpu.governor, environment.cpu.max_frequency_hz) == (
        2,
        "walt",
        2e9,
    )
    assert environment.cpu.features == ("asimd", "asimddp", "i8mm")
    assert environment.memory_bytes == 8000000 * 1024
    state = environment.phone.after
    assert (state.thermal_status, state.battery_level, state.charging, state.battery_temperature_c) == (
        "none",
        0.8,
        True,
        28.7,
    )
    assert state.temperatures_c == {"CPU": 41.5}  # what the hardware says now, not what was cached
    assert [(m.threads, m.accelerator) for m in report.measurements] == [
        (1, "cpu"),
        (1, "cpu"),
        (4, "cpu"),
        (4, "cpu"),
    ]
    first = report.measurements[0]
    assert (first.statistics.count, first.statistics.mean_s) == (8 * 13, pytest.approx(2e-3))
    assert len(first.starts) == 8
    assert (first.cold_start.load_s, first.cold_start.first_inference_s) == pytest.approx((12.345e-3, 4e-3))
    assert first.memory.peak_bytes == int(21.5 * 2**20)
    assert (first.engine.delegate, first.engine.partitions, first.engine.native_nodes) == (
        "TfLiteXNNPackDelegate",
        1,
        1,
    )
    assert {op.kind for op in first.operators} == {"convolution", "depthwise convolution", "reshape", "conversion"}
    assert sum(op.time_s for op in first.operators) == pytest.approx(1e-3, rel=1e-3)
    for ratio in report.ratios:
        assert ratio.value == pytest.approx(0.5)
        assert 0.5 in ratio.interval
    assert phones.left_behind() == []
    assert "--num_threads=4" in (root / "calls.txt").read_text()


def test_a_stand_in_cannot_be_taken_for_a_phone(phones, measure, tmp_path):
    phones.add()
    report = measure()
    (device,) = report.devices
    assert device.stand_in
    assert device.verdict.judgement is not Judgement.VALID
    assert "nothing was measured" in device.verdict.reason
    assert "stand-in" in device.name
    assert any("measured by nobody" in remark for remark in report.remarks)
    write_report(tmp_path / "report.json", report)
    assert json.loads((tmp_path / "report.json").read_text())["devices"][0]["stand_in"] is True
    assert read_report(tmp_path / "report.json") == report
    with pytest.raises(ReportError, match="stand-in"):
        replace(device, verdict=Verdict(Judgement.VALID, "all is well"))


def test_the_page_shows_each_start_and_names_the_stand_in(phones, measure):
    phones.add()
    report = measure(models=2)
    page = html_page(report)
    starts = page[page.index("start by start") :]
    assert (
        starts[: starts.index("</figure>")].count('class="dot"')
        == sum(len(m.starts) for m in report.measurements)
        > 0
    )
    for text in (page, markdown(report)):
        assert "stand-in" in text[: text.index("ms, with")]  # before the first figure
        assert "measured by nobody" in text


def test_the_scripted_adb_plays_none_but_stand_ins(phones):
    (phones.folder / "R58N1").mkdir()
    (phones.folder / "R58N1" / "phone.json").write_text("{}")
    answer = subprocess.run(["adb", "devices", "-l"], capture_output=True, text=True, check=False)
    assert "R58N1" not in answer.stdout
    assert answer.returncode != 0


# What adb says of one phone: what evit-edge says of it.
UNUSABLE = {
    "unauthorized": "unlock it and accept the question",
    "authorizing": "is asking on its screen",
    "offline": "adb reconnect offline",
    "no permissions (user in plugdev group; are your udev rules wrong?); see [http://...]": "udev rules",
    "recovery": "start Android on it",
}


@pytest.mark.parametrize("state", UNUSABLE)
def test_a_phone_that_cannot_be_used_is_told_apart(phones, measure, state):
    phones.add(state=state)
    with pytest.raises(DeviceError, match=UNUSABLE[state]):
        measure()


def test_no_phone(phones, measure):
    with pytest.raises(DeviceError, match="no phone is attached; plug one in with USB debugging"):
        measure()


def test_several_phones_need_a_name(phones, measure):
    phones.add("scripted-1")
    phones.add("scripted-2")
    with pytest.raises(DeviceError, match=r"2 phones are attached: scripted-1 \(Stand_in\).*android:SERIAL"):
        measure()
    assert measure("android:scripted-2").devices[0].id == "scripted-2"
    with pytest.raises(DeviceError, match="no phone scripted-3 is attached; attached: scripted-1, scripted-2"):
        measure("android:scripted-3")


def test_every_phone_is_measured_into_one_report(phones, measure):
    for number in (1, 2, 3):
        phones.add(f"scripted-{number}", tool={"wait_s": 0.05})
    phones.add("scripted-4", state="unauthorized")
    report = measure("android:all")
    assert [device.id for device in report.devices] == ["scripted-1", "scripted-2", "scripted-3"]
    assert len(report.measurements) == 3
    assert any("scripted-4 has not allowed this computer" in remark for remark in report.remarks)
    assert phones.left_behind() == []


def test_phones_run_at_the_same_time(phones, measure):
    roots = [phones.add(f"scripted-{number}", tool={"wait_s": 0.1}) for number in (1, 2)]
    measure("android:all")
    first, second = (
        [line.stat().st_mtime for line in (root / "starts.txt", root / "getprop.txt")] for root in roots
    )
    assert abs(first[0] - second[0]) < first[0] - first[1]  # neither waited for the other's end


def test_a_cut_cable_leaves_a_partial_report_and_nothing_on_the_phone(phones, measure):
    phones.add(tool={"cut_at": 3})
    report = measure()
    assert report.status is Status.PARTIAL
    assert any("was lost" in remark and "check the cable" in remark for remark in report.remarks)
    assert sum(len(row.starts) for row in report.measurements) == 3
    _clean(phones)


def test_a_cable_cut_before_anything_was_measured_is_an_error(phones, measure):
    phones.add(tool={"cut_at": 0})
    with pytest.raises(DeviceError, match=r"scripted-1 was lost.*check the cable"):
        measure()
    _clean(phones)


def test_one_lost_phone_does_not_spoil_the_others(phones, measure):
    phones.add("scripted-1", tool={"cut_at": 0})
    phones.add("scripted-2")
    report = measure("android:all")
    assert [device.id for device in report.devices] == ["scripted-2"]
    assert report.status is Status.PARTIAL
    assert any("scripted-1 was lost" in remark for remark in report.remarks)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"push": "remote couldn't create file: Permission denied"}, "does not let .* be copied"),
        ({"push": "remote No space left on device"}, "does not fit on phone"),
        ({"push": "protocol fault"}, "push to scripted-1 failed: .*protocol fault"),
        ({"no_folder": True}, "lets no folder .* be made: .*Permission denied"),
        ({"no_execution": True}, "does not let benchmark_model run .*permission denied"),
    ],
    ids=["denied", "full", "fault", "folder", "execution"],
)
def test_what_a_phone_forbids_is_said(phones, measure, fault, message):
    phones.add(**fault)
    with pytest.raises(DeviceError, match=message):
        measure()
    assert phones.left_behind() == []


def test_a_model_that_crashes_the_tool_fails_alone(phones, measure):
    phones.add(tool={"crash_at": 0})
    report = measure(models=2)
    failed = [row for row in report.measurements if row.failure is not None]
    assert [row.failure for row in failed] == ["benchmark_model gave no times: Segmentation fault"]
    assert [len(row.starts) for row in report.measurements if row.failure is None] == [8]


def test_the_gpu(phones, measure):
    phones.add()
    report = measure(accelerators=(Accelerator.CPU, Accelerator.GPU))
    gpu = next(row for row in report.measurements if row.accelerator is Accelerator.GPU)
    assert len(gpu.starts) == 3
    assert gpu.failure is None


@pytest.mark.parametrize(("gpu", "message"), [("refused", "the CPU did"), ("failed", "Benchmarking failed")])
def test_times_of_the_cpu_are_never_called_the_gpus(phones, measure, gpu, message):
    phones.add(tool={"gpu": gpu})
    report = measure(accelerators=(Accelerator.GPU, Accelerator.CPU))
    asked, cpu = report.measurements
    assert asked.statistics is None
    assert message in asked.failure
    assert cpu.statistics is not None


def test_nnapi_that_declines(phones, measure):
    phones.add()
    (row,) = measure(accelerators=(Accelerator.NNAPI,)).measurements
    assert "nnapi did not run the model, the CPU did" in row.failure


def test_an_accelerator_that_phones_do_not_have(phones, measure):
    phones.add()
    with pytest.raises(
        DeviceError, match="neural-engine asked for; TFLite's benchmark_model on Android takes cpu"
    ):
        measure(accelerators=(Accelerator.NEURAL_ENGINE,))
    assert phones.left_behind() == []


@pytest.mark.parametrize(
    ("phone", "name", "judgement"),
    [
        ({"status": 2}, "thermal status", Judgement.THROTTLED),
        ({"allowed": 1500000}, "allowed clock", Judgement.THROTTLED),
        ({"saver": 1}, "battery saver", Judgement.THROTTLED),
        ({"level": 9}, "battery", Judgement.NOISY),
        ({"tool": {"slower": 1.02}}, "drift", Judgement.THROTTLED),
        ({"tool": {"slower": 0.97}}, "drift", Judgement.NOISY),
    ],
    ids=["heat", "clock", "saver", "battery", "slower", "faster"],
)
def test_what_makes_times_untrustworthy_is_seen(phones, measure, phone, name, judgement):
    phones.add(**phone)
    (device,) = measure().devices
    failed = {check.name: check.judgement for check in device.verdict.checks if not check.passed}
    assert failed[name] is judgement


def test_nothing_else_speaks_against_a_cool_phone(phones, measure):
    phones.add()
    (device,) = measure().devices
    assert [check.name for check in device.verdict.checks if not check.passed] == ["device"]  # it is a stand-in


def test_an_emulator_is_no_phone(phones, measure, tmp_path):
    root = phones.add()
    (root / "getprop.txt").write_text((root / "getprop.txt").read_text() + "[ro.boot.qemu]: [1]\n")
    assert read_properties(Adb(find_adb(), "scripted-1")).emulator
    (device,) = measure().devices
    assert "an emulator" in [check.measured for check in device.verdict.checks if not check.passed]


def test_a_phone_that_tells_little(phones, measure):
    root = phones.add(properties="[ro.product.cpu.abi]: [arm64-v8a]")
    for name in ("thermal", "battery", "settings"):
        (root / f"{name}.txt").write_text("Can't find service\n")
    for name in ("cpuinfo_max_freq", "scaling_max_freq", "scaling_governor"):
        (root / "sys/devices/system/cpu/cpufreq/policy0" / name).unlink()
    (device,) = measure().devices
    state = device.environment.phone.before
    assert (state.thermal_status, state.battery_level, state.temperatures_c) == (None, None, {})
    assert device.environment.cpu.max_frequency_hz is None


def test_a_phone_that_does_not_answer(phones):
    phones.add(mute=30)
    adb = Adb(find_adb(), "scripted-1", patience_s=0.3)
    with pytest.raises(
        DeviceError, match=r"adb shell did not end within 0.3 s on phone scripted-1; check the cable"
    ):
        adb.shell("true")
    _clean(phones)


def test_what_a_run_left_behind_is_removed_by_the_next(phones, measure):
    root = phones.add()
    for name, holder in (("evit-edge-dead", "999999999"), ("evit-edge-torn", "")):
        (root / "data/local/tmp" / name).mkdir()
        (root / "data/local/tmp" / name / "holder").write_text(holder)
    (root / "data/local/tmp/else").mkdir()
    measure()
    assert [path.name for path in phones.left_behind()] == ["else"]


def test_two_runs_on_one_phone_do_not_meet(phones, measure):
    root = phones.add(tool={"wait_s": 0.4})
    stop = threading.Event()
    thread = threading.Thread(target=measure, kwargs={"stop": stop})
    thread.start()
    _settled(lambda: _calls(root) > 0)
    with pytest.raises(DeviceError, match="is being measured by another run"):
        measure()
    stop.set()
    thread.join()
    assert phones.left_behind() == []


def test_stopping_keeps_what_there_is(phones, measure):
    root = phones.add(tool={"wait_s": 0.2})
    stop = threading.Event()
    thread = threading.Thread(target=_stop_after, args=(root, 3, stop))
    thread.start()
    report = measure(stop=stop)
    thread.join()
    assert report.status is Status.PARTIAL
    assert 0 < sum(len(row.starts) for row in report.measurements) < 8
    assert any("stopped" in remark for remark in report.remarks)
    assert phones.left_behind() == []
    assert phones.processes() == []


def test_stopping_before_there_is_anything(phones, measure):
    root = phones.add(tool={"wait_s": 30})
    stop = threading.Event()
    thread = threading.Thread(target=_stop_after, args=(root, 1, stop))
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        measure(stop=stop)
    thread.join()
    assert phones.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_a_program_that_is_ended_leaves_nothing(phones, colour_model, tmp_path, number):
    root = phones.add(tool={"wait_s": 0.3})
    command = [sys.executable, "-m", "evit_edge.cli.main", "benchmark", colour_model, "--device", "android"]
    command += ["--benchmark-model", phones.program, "--json", tmp_path / "report.json", "--min-time", "0"]
    environment = {**os.environ, "PYTHONPATH": PATHS}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    _settled(lambda: (root / "calls.txt").exists() and len((root / "calls.txt").read_text().splitlines()) > 2)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0].decode()
    _clean(phones)
    if number is signal.SIGINT:
        assert process.returncode == 130, output
        assert read_report(tmp_path / "report.json").status is Status.PARTIAL


def test_only_tflite_files_run_on_android(phones, m0_checkpoint):
    phones.add()
    request = BenchmarkRequest((str(m0_checkpoint),), device=DeviceChoice.parse("android"))
    with pytest.raises(RequestError, match=r"runs .tflite files: convert it first"):
        benchmark(request)


class TestProgram:
    """Which benchmark_model is taken."""

    def elf(self, path: Path, machine: int, *, text: bytes = b"/system/bin/linker64") -> Path:
        head = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little")
        path.write_bytes(head + bytes(44) + text)
        return path

    def test_its_dialect_is_seen(self, tmp_path):
        tflite = self.elf(tmp_path / "a", 183, text=b"--enable_op_profiling --use_profiler")
        litert = self.elf(tmp_path / "b", 183, text=b"--use_profiler")
        assert (read_program(tflite).dialect, read_program(litert).dialect) == (Dialect.TFLITE, Dialect.LITERT)

    @pytest.mark.parametrize(
        ("content", "machine"), [(b"#!/bin/sh\n", None), (b"/lib64/ld-linux-x86-64.so.2", 62), (b"", 8)]
    )
    def test_programs_for_other_systems_are_refused(self, tmp_path, content, machine):
        path = tmp_path / "benchmark_model"
        path.write_bytes(content) if machine is None else self.elf(path, machine, text=content)
        with pytest.raises(DeviceError, match="is no program for Android; download https://"):
            read_program(path)

    def test_one_for_another_processor_is_refused(self, phones, measure):
        phones.add()
        self.elf(phones.program, 62)
        with pytest.raises(
            DeviceError, match=r"is for x86_64 and the phone runs arm64-v8a.*aarch64_benchmark_model"
        ):
            measure()

    def test_the_cache_folder_is_searched(self, phones, measure, colour_model, monkeypatch):
        pytest.importorskip("platformdirs")
        monkeypatch.setenv("XDG_CACHE_HOME", str(phones.folder.parent / "cache"))
        phones.add()
        request = BenchmarkRequest((str(colour_model),), device=DeviceChoice.parse("android"), min_time_s=0.0)
        where = re.escape(str(cache_folder()))
        with pytest.raises(
            DeviceError, match=rf"no benchmark_model for arm64-v8a.*{where}; download https://.*{where}"
        ):
            benchmark(request)
        cache_folder().mkdir(parents=True)
        (cache_folder() / "notes.txt").write_text("not a program")
        self.elf(cache_folder() / "android_arm_benchmark_model", 40)
        phones.program.rename(cache_folder() / "android_aarch64_benchmark_model")
        assert benchmark(request).status is Status.COMPLETE


LISTING = """
R58N123ABC             device usb:1-4 product:beyond1 model:SM_G973F device:beyond1 transport_id:3
emulator-5554          offline transport_id:1
adb-1A2B._adb-tls-connect._tcp. device product:oriole model:Pixel_6 device:oriole transport_id:2
0123456789             no permissions (missing udev rules? user is in the plugdev group); see [http://x] usb:3-1
192.168.1.7:5555       unauthorized transport_id:9
"""


def test_listings_are_read():
    found = parse_devices(LISTING)
    assert [(d.serial, d.state) for d in found] == [
        ("R58N123ABC", State.READY),
        ("emulator-5554", State.OFFLINE),
        ("adb-1A2B._adb-tls-connect._tcp.", State.READY),
        ("0123456789", State.NO_PERMISSIONS),
        ("192.168.1.7:5555", State.UNAUTHORIZED),
    ]
    assert found[2].model == "Pixel_6"
    assert [d.serial for d in choose(found, "all")] == ["R58N123ABC", "adb-1A2B._adb-tls-connect._tcp."]


def test_without_adb(measure, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"adb is needed.*platform-tools"):
        measure()


class TestRealAdb:
    """The real adb, with no phone: its own server on a free port, ended afterwards."""

    @pytest.fixture
    def server(self, monkeypatch):
        if shutil.which("adb") is None:
            pytest.skip("adb is not installed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        command = ["adb", "-L", f"tcp:{port}", "nodaemon", "server"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            _settled(partial(_listens, port))
            yield
            process.kill()

    @pytest.mark.parametrize("device", ["android", "android:R58N123ABC", "android:all"])
    def test_no_phone_attached(self, server, colour_model, device):
        request = BenchmarkRequest((str(colour_model),), device=DeviceChoice.parse(device))
        with pytest.raises(DeviceError, match="no phone is attached"):
            benchmark(request)

    def test_a_phone_that_is_not_there(self, server):
        adb = Adb(find_adb())
        assert re.match(r"\d+\.\d+\.\d+", adb.version())
        with pytest.raises(DeviceError, match=r"phone R58N123ABC was lost .*not found"):
            adb.on("R58N123ABC").shell("true")
        assert adb.on("R58N123ABC").gone()


def _stop_after(root, calls, stop):
    """Set the event once the tool was called so often."""
    _settled(lambda: _calls(root) >= calls, timeout_s=120.0)
    stop.set()


def _calls(root):
    path = root / "calls.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _clean(phones):
    """Wait until nothing is left on the phones, and nothing works on them."""
    end = time.monotonic() + 40.0
    while phones.left_behind() or phones.processes():
        assert time.monotonic() < end, f"left: {phones.left_behind()} {phones.processes()}"
        time.sleep(0.05)


def _settled(condition, timeout_s=60.0):
    """Wait for what happens in other processes."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
