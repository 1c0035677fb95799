"""What is read off the system for reports, on systems that tell other things than this one, or nothing."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from evit_edge.benchmark import child, contention, environment, processes
from evit_edge.errors import ArtefactError


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch):
    """Function: lets the files that are read be these, and no others."""

    def be(files: dict[str, str]) -> None:
        monkeypatch.setattr(environment, "_lines", lambda path: files.get(path, "").splitlines())

    return be


CORE = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"


@pytest.mark.parametrize(
    ("files", "hertz"),
    [
        ({CORE.format(0): "1800000", CORE.format(1): "2400000"}, 2.4e9),
        ({CORE.format(1): "2400000"}, 2.4e9),
        ({"/proc/cpuinfo": "cpu MHz : 900.5\nflags : a\ncpu MHz : 1200.0\n"}, 1.2e9),
        ({"/proc/cpuinfo": "flags : a\n"}, None),
        ({"/proc/cpuinfo": "cpu MHz : unknown\n"}, None),
        ({}, None),
    ],
)
def test_the_highest_frequency(system, monkeypatch, files: dict[str, str], hertz: float | None) -> None:
    monkeypatch.setattr(environment, "affinity", lambda: (0, 1))
    system(files)
    assert environment.frequency_hz() == (None if hertz is None else pytest.approx(hertz))


def test_a_container_may_use_less_memory_than_there_is(system) -> None:
    system({})
    installed = environment.memory_bytes()
    assert installed == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system({"/sys/fs/cgroup/memory.max": "1000000"})
    assert environment.memory_bytes() == 1_000_000
    system({"/sys/fs/cgroup/memory.max": "max"})
    assert environment.memory_bytes() == installed


def test_a_mac_is_asked_by_sysctl(system, monkeypatch) -> None:
    told = {"hw.memsize": "17179869184", "hw.physicalcpu": "8", "machdep.cpu.features": "FMA AVX1.0 SSE4.2"}
    monkeypatch.setattr(environment, "_sysctl", told.get)
    monkeypatch.setattr(environment, "affinity", lambda: ())
    system({})
    assert environment.memory_bytes() == 2**34
    found = environment.cpu()
    assert found.physical_cores == 8
    assert found.features == ("fma", "sse4_2")


def test_nothing_is_asked_by_sysctl_elsewhere(monkeypatch) -> None:
    monkeypatch.setattr(environment, "_answer", " ".join)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert environment._sysctl("hw.memsize") == "sysctl -n hw.memsize"
    monkeypatch.setattr(sys, "platform", "linux")
    assert environment._sysctl("hw.memsize") is None


@pytest.mark.parametrize(
    ("there", "groups", "kind"),
    [
        ("/.dockerenv", "", "docker"),
        ("/run/.containerenv", "", "podman"),
        (None, "0::/kubepods/burstable/pod1\n", "kubepods"),
        (None, "0::/init.scope\n", None),
    ],
)
def test_containers(system, monkeypatch, there: str | None, groups: str, kind: str | None) -> None:
    monkeypatch.setattr(environment, "Path", lambda path: SimpleNamespace(exists=lambda: path == there))
    system({"/proc/1/cgroup": groups})
    assert environment.container() == kind


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"/sys/class/dmi/id/sys_vendor": "QEMU"}, "QEMU"),
        (
            {"/sys/class/dmi/id/sys_vendor": "innotek", "/sys/class/dmi/id/product_name": "virtualbox"},
            "VirtualBox",
        ),
        ({"/proc/cpuinfo": "flags : fpu hypervisor\n"}, "hypervisor"),
        ({"/proc/cpuinfo": "flags : fpu\n"}, None),
    ],
)
def test_virtual_machines(system, files: dict[str, str], kind: str | None) -> None:
    system(files)
    assert environment.virtual_machine() == kind


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ({}, (None, None)),
        ({"rev-parse": "abc"}, ("abc", None)),
        ({"rev-parse": "abc", "status": ""}, ("abc", False)),
        ({"rev-parse": "abc", "status": " M file"}, ("abc", True)),
    ],
)
def test_the_state_of_a_checkout(monkeypatch, answers: dict[str, str], state: tuple) -> None:
    monkeypatch.setattr(environment, "_answer", lambda command: answers.get(command[1]))
    assert environment.git_state() == state


def test_a_system_without_a_load(monkeypatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.123, 0, 0))
    assert environment.load_average() == 0.12
    monkeypatch.delattr(os, "getloadavg")
    assert environment.load_average() is None


STAT = """cpu  9 9 9 9 9 9 9 9
cpu0 100 0 50 800 50 0 0 0 0 0
cpu1 300 0 100 500 0 0 0 100 0 0
cpu2 7 7 7 7 7 7 7 7 7 7
intr 1
"""


def test_ticks_of_the_usable_cores_alone(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "stat").write_text(STAT)
    monkeypatch.setattr(contention, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(contention, "affinity", lambda: (0, 1))
    found, tick_s = contention._ticks(), 1 / os.sysconf("SC_CLK_TCK")
    assert (found.busy_s, found.idle_s) == pytest.approx((650 * tick_s, 1350 * tick_s))


def test_a_system_that_shows_no_ticks_tells_no_load(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(contention, "_STAT", tmp_path / "none")
    meter = contention.LoadMeter()
    assert meter.read() is None
    monkeypatch.undo()
    assert meter.read() is None  # nothing before it to compare with


def test_a_load_is_what_was_used_since(monkeypatch) -> None:
    ticks = [contention._Ticks(10, 1, 3, 5), contention._Ticks(12, 2, 7, 5.5), contention._Ticks(12, 2, 7, 5.5)]
    monkeypatch.setattr(contention, "_ticks", iter(ticks).__next__)
    meter = contention.LoadMeter()
    assert meter.read() == contention.Load(2, 0.5, 1.5, 0.25)
    assert meter.read() is None  # no time went by


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        ("usage_usec 5\nthrottled_usec 2500000\n", 2.5),
        ("nr_periods 3\nthrottled_time 1500000000\n", 1.5),
        ("usage_usec 5\n", None),
        ("a line of four words\n", None),
        (None, None),
    ],
)
def test_a_quota_that_stops_a_container(tmp_path, monkeypatch, content: str | None, seconds: float | None) -> None:
    if content is not None:
        (tmp_path / "cpu.stat").write_text(content)
    monkeypatch.setattr(contention, "_QUOTA", (tmp_path / "cpu.stat",))
    assert contention.quota_throttled_s() == seconds


def no_resource(monkeypatch) -> None:
    real = builtins.__import__

    def importing(name, *rest):
        if name == "resource":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)


def test_switches_are_counted_where_the_system_counts_them(monkeypatch) -> None:
    assert contention.switch_counter(1)() >= 0
    assert contention.switch_counter(2)() >= contention.switch_counter(1)() >= 0
    no_resource(monkeypatch)
    assert contention.switch_counter(1)() == 0


def test_the_peak_is_the_systems_or_unknown(monkeypatch) -> None:
    real = child.peak_bytes()
    assert real is not None
    assert real > 10_000_000
    monkeypatch.setattr(child, "Path", lambda _: SimpleNamespace(read_text=lambda encoding: "Name: python\n"))
    usage = child.peak_bytes()
    assert usage is not None
    assert usage % 1024 == 0
    monkeypatch.setattr(sys, "platform", "darwin")
    assert child.peak_bytes() == pytest.approx(usage / 1024, rel=0.1)
    no_resource(monkeypatch)
    assert child.peak_bytes() is None


@pytest.mark.parametrize(
    ("artefact", "module"),
    [("m.pth", "evit_edge.runtime.torch_checkpoint"), ("m.onnx", "onnxruntime"), ("m.mlpackage", None)],
)
def test_what_a_process_imports_before_it_loads(monkeypatch, artefact: str, module: str | None) -> None:
    imported: list[str] = []
    monkeypatch.setattr(child.importlib, "import_module", imported.append)
    child._import_engine(artefact)
    assert imported == ([] if module is None else [module])


class Child:
    """A process that never ends by itself."""

    killed = 0

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def communicate(self, timeout):
        raise subprocess.TimeoutExpired("child", timeout)

    def kill(self):
        Child.killed += 1


def test_a_fresh_process_that_takes_too_long_is_killed(monkeypatch) -> None:
    monkeypatch.setattr(processes.subprocess, "Popen", Child)
    monkeypatch.setattr(processes, "_LONGEST_S", 0.01)
    before = Child.killed
    with pytest.raises(ArtefactError, match="m: measuring its memory took more than 0 s; leave it out"):
        processes.memory_use("m", 1, threading.Event())
    assert Child.killed == before + 1


def test_a_fresh_process_is_killed_when_stopped(monkeypatch) -> None:
    stop = threading.Event()

    class Stopped(Child):
        def communicate(self, timeout):
            stop.set()
            return super().communicate(timeout)

    monkeypatch.setattr(processes.subprocess, "Popen", Stopped)
    before = Child.killed
    assert processes.cold_start("m", 1, stop) is None
    assert Child.killed == before + 1


def test_a_fresh_process_that_ends_as_it_is_stopped_gives_nothing(monkeypatch) -> None:
    stop = threading.Event()

    class Ended(Child):
        returncode = 0

        def communicate(self, timeout):
            stop.set()
            return '{"peak_bytes": 1}', ""

    monkeypatch.setattr(processes.subprocess, "Popen", Ended)
    assert processes.memory_use("m", 1, stop) is None


@pytest.mark.parametrize(("errors", "reason"), [("a\nb\n", "b"), ("", "it ended with 3")])
def test_a_fresh_process_that_fails_is_named(errors: str, reason: str) -> None:
    with pytest.raises(ArtefactError, match=f"m: measuring its memory in a fresh process failed: {reason}$"):
        processes._answer(3, "", errors, "memory", "m")


def test_a_system_that_does_not_tell_the_peak_gives_no_memory_use(monkeypatch) -> None:
    monkeypatch.setattr(processes, "_ask", lambda *_: {"peak_bytes": None, "before_bytes": None})
    assert processes.memory_use("m", 1, threading.Event()) is None
