"""What a phone tells of itself: its parts, its heat, its battery."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evit_edge.benchmark.android.adb import Adb
from evit_edge.benchmark.device import Cpu, Environment, Phone, PhoneState
from evit_edge.errors import DeviceError

THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Names of Android's thermal status, from 0.
Source: android.os.PowerManager, THERMAL_STATUS_NONE and following."""

_FEATURES = {
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme", "sme2", "fphp"),
    *("avx2", "avx512f", "fma", "sse4_2"),
}
_KIB = 1024
_MARK = "evit-edge-part:"


@dataclass(frozen=True)
class Properties:
    """What does not change while a phone is measured.

    Attributes:
        environment: For the report, without states.
        abis: Instruction sets that programs may be for, the preferred one first.
        emulator: Whether it is Android in a virtual machine.
    """

    environment: Environment
    abis: tuple[str, ...]
    emulator: bool

    @property
    def name(self) -> str:
        """For people: maker, model, system on chip."""
        phone = self.environment.phone
        if phone is None:
            return "Android"
        soc = f", {phone.soc}" if phone.soc else ""
        return f"{phone.manufacturer} {phone.model}{soc}, Android {self.environment.os_version}"


@dataclass(frozen=True)
class Condition:
    """How a phone is at a moment.

    Attributes:
        state: For the report.
        saver: Whether the battery saver is on; None where it does not tell.
        capped: Least share of its highest frequency that any core is allowed; None where not readable.
    """

    state: PhoneState
    saver: bool | None = None
    capped: float | None = None


def read_properties(adb: Adb) -> Properties:
    """Ask a phone what it is.

    Raises:
        DeviceError: It is gone.
    """
    parts = _ask(adb, "getprop", "cat /proc/cpuinfo", "cat /proc/meminfo", _MAX_FREQUENCIES, _GOVERNOR)
    values = dict(re.findall(r"^\[([^\]]+)\]: \[([^\]]*)\]$", parts[0], flags=re.MULTILINE))

    def value(*names: str) -> str | None:
        return next((values[name] for name in names if values.get(name)), None)

    abis = (value("ro.product.cpu.abilist") or value("ro.product.cpu.abi") or "").split(",")
    release, level = value("ro.build.version.release") or "unknown", value("ro.build.version.sdk")
    frequencies = [1e3 * float(text) for text in parts[3].split() if text.isdecimal()]
    memory = re.search(r"^MemTotal:\s+(\d+) kB", parts[2], flags=re.MULTILINE)
    soc = " ".join(filter(None, (value("ro.soc.manufacturer"), value("ro.soc.model")))) or None
    soc = soc or value("ro.board.platform", "ro.hardware.chipname", "ro.hardware")
    cpu = Cpu(
        model=soc or "unknown",
        architecture=abis[0] or "unknown",
        features=_features(parts[1]),
        logical_cores=len(re.findall(r"^processor\s*:", parts[1], flags=re.MULTILINE)) or 1,
        governor=parts[4].strip().splitlines()[0] if parts[4].strip() else None,
        max_frequency_hz=max(frequencies, default=None),
    )
    environment = Environment(
        cpu=cpu,
        memory_bytes=int(memory.group(1)) * _KIB if memory else None,
        os="Android",
        os_version=f"{release} (API {level})" if level else release,
        versions={"adb": adb.version()},
        phone=Phone(
            manufacturer=value("ro.product.manufacturer") or "unknown",
            model=value("ro.product.model") or "unknown",
            soc=soc,
            build=value("ro.build.fingerprint"),
        ),
    )
    emulator = "1" in (value("ro.kernel.qemu"), value("ro.boot.qemu"))
    return Properties(environment, tuple(filter(None, abis)), emulator)


_MAX_FREQUENCIES = "cat /sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq 2>/dev/null"
_GOVERNOR = "cat /sys/devices/system/cpu/cpufreq/policy*/scaling_governor 2>/dev/null"
_ALLOWED = (
    "for p in /sys/devices/system/cpu/cpufreq/policy*; do "
    'echo "$(cat $p/scaling_max_freq 2>/dev/null) $(cat $p/cpuinfo_max_freq 2>/dev/null)"; done'
)


def read_condition(adb: Adb) -> Condition:
    """Ask a phone how it is. Takes about a tenth of a second on it.

    Raises:
        DeviceError: It is gone.
    """
    parts = _ask(adb, "dumpsys thermalservice", "dumpsys battery", "settings get global low_power", _ALLOWED)
    status = re.search(r"^\s*Thermal Status: (\d+)", parts[0], flags=re.MULTILINE)
    level = int(status.group(1)) if status else None
    battery = dict(re.findall(r"^\s*([A-Za-z ]+): (\S+)\s*$", parts[1], flags=re.MULTILINE))
    powered = [value == "true" for key, value in battery.items() if key.endswith("powered")]
    scale = _number(battery.get("scale")) or 100.0
    charge, heat = _number(battery.get("level")), _number(battery.get("temperature"))
    state = PhoneState(
        thermal_status=THERMAL[level] if level is not None and level < len(THERMAL) else None,
        temperatures_c=temperatures(parts[0]),
        battery_level=None if charge is None else min(1.0, charge / scale),
        charging=any(powered) if powered else None,
        battery_temperature_c=None if heat is None else heat / 10,
    )
    saver = parts[2].strip()
    allowed = [
        float(now) / float(most)
        for now, most in re.findall(r"^(\d+) (\d+)$", parts[3], flags=re.MULTILINE)
        if float(most) > 0
    ]
    return Condition(state, saver == "1" if saver in {"0", "1"} else None, min(allowed, default=None))


def temperatures(dump: str) -> dict[str, float]:
    """Sensors of ``dumpsys thermalservice``: what the hardware says now, else what was cached."""
    current = dump.partition("Current temperatures from HAL:")[2].partition("Current cooling devices")[0]
    readings = re.findall(r"mValue=(-?[0-9.]+), mType=-?\d+, mName=([^,}]+)", current or dump)
    return {name.strip(): float(value) for value, name in readings if float(value) > 0}


def _ask(adb: Adb, *commands: str) -> list[str]:
    """Outputs of several commands, for the price of one journey."""
    joined = f"; echo; echo {_MARK}; ".join(commands)
    parts = adb.shell(f"{joined}; true").text.split(_MARK)
    if len(parts) != len(commands):
        raise DeviceError(f"phone {adb.serial} gave {len(parts)} answers to {len(commands)} questions; try again")
    return parts


def _features(cpuinfo: str) -> tuple[str, ...]:
    lines = re.findall(r"^(?:Features|flags)\s*: (.*)$", cpuinfo, flags=re.MULTILINE)
    return tuple(sorted({word for line in lines for word in line.split()} & _FEATURES))


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
