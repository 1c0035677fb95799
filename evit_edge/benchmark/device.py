"""What a model was measured on, and how far its times can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from evit_edge.benchmark.figures import Runs
from evit_edge.errors import ReportError


class DeviceKind(StrEnum):
    """Where models can be measured."""

    HOST = "host"
    ANDROID = "android"
    MAC = "mac"
    IOS = "ios"


class Judgement(StrEnum):
    """How far times can be trusted, best first."""

    VALID = "valid"
    NOISY = "noisy"
    THROTTLED = "throttled"


@dataclass(frozen=True)
class Check:
    """One reason to trust or not to trust.

    Attributes:
        name: What was looked at, such as ``drift``.
        subject: Of what: a model's name, or ``reference loop``, or a sensor.
        measured: In words, with its unit.
        limit: What is allowed, in words.
        passed: Whether it is within.
        judgement: What the device's times are if it is not.
        advice: What to do if it is not.
    """

    name: str
    subject: str
    measured: str
    limit: str
    passed: bool
    judgement: Judgement
    advice: str

    def __post_init__(self) -> None:
        """A failed check has a consequence."""
        if not self.passed and self.judgement is Judgement.VALID:
            raise ReportError(f"check {self.name} of {self.subject} failed and is said to be valid")


@dataclass(frozen=True)
class Verdict:
    """The judgement of one device's times.

    Attributes:
        judgement: Valid, noisy or throttled.
        reason: Why, one sentence.
        advice: What to do, one sentence; empty where there is nothing to do.
        checks: All that was looked at.
    """

    judgement: Judgement
    reason: str
    advice: str = ""
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Cpu:
    """A processor.

    Attributes:
        model: Its name; ``unknown`` where the system does not tell.
        architecture: Such as ``x86_64`` or ``aarch64``.
        features: Instruction sets that matter here, such as ``avx512_vnni`` or ``asimddp``.
        logical_cores: That the system shows.
        physical_cores: Where readable.
        affinity: Cores that this process may use; empty where not readable.
        governor: Frequency governor, where readable.
        frequency_hz: At the start, where readable.
        max_frequency_hz: Where readable.
    """

    model: str
    architecture: str
    features: tuple[str, ...] = ()
    logical_cores: int = 1
    physical_cores: int | None = None
    affinity: tuple[int, ...] = ()
    governor: str | None = None
    frequency_hz: float | None = None
    max_frequency_hz: float | None = None


@dataclass(frozen=True)
class PhoneState:
    """What heats and drains a phone, at one moment.

    Attributes:
        thermal_status: As the system names it, such as ``none``, ``light``, ``severe``.
        temperatures_c: Sensor to degrees Celsius.
        battery_level: Charge, 0..1.
        charging: Whether it is on power.
        battery_temperature_c: Degrees Celsius.
    """

    thermal_status: str | None = None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    battery_level: float | None = None
    charging: bool | None = None
    battery_temperature_c: float | None = None


@dataclass(frozen=True)
class Phone:
    """What only phones tell.

    Attributes:
        manufacturer: Who made it.
        model: Its name.
        soc: System on chip.
        build: Fingerprint of the system's build.
        before: Its state before the first run.
        after: Its state after the last.
    """

    manufacturer: str
    model: str
    soc: str | None = None
    build: str | None = None
    before: PhoneState | None = None
    after: PhoneState | None = None


@dataclass(frozen=True)
class Environment:
    """Everything around the measured process. What cannot be read is None.

    Attributes:
        cpu: The processor.
        memory_bytes: Main memory.
        os: Name of the system, such as ``Linux`` or ``Android``.
        os_version: Its release.
        container: Kind of container, such as ``docker``; None outside, or where it cannot be told.
        virtual_machine: Kind of hypervisor; None on bare metal, or where it cannot be told.
        load_before: Load average of the last minute before the first run.
        load_after: The same after the last.
        versions: Distribution or tool to version.
        git_commit: Of the folder that the command ran in.
        git_dirty: Whether that folder had changes.
        phone: What only phones tell.
    """

    cpu: Cpu
    memory_bytes: int | None
    os: str
    os_version: str
    container: str | None = None
    virtual_machine: str | None = None
    load_before: float | None = None
    load_after: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    phone: Phone | None = None


@dataclass(frozen=True)
class Bandwidth:
    """How fast a block of memory is read again and again: small blocks come from caches.

    Attributes:
        block_bytes: Size of the block.
        bytes_per_s: Speed.
    """

    block_bytes: int
    bytes_per_s: float


@dataclass(frozen=True)
class Peaks:
    """The most that this machine was measured to do.

    Attributes:
        threads: Threads that were used.
        macs_per_s: Multiply-accumulates per second by kind of number, ``float32`` or ``int8``.
        bandwidths: Reading memory, small blocks first.
    """

    threads: int
    macs_per_s: dict[str, float]
    bandwidths: tuple[Bandwidth, ...]


@dataclass(frozen=True)
class Device:
    """One device of a report.

    Attributes:
        id: Unique in the report: ``host``, or a serial number.
        kind: What it is.
        name: For people.
        environment: All about it.
        verdict: How far its times can be trusted.
        reference: The reference loop's runs; empty where there is none.
        peaks: Measured peaks, one entry a number of threads.
        stand_in: It is no device but a program that plays one in tests: its figures were measured by nobody.
    """

    id: str
    kind: DeviceKind
    name: str
    environment: Environment
    verdict: Verdict
    reference: Runs = field(default_factory=Runs)
    peaks: tuple[Peaks, ...] = ()
    stand_in: bool = False

    def __post_init__(self) -> None:
        """What nobody measured is never valid."""
        if self.stand_in and self.verdict.judgement is Judgement.VALID:
            raise ReportError(f"device {self.id} is a stand-in for tests and its times are said to be valid")
