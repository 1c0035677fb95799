"""Which phones are attached, and which of them to use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from evit_edge.benchmark.android.adb import Adb
from evit_edge.benchmark.request import ALL_DEVICES
from evit_edge.errors import DeviceError

STAND_IN = "scripted-"
"""Serial numbers of programs that play a phone in tests begin so. No phone's does."""

STAND_IN_REMARK = "a scripted stand-in for a phone answered in a test: these figures were measured by nobody"


class State(StrEnum):
    """What adb says of a phone."""

    READY = "device"
    UNAUTHORIZED = "unauthorized"
    AUTHORIZING = "authorizing"
    OFFLINE = "offline"
    NO_PERMISSIONS = "no permissions"
    OTHER = "other"


_ADVICE = {
    State.UNAUTHORIZED: "has not allowed this computer yet: unlock it and accept the question on its screen",
    State.AUTHORIZING: "is asking on its screen whether this computer may use it: unlock it and accept",
    State.OFFLINE: "is offline: unplug it and plug it in again, or run: adb reconnect offline",
    State.NO_PERMISSIONS: (
        "may not be used by this account: on Linux install the udev rules (Debian: apt-get install "
        "android-sdk-platform-tools-common) and join the group plugdev, then plug it in again"
    ),
}


@dataclass(frozen=True)
class Attached:
    """A line of ``adb devices``.

    Attributes:
        serial: The phone's serial number.
        state: Whether it can be used.
        detail: The state in adb's own words.
        model: As adb names it, such as ``Pixel_6``; empty where it does not.
    """

    serial: str
    state: State
    detail: str
    model: str = ""

    @property
    def problem(self) -> str:
        """Why it cannot be used, and what to do."""
        advice = _ADVICE.get(self.state, f"is in the state {self.detail!r}: start Android on it")
        return f"phone {self.serial} {advice}"


def attached(adb: Adb) -> tuple[Attached, ...]:
    """Ask adb.

    Raises:
        DeviceError: adb does not work.
    """
    answer = adb.run(("devices", "-l"))
    header, mark, listing = answer.text.partition("List of devices attached")
    if answer.status or not mark:
        raise DeviceError(f"adb devices failed: {' '.join((answer.text or header).split())}; run: adb kill-server")
    return parse_devices(listing)


def parse_devices(listing: str) -> tuple[Attached, ...]:
    """Read what ``adb devices -l`` prints below its heading."""
    found = []
    for line in listing.splitlines():
        parts = line.split(maxsplit=1)
        if len(parts) < 2 or line.startswith("*"):
            continue
        serial, rest = parts
        words = re.split(r"\s(?:usb|product|model|device|transport_id|features):", f" {rest}", maxsplit=1)[
            0
        ].strip()
        state = next((state for state in State if words.startswith(state.value)), State.OTHER)
        model = re.search(r"\bmodel:(\S+)", rest)
        found.append(Attached(serial, state, words, model.group(1) if model else ""))
    return tuple(found)


def choose(devices: tuple[Attached, ...], wanted: str | None) -> tuple[Attached, ...]:
    """Pick the phones to measure.

    Args:
        devices: All that are attached.
        wanted: A serial number, ``all``, or None for the only one.

    Returns:
        One phone; with ``all`` every one that can be used.

    Raises:
        DeviceError: There is none, there are several, or the one cannot be used.
    """
    if not devices:
        raise DeviceError(
            "no phone is attached; plug one in with USB debugging switched on (Settings, Developer options), "
            "then check with: adb devices"
        )
    ready = tuple(device for device in devices if device.state is State.READY)
    if wanted == ALL_DEVICES:
        if not ready:
            raise DeviceError("; ".join(device.problem for device in devices))
        return ready
    if wanted is not None:
        return (_named(devices, wanted),)
    if len(devices) == 1:
        return (_usable(devices[0]),)
    listed = ", ".join(f"{d.serial} ({d.model or d.detail})" for d in devices)
    raise DeviceError(
        f"{len(devices)} phones are attached: {listed}; name one with --device android:SERIAL, or measure "
        f"every one with --device android:{ALL_DEVICES}"
    )


def _named(devices: tuple[Attached, ...], serial: str) -> Attached:
    found = next((device for device in devices if device.serial == serial), None)
    if found is None:
        listed = ", ".join(device.serial for device in devices)
        raise DeviceError(f"no phone {serial} is attached; attached: {listed}")
    return _usable(found)


def _usable(device: Attached) -> Attached:
    if device.state is not State.READY:
        raise DeviceError(device.problem)
    return device
