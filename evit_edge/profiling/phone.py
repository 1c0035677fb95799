"""Profiling a ``.tflite`` on an Android phone: the op profile of ``benchmark_model``."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

from evit_edge import __version__
from evit_edge.benchmark.android.adb import Adb, StoppedError, find_adb
from evit_edge.benchmark.android.assembly import pooled
from evit_edge.benchmark.android.attached import STAND_IN, STAND_IN_REMARK, attached, choose
from evit_edge.benchmark.android.program import Way
from evit_edge.benchmark.android.session import PhonePlan, PhoneResult, measure_phone
from evit_edge.benchmark.device import DeviceKind
from evit_edge.benchmark.report import Accelerator
from evit_edge.errors import ArtefactError, DeviceError
from evit_edge.files import sha256_of
from evit_edge.profiling.profile import SCHEMA, Profile, by_class, operator_times
from evit_edge.profiling.request import ProfileRequest, Tell

METHOD = "benchmark_model's op profile, in a start of its own; the whole: mean of {starts} starts without it"

_LEAST_RUNS = 50


def profile_on_phone(request: ProfileRequest, tell: Tell) -> Profile:
    """Profile on the attached phone.

    Raises:
        ArtefactError: There is no such file.
        DeviceError: No phone can be used, or it gave no op profile.
        KeyboardInterrupt: Ctrl-C.
    """
    path = Path(request.artefact)
    if not path.is_file():
        raise ArtefactError(f"no artefact at {path}; give a .tflite file")
    adb = Adb(find_adb())
    (phone,) = choose(attached(adb), request.device.serial)
    way = Way(Accelerator.CPU, request.threads)
    plan = PhonePlan(
        models=((path.name, path),),
        ways=(way,),
        min_runs=_LEAST_RUNS,
        min_time_s=request.seconds / 2,
        operators=True,
        program=request.benchmark_model,
    )
    try:
        result = measure_phone(
            adb.on(phone.serial, threading.Event()), plan, lambda _, share: tell("starts", share)
        )
    except StoppedError as exc:
        raise KeyboardInterrupt from exc
    return _profile(request, path, phone.serial, result, way)


def _profile(request: ProfileRequest, path: Path, serial: str, result: PhoneResult, way: Way) -> Profile:
    starts, nodes = result.of(path.name, way), result.operators.get((path.name, way), ())
    if not starts or not nodes:
        reason = result.failures.get((path.name, way)) or result.lost or "benchmark_model printed no op profile"
        raise DeviceError(f"{path.name} could not be profiled on phone {serial}: {reason}")
    operators = operator_times((node.type, None, 1, node.time_s) for node in nodes)
    whole = pooled([start.output.runs for start in starts])
    return Profile(
        schema=SCHEMA,
        tool_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        artefact=path.name,
        sha256=sha256_of(path),
        engine=f"{result.program.dialect} benchmark_model {result.program.sha256[:12]}",
        device=serial,
        device_kind=DeviceKind.ANDROID,
        device_name=result.properties.name,
        threads=request.threads,
        batch=1,
        method=METHOD.format(starts=len(starts)),
        runs=whole.count,
        whole_s=whole.mean_s,
        classes=by_class(operators),
        operators=operators,
        remarks=(STAND_IN_REMARK,) if serial.startswith(STAND_IN) else (),
    )
