"""Core ML through coremltools, on this Mac or on an iPhone attached to it.

Written against coremltools 9.0: ``MLModel``'s durations and ``MLComputePlan`` on a Mac; for a phone the
experimental ``remote_device``, which builds a small app with Xcode, signs it, and runs models inside it. **It has
not run on Apple's hardware yet**; the rest of this package is tested against stand-ins of these classes.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evit_edge.benchmark.apple.package import read_input, with_array_input
from evit_edge.benchmark.apple.seam import AppleDevice, ComputeUnits, PlannedOperation
from evit_edge.errors import DeviceError, EvitEdgeError, require

TEAM = "DEVELOPMENT_TEAM"
"""Environment variable with the Apple developer team that signs the app on the phone."""

_DEVICES = {
    "MLCPUComputeDevice": "CPU",
    "MLGPUComputeDevice": "GPU",
    "MLNeuralEngineComputeDevice": "Neural Engine",
}


def refuse_elsewhere(kind: str) -> None:
    """Core ML runs on Apple's systems alone.

    Raises:
        DeviceError: This is another system.
    """
    if sys.platform != "darwin":
        raise DeviceError(
            f"{kind} asked for and this is {platform.system()}: Core ML runs on Macs and iPhones only; run the "
            "command on a Mac (an iPhone must be attached to one), or measure a .tflite with --device android"
        )


class MacCoreML:
    """Core ML on this Mac.

    Raises:
        DeviceError: This is no Mac.
        MissingExtraError: coremltools is not installed.
    """

    def __init__(self) -> None:
        refuse_elsewhere("mac")
        self._coremltools = require("coremltools", extra="convert")
        release = platform.mac_ver()[0]
        self.device = AppleDevice("mac", f"Mac ({platform.machine()})", "macOS", release)
        self.version = str(self._coremltools.__version__)

    def load(self, path: Path, units: ComputeUnits) -> MacModel:
        """Load and compile; see :class:`~evit_edge.benchmark.apple.seam.CoreML`."""
        with mapped(f"{path.name} on {units}"):
            model = self._coremltools.models.MLModel(
                str(path), compute_units=self._coremltools.ComputeUnit[units.value]
            )
            return MacModel(model, read_input(model.get_spec(), path))

    def close(self) -> None:
        """Nothing was started."""


class MacModel:
    """An ``MLModel`` with its picture."""

    def __init__(self, model: Any, source: Any) -> None:
        self._model = model
        self._inputs = {source.name: source.picture()}

    @property
    def load_s(self) -> float:
        """As Core ML says."""
        return _seconds(self._model.load_duration_in_nano_seconds)

    def predict(self) -> float:
        """Run once."""
        with mapped("prediction"):
            self._model.predict(self._inputs)
        return _seconds(self._model.last_predict_duration_in_nano_seconds)

    def plan(self) -> tuple[PlannedOperation, ...]:
        """From the compiled model."""
        plans = require("coremltools.models.compute_plan", extra="convert")
        compiled = self._model.get_compiled_model_path()
        with mapped("compute plan"):
            plan = plans.MLComputePlan.load_from_path(compiled, compute_units=self._model.compute_unit)
        return read_plan(plan)

    def unload(self) -> None:
        """Drop the model."""
        self._model = None


class PhoneCoreML:
    """Core ML on an iPhone that is attached to this Mac.

    Args:
        serial: Its identifier, serial number or name; None for the only one.

    Raises:
        DeviceError: This is no Mac, no phone or several are attached, or its app could not be built.
        MissingExtraError: coremltools is not installed.
    """

    def __init__(self, serial: str | None) -> None:
        refuse_elsewhere("ios")
        self._coremltools = require("coremltools", extra="convert")
        experimental = "coremltools.models.ml_program.experimental"
        self._wrappers = require(f"{experimental}.async_wrapper", extra="convert").MLModelAsyncWrapper
        remote = require(f"{experimental}.remote_device", extra="convert")
        self._loop = asyncio.new_event_loop()
        with mapped("looking for iPhones"):
            phones = remote.Device.get_connected_devices(remote.DeviceType.IPHONE)
        phone = choose_phone(phones, serial)
        credentials = remote.AppSigningCredentials(development_team=os.environ.get(TEAM, ""))
        with mapped(f"preparing {phone.name} (set {TEAM} to your Apple developer team)"):
            self._phone = self._run(phone.prepare_for_model_debugging(credentials=credentials))
        self.device = AppleDevice(phone.identifier, phone.name, "iOS", phone.os_version)
        self.version = str(self._coremltools.__version__)

    def load(self, path: Path, units: ComputeUnits) -> PhoneModel:
        """Compile here, send it, load it there."""
        with mapped(f"{path.name} on {units}"):
            # Not loaded on this Mac: only its specification and the folder of its weights are wanted.
            model = self._coremltools.models.MLModel(str(path), skip_model_load=True)
            spec = with_array_input(model.get_spec())
            wrapper = self._wrappers.from_spec_or_path(
                spec_or_path=spec,
                weights_dir=model.weights_dir,
                compute_units=self._coremltools.ComputeUnit[units.value],
                device=self._phone,
            )
            self._run(wrapper.load())
            return PhoneModel(wrapper, read_input(spec, path), self._loop)

    def close(self) -> None:
        """End the app on the phone."""
        if self._phone.session is not None:
            self._phone.session.stop()
        self._loop.close()

    def _run(self, question: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(question)


class PhoneModel:
    """A model in the app on the phone."""

    def __init__(self, wrapper: Any, source: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._wrapper, self._loop = wrapper, loop
        self._inputs = {source.name: source.picture()}

    @property
    def load_s(self) -> float:
        """As the phone says."""
        return _seconds(self._wrapper.load_duration_in_nano_seconds)

    def predict(self) -> float:
        """Run once; the way there and back is not counted."""
        with mapped("prediction"):
            self._loop.run_until_complete(self._wrapper.predict(self._inputs))
        return _seconds(self._wrapper.last_predict_duration_in_nano_seconds)

    def plan(self) -> tuple[PlannedOperation, ...]:
        """As the phone made it."""
        with mapped("compute plan"):
            return read_plan(self._loop.run_until_complete(self._wrapper.retrieve_compute_plan()))

    def unload(self) -> None:
        """Unload it on the phone."""
        with mapped("unloading"):
            self._loop.run_until_complete(self._wrapper.unload())


def choose_phone(phones: Sequence[Any], serial: str | None) -> Any:
    """The phone to measure.

    Args:
        phones: coremltools' ``Device`` of each that is connected.
        serial: Identifier, serial number or name; None for the only one.

    Raises:
        DeviceError: There is none, there are several, or none of that name.
    """
    if not phones:
        raise DeviceError(
            "no iPhone is connected; attach one, unlock it, trust this Mac on it, and switch developer mode on "
            "(Settings, Privacy & Security)"
        )
    listed = ", ".join(f"{phone.name} ({phone.identifier})" for phone in phones)
    if serial is None and len(phones) > 1:
        raise DeviceError(f"{len(phones)} iPhones are connected: {listed}; name one with --device ios:IDENTIFIER")
    for phone in phones:
        if serial is None or serial in (phone.identifier, phone.udid, phone.name):
            return phone
    raise DeviceError(f"no iPhone {serial} is connected; connected: {listed}")


def read_plan(plan: Any) -> tuple[PlannedOperation, ...]:
    """Operations of an ML Program's main function, without constants.

    Args:
        plan: coremltools' ``MLComputePlan``.
    """
    program = plan.model_structure.program
    if program is None:
        return ()
    operations = program.functions["main"].block.operations
    return tuple(_planned(plan, entry) for entry in operations if not entry.operator_name.endswith("const"))


def _planned(plan: Any, operation: Any) -> PlannedOperation:
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
    device = "unknown" if usage is None else _DEVICES.get(type(usage.preferred_compute_device).__name__, "unknown")
    name = operation.operator_name.rpartition(".")[2]  # "ios17.conv" is "conv"
    return PlannedOperation(name, device, None if cost is None else float(cost.weight))


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Say coremltools' errors in one line of this package's own.

    Raises:
        DeviceError: Whatever it raised.
    """
    try:
        yield
    except EvitEdgeError:
        raise
    except Exception as exc:  # ValueError, RuntimeError, its private _DeviceCtlError, Xcode's output
        reason = " ".join(str(exc).split())[:300] or type(exc).__name__
        raise DeviceError(f"{what}: coremltools says {reason}") from exc


def _seconds(nanoseconds: int | None) -> float:
    if nanoseconds is None:
        raise DeviceError("Core ML does not say how long it took; macOS 13 or iOS 16 is needed at least")
    return 1e-9 * nanoseconds
