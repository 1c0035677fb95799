"""A program that speaks adb's command line and plays phones, for tests.

``SCRIPTED_PHONES`` names a folder with one folder a phone. A phone's folder is its file system
(``data/local/tmp``, ``proc``, ``sys``, and programs of its own in ``bin``); ``phone.json`` in it says what it is
and what goes wrong:

- ``state``: what ``adb devices`` says, ``device`` if nothing is said
- ``push``: what a push fails with
- ``no_folder``, ``no_execution``: what its shell may not do in ``/data/local/tmp``
- ``mute``: seconds before it answers anything

A file ``cut`` in the folder is a pulled cable: shells get SIGHUP and lose their input, as adbd does it, and adb
says that there is no such device. The commands themselves run in this machine's ``sh``, so that what evit-edge
sends is really carried out. Serial numbers begin with ``scripted-``, by which evit-edge marks every report of it.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

MARK = b"evit-edge scripted benchmark_model"
PLACES = ("/data/local/tmp", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu")
PREFIX = "scripted-"


def phones():
    """Serial number to folder and description."""
    folders = sorted(p for p in Path(os.environ["SCRIPTED_PHONES"]).iterdir() if p.is_dir())
    found = {folder.name: (folder, json.loads((folder / "phone.json").read_text())) for folder in folders}
    assert all(serial.startswith(PREFIX) for serial in found)
    return found


def reachable():
    return {serial: entry for serial, entry in phones().items() if not (entry[0] / "cut").exists()}


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def devices():
    print("List of devices attached")
    for serial, (_, phone) in reachable().items():
        state = phone.get("state", "device")
        model = f" product:{phone['model']} model:{phone['model']} device:stand" if state == "device" else ""
        print(f"{serial:<22} {state} usb:1-1{model} transport_id:1")
    print()


def chosen(serial):
    found = reachable()
    if serial is None and len(found) != 1:
        fail("error: more than one device/emulator" if found else "error: no devices/emulators found")
    serial = serial or next(iter(found))
    if serial not in found:
        fail(f"error: device '{serial}' not found")
    folder, phone = found[serial]
    state = phone.get("state", "device")
    if state == "offline":
        fail("error: device offline")
    if state != "device":
        fail(f"error: device {state}.\nThis adb server's $ADB_VENDOR_KEYS is not set")
    time.sleep(phone.get("mute", 0))
    return folder, phone


def inside(folder, text):
    for place in PLACES:
        text = text.replace(place, f"{folder}{place}")
    return text


def push(folder, phone, local, remote):
    if "push" in phone:
        fail(f"adb: error: failed to copy '{local}' to '{remote}': {phone['push']}")
    target = Path(inside(folder, remote))
    content = Path(local).read_bytes()
    if MARK in content:
        tool = Path(__file__).with_name("scripted_benchmark_model.py")
        content = f'#!/bin/sh\nexec {sys.executable} -S {tool} {folder} "$@"\n'.encode()
    try:
        target.write_bytes(content)
    except OSError as exc:
        fail(f"adb: error: failed to copy '{local}' to '{remote}': remote couldn't create file: {exc.strerror}")
    print(f"{local}: 1 file pushed, 0 skipped.")


def environment(folder, phone):
    path = f"{folder}/bin:{os.environ['PATH']}"
    for name, text in (("mkdir", "no_folder"), ("chmod", "no_execution")):
        if phone.get(text):
            program = folder / "bin" / name
            program.write_text(f"#!/bin/sh\n{'exit 0' if name == 'chmod' else _DENIED}\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PATH": path}


_DENIED = "echo \"mkdir: '$1': Permission denied\" >&2; exit 1"


def shell(folder, phone, command):
    process = subprocess.Popen(
        ["sh", "-c", inside(folder, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(folder, phone),
        start_new_session=True,
    )
    signal.signal(signal.SIGTERM, lambda *_: hang_up(process, 143))
    threading.Thread(target=hand_in, args=(process,), daemon=True).start()
    watcher = threading.Thread(target=watch_cable, args=(folder, process), daemon=True)
    watcher.start()
    for line in process.stdout:
        sys.stdout.buffer.write(line.replace(str(folder).encode(), b""))
        sys.stdout.flush()
    os._exit(process.wait())  # at once: a thread may still be reading this program's input


def hand_in(process):
    """Hand this program's input on; its end is the command's end of input."""
    for line in sys.stdin.buffer:
        process.stdin.write(line)
        process.stdin.flush()
    process.stdin.close()


def watch_cable(folder, process):
    while process.poll() is None:
        if (folder / "cut").exists():
            hang_up(process, 1)
        time.sleep(0.02)


def hang_up(process, status):
    """What adbd does to a shell when its connection breaks."""
    process.send_signal(signal.SIGHUP)
    with suppress(OSError, ValueError):
        process.stdin.close()
    os._exit(status)


def main(arguments):
    serial = None
    if arguments[:1] == ["-s"]:
        serial, arguments = arguments[1], arguments[2:]
    command, *rest = arguments
    if command == "version":
        print("Android Debug Bridge version 1.0.41\nVersion 0.0.0-scripted\nInstalled as a stand-in for tests")
    elif command == "devices":
        devices()
    elif command == "get-state":
        chosen(serial)
        print("device")
    elif command == "push":
        push(*chosen(serial), *rest)
    elif command == "shell":
        shell(*chosen(serial), " ".join(rest))
    else:
        fail(f"adb: unknown command {command}")


if __name__ == "__main__":
    main(sys.argv[1:])
