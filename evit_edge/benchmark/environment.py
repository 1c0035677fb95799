"""Everything around the measured process that this machine tells. What cannot be read stays None."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from evit_edge import __version__
from evit_edge.benchmark.contention import affinity
from evit_edge.benchmark.device import Cpu, Environment

# Instruction sets that kernels of the engines choose between.
_FEATURES = {
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_tile"),
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme", "fphp"),
}
_DISTRIBUTIONS = ("numpy", "pillow", "ai-edge-litert", "tflite-runtime", "torch", "onnxruntime", "coremltools")
_CONTAINER_FILES = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
_CONTAINER_GROUPS = ("docker", "kubepods", "lxc", "containerd")
_QUESTION_S = 5.0

Fields = dict[str, str]


def environment() -> Environment:
    """Look around, before the first run."""
    commit, dirty = git_state()
    return Environment(
        cpu=cpu(),
        memory_bytes=memory_bytes(),
        os=platform.system(),
        os_version=platform.release(),
        container=container(),
        virtual_machine=virtual_machine(),
        load_before=load_average(),
        versions=versions(),
        git_commit=commit,
        git_dirty=dirty,
    )


def after(before: Environment) -> Environment:
    """The same with what is read after the last run."""
    return replace(before, load_after=load_average())


def cpu() -> Cpu:
    """The processor; on Linux from /proc and /sys, on macOS from sysctl."""
    fields = _cpuinfo()
    cores = affinity()
    return Cpu(
        model=fields.get("model name") or _sysctl("machdep.cpu.brand_string") or platform.processor() or "unknown",
        architecture=platform.machine(),
        features=_features(fields),
        logical_cores=os.cpu_count() or 1,
        physical_cores=_physical_cores(),
        affinity=cores,
        governor=_read(f"{_frequency_folder(cores)}/scaling_governor"),
        frequency_hz=frequency_hz(),
        max_frequency_hz=_number(f"{_frequency_folder(cores)}/cpuinfo_max_freq", 1e3),
    )


def frequency_hz() -> float | None:
    """The highest frequency that any usable core runs at now."""
    known = [_number(f"{_frequency_folder((core,))}/scaling_cur_freq", 1e3) for core in affinity()]
    if any(known):
        return max(value for value in known if value is not None)
    shown = [line.partition(":")[2] for line in _lines("/proc/cpuinfo") if line.lower().startswith("cpu mhz")]
    with suppress(ValueError):
        return max(float(value) for value in shown) * 1e6
    return None


def memory_bytes() -> int | None:
    """Main memory, or what a container may use of it."""
    installed = _sysctl("hw.memsize")
    if installed is None:
        with suppress(ValueError, OSError, AttributeError):
            installed = str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = _read("/sys/fs/cgroup/memory.max")
    figures = [int(text) for text in (installed, limit) if text is not None and text.isdecimal()]
    return min(figures, default=None)


def container() -> str | None:
    """Kind of container; None outside of one."""
    for path, name in _CONTAINER_FILES.items():
        if Path(path).exists():
            return name
    groups = "\n".join(_lines("/proc/1/cgroup"))
    return next((name for name in _CONTAINER_GROUPS if name in groups), None)


def virtual_machine() -> str | None:
    """Kind of hypervisor; None on bare metal."""
    vendor = " ".join(
        filter(None, (_read("/sys/class/dmi/id/sys_vendor"), _read("/sys/class/dmi/id/product_name")))
    )
    for name in ("QEMU", "KVM", "VMware", "VirtualBox", "Amazon EC2", "Google", "Microsoft", "Xen"):
        if name.lower() in vendor.lower():
            return name
    return "hypervisor" if "hypervisor" in _cpuinfo().get("flags", "").split() else None


def versions() -> Fields:
    """What takes part and is installed."""
    found = {"python": platform.python_version(), "evit-edge": __version__}
    for name in _DISTRIBUTIONS:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the working folder, and whether it has changes."""
    commit = _answer(("git", "rev-parse", "HEAD"))
    if commit is None:
        return None, None
    changes = _answer(("git", "status", "--porcelain", "--untracked-files=no"))
    return commit, None if changes is None else bool(changes)


def load_average() -> float | None:
    """Of the last minute."""
    read: Callable[[], tuple[float, float, float]] | None = getattr(os, "getloadavg", None)
    with suppress(OSError):
        return None if read is None else round(read()[0], 2)
    return None


def _cpuinfo() -> Fields:
    """The first processor's fields of /proc/cpuinfo."""
    fields: Fields = {}
    for line in _lines("/proc/cpuinfo"):
        key, _, value = (part.strip() for part in line.partition(":"))
        fields.setdefault(key, value)
    return fields


def _features(fields: Fields) -> tuple[str, ...]:
    known = set((fields.get("flags") or fields.get("Features") or "").split())
    for key in ("machdep.cpu.features", "machdep.cpu.leaf7_features"):
        known |= {name.lower().replace(".", "_") for name in (_sysctl(key) or "").split()}
    return tuple(sorted(known & _FEATURES))


def _physical_cores() -> int | None:
    told = _sysctl("hw.physicalcpu")
    if told is not None and told.isdecimal():
        return int(told)
    folders = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    return len({_read(str(path)) for path in folders}) or None


def _frequency_folder(cores: tuple[int, ...]) -> str:
    return f"/sys/devices/system/cpu/cpu{cores[0] if cores else 0}/cpufreq"


def _number(path: str, scale: float) -> float | None:
    text = _read(path)
    return float(text) * scale if text is not None and text.isdecimal() else None


def _read(path: str) -> str | None:
    lines = _lines(path)
    return lines[0].strip() or None if lines else None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _sysctl(key: str) -> str | None:
    return _answer(("sysctl", "-n", key)) if sys.platform == "darwin" else None


def _answer(command: tuple[str, ...]) -> str | None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_QUESTION_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
