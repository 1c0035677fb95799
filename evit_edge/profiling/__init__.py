"""Where a model's time goes, by class of operator: compute-bound against memory-bound.

:func:`profile` is the one door: a :class:`ProfileRequest` in, a :class:`Profile` out.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from evit_edge import __version__
from evit_edge.benchmark.device import DeviceKind
from evit_edge.benchmark.environment import cpu
from evit_edge.errors import ArtefactError, RequestError, require
from evit_edge.files import sha256_of
from evit_edge.profiling.op_classes import OpClass, classify
from evit_edge.profiling.profile import SCHEMA, ClassTime, Profile, by_class, read_profile, write_profile
from evit_edge.profiling.request import ProfileRequest, Tell
from evit_edge.runtime.checks.door import check_model
from evit_edge.runtime.opening import is_checkpoint

__all__ = [
    "ClassTime",
    "OpClass",
    "Profile",
    "ProfileRequest",
    "classify",
    "profile",
    "read_profile",
    "write_profile",
]

LARGE = 0.25
"""Share of the whole from which a residual or the errors are remarked on."""


def _ignore(_: str, __: float) -> None:
    pass


def profile(request: ProfileRequest, tell: Tell = _ignore) -> Profile:
    """Find out where the time goes.

    Args:
        request: What, where and for how long.
        tell: Called with what is being timed and the share that is done.

    Raises:
        EvitEdgeError: The model or the device cannot be used.
    """
    if is_checkpoint(request.artefact):
        return _checked(_of_checkpoint(request, tell))
    path = Path(request.artefact)
    if path.suffix != ".tflite":
        raise ArtefactError(f"{path} given; a .tflite file or a checkpoint is accepted")
    if request.batch != 1:
        raise RequestError(f"batch {request.batch} given; a .tflite file takes the batch that is in it")
    if path.exists():
        check_model(path)
    if request.device.kind is DeviceKind.ANDROID:
        from evit_edge.profiling.phone import profile_on_phone

        return _checked(profile_on_phone(request, tell))
    return _checked(_of_tflite(request, path, tell))


def _of_tflite(request: ProfileRequest, path: Path, tell: Tell) -> Profile:
    from evit_edge.profiling.tflite import measure_pieces

    found = measure_pieces(path, threads=request.threads, seconds=request.seconds, tell=tell)
    text = f"the pieces' answer differs from the whole's by up to {found.difference:.2g}"
    return replace(
        _header(request, path, found.engine, found.whole_s),
        method=found.method,
        runs=found.runs,
        classes=found.classes,
        operators=found.operators,
        remarks=(text,) if found.difference > 0 else (),
    )


def _of_checkpoint(request: ProfileRequest, tell: Tell) -> Profile:
    if request.device.kind is not DeviceKind.HOST:
        raise RequestError(
            f"{request.artefact} is a checkpoint; convert it to profile it on {request.device.kind}"
        )
    require("torch", extra="convert")
    require("safetensors", extra="convert")
    from evit_edge.models.sources import resolve
    from evit_edge.profiling.torch_model import measure_operators

    path, _ = resolve(request.artefact)
    found = measure_operators(
        path, threads=request.threads, batch=request.batch, seconds=request.seconds, tell=tell
    )
    return replace(
        _header(request, path, found.engine, found.whole_s),
        method=found.method,
        runs=found.runs,
        classes=by_class(found.operators),
        operators=found.operators,
    )


def _header(request: ProfileRequest, path: Path, engine: str, whole_s: float) -> Profile:
    """What every profile on this machine states, without figures."""
    return Profile(
        schema=SCHEMA,
        tool_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        artefact=path.name,
        sha256=sha256_of(path),
        engine=engine,
        device="host",
        device_kind=DeviceKind.HOST,
        device_name=cpu().model,
        threads=request.threads,
        batch=request.batch,
        method="",
        runs=1,
        whole_s=whole_s,
        classes=(),
    )


def _checked(found: Profile) -> Profile:
    """Say so where the figures explain the whole badly."""
    share = found.residual_s / found.whole_s
    error = sum(entry.error_s or 0.0 for entry in found.classes) / found.whole_s
    remarks = list(found.remarks)
    if abs(share) > LARGE:
        remarks.append(
            f"{100 * abs(share):.0f} % of the whole {'are left over' if share > 0 else 'are counted twice'}"
        )
    if error > LARGE:
        remarks.append(
            f"the errors of the classes add up to {100 * error:.0f} % of the whole: many small operators"
        )
    return replace(found, remarks=tuple(remarks))
