"""Core ML's side on any system: the seam played by stand-ins, coremltools' own classes where they exist here."""

import gc
import inspect
import sys
import threading
import time
import warnings
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest

from evit_edge.benchmark import BenchmarkRequest, DeviceChoice, Status, benchmark, read_report, write_report
from evit_edge.benchmark.apple import measure_with
from evit_edge.benchmark.apple.coreml import MacModel, choose_phone, mapped, read_plan
from evit_edge.benchmark.apple.package import describe_package, read_input, with_array_input
from evit_edge.benchmark.apple.seam import AppleDevice, ComputeUnits, PlannedOperation
from evit_edge.benchmark.apple.session import placement
from evit_edge.benchmark.report import Accelerator
from evit_edge.errors import ArtefactError, DeviceError, RequestError

SIDE = 8
PLAN = (PlannedOperation("conv", "Neural Engine", 0.75), PlannedOperation("softmax", "CPU", 0.25))


@pytest.fixture(scope="module")
def coremltools():
    return pytest.importorskip("coremltools")


@pytest.fixture(scope="module")
def packages(coremltools, tmp_path_factory) -> list[Path]:
    """Two small ML Programs that take an image; read only."""
    from coremltools.converters.mil import Builder

    folder = tmp_path_factory.mktemp("packages")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of coremltools' temporary folders, at their collection
        paths = [_package(coremltools, Builder, folder, factor) for factor in (1, 2)]
        gc.collect()
    return paths


def _package(coremltools, builder, folder: Path, factor: int) -> Path:
    @builder.program(input_specs=[builder.TensorSpec(shape=(1, 3, SIDE, SIDE))])
    def program(picture):
        return builder.reduce_mean(x=builder.mul(x=picture, y=float(factor)), axes=(2, 3))

    image = coremltools.ImageType(name="picture", shape=(1, 3, SIDE, SIDE), scale=1 / 255)
    target = coremltools.target.iOS16
    path = folder / f"{factor}.mlpackage"
    options = {"inputs": [image], "minimum_deployment_target": target, "skip_model_load": True}
    coremltools.convert(program, package_dir=str(path), **options)
    return path


class StandInModel:
    """Plays a loaded model: each prediction takes what it is told to take."""

    def __init__(self, seconds: float, pause_s: float) -> None:
        self.load_s, self._seconds, self._pause_s, self.unloaded = 0.5, seconds, pause_s, False
        self._noise = np.random.default_rng(0)

    def predict(self) -> float:
        time.sleep(self._pause_s)
        return self._seconds * self._noise.uniform(0.99, 1.01)

    def plan(self):
        return PLAN

    def unload(self) -> None:
        self.unloaded = True


class StandInCoreML:
    """Plays Core ML: the Neural Engine is four times as fast as the CPU, the second model takes twice as long."""

    version = "9.0"

    def __init__(self, *, os: str = "macOS", refuses: tuple[ComputeUnits, ...] = (), pause_s: float = 0.0):
        self.device = AppleDevice("stand-in", "stand-in for a Mac", os, "15.1")
        self.refuses, self.pause_s, self.loaded = refuses, pause_s, []

    def load(self, path: Path, units: ComputeUnits) -> StandInModel:
        if units in self.refuses:
            raise DeviceError(f"{path.name} on {units}: coremltools says no")
        seconds = 1e-3 * (2 if path.stem == "2" else 1) / (4 if units is ComputeUnits.NEURAL_ENGINE else 1)
        self.loaded.append(StandInModel(seconds, self.pause_s))
        return self.loaded[-1]

    def close(self) -> None:
        pass


def measure(core, packages, stop=None, **changes):
    accelerators = changes.pop("accelerators", (Accelerator.CPU, Accelerator.NEURAL_ENGINE))
    request = BenchmarkRequest(
        tuple(map(str, packages)),
        device=DeviceChoice.parse("mac"),
        accelerators=accelerators,
        min_time_s=0.0,
        **changes,
    )
    return measure_with(core, request, lambda _: None, stop or threading.Event())


def test_each_compute_unit_is_timed(packages, tmp_path):
    core = StandInCoreML()
    report = measure(core, packages, operators=True)
    rows = {(row.model, row.accelerator): row for row in report.measurements}
    expected = {
        ("1.mlpackage", Accelerator.CPU): 1e-3,
        ("2.mlpackage", Accelerator.CPU): 2e-3,
        ("1.mlpackage", Accelerator.NEURAL_ENGINE): 0.25e-3,
        ("2.mlpackage", Accelerator.NEURAL_ENGINE): 0.5e-3,
    }
    assert {key: row.statistics.p50_s for key, row in rows.items()} == pytest.approx(expected, rel=0.02)
    row = rows["1.mlpackage", Accelerator.NEURAL_ENGINE]
    assert len(row.runs.times_s) >= 100
    assert row.engine.delegate == "CPU 1, Neural Engine 1"
    assert row.engine.native_nodes == 1
    assert row.cold_start.load_s == 0.5
    assert [(op.name, op.kind) for op in row.operators] == [
        ("conv", "estimated, Neural Engine"),
        ("softmax", "estimated, CPU"),
    ]
    assert sum(op.time_s for op in row.operators) == pytest.approx(row.statistics.typical_s)
    assert all(ratio.value == pytest.approx(2, rel=0.02) for ratio in report.ratios)
    assert len(report.ratios) == 2
    assert all(model.unloaded for model in core.loaded)
    write_report(tmp_path / "report.json", report)
    assert read_report(tmp_path / "report.json") == report


def test_a_phone_is_named_as_one(packages):
    (device,) = measure(StandInCoreML(os="iOS"), packages[:1]).devices
    assert (device.kind, device.environment.os, device.environment.phone.manufacturer) == ("ios", "iOS", "Apple")


def test_units_that_refuse_a_model_fail_alone(packages):
    report = measure(StandInCoreML(refuses=(ComputeUnits.NEURAL_ENGINE,)), packages[:1])
    cpu, engine = report.measurements
    assert cpu.failure is None
    assert (engine.statistics, "coremltools says no" in engine.failure) == (None, True)


def test_where_nothing_runs_there_is_no_report(packages):
    with pytest.raises(DeviceError, match="coremltools says no"):
        measure(StandInCoreML(refuses=tuple(ComputeUnits)), packages)


def test_stopping_keeps_what_there_is(packages):
    stop = threading.Event()
    core = StandInCoreML(pause_s=0.002)
    threading.Timer(3.0, stop.set).start()
    report = measure(core, packages[:1], stop, min_runs=10**9)
    assert report.status is Status.PARTIAL
    assert all(model.unloaded for model in core.loaded)


def test_stopping_before_there_is_anything(packages):
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        measure(StandInCoreML(), packages, stop)


def test_accelerators_that_apple_does_not_have(packages):
    with pytest.raises(RequestError, match="nnapi asked for; Core ML takes cpu, gpu, neural-engine and all"):
        measure(StandInCoreML(), packages, accelerators=(Accelerator.NNAPI,))


@pytest.mark.skipif(sys.platform == "darwin", reason="here it runs")
@pytest.mark.parametrize("device", ["mac", "ios", "ios:Anna"])
def test_elsewhere_one_line_says_so(device):
    with pytest.raises(
        DeviceError, match=r"Core ML runs on Macs and iPhones only; run the command on a Mac"
    ) as told:
        benchmark(BenchmarkRequest(("model.mlpackage",), device=DeviceChoice.parse(device)))
    assert "\n" not in str(told.value)


def test_a_package_is_described(packages):
    entry = describe_package(packages[0], "one")
    assert (entry.format, entry.input_shape, entry.input_dtype) == ("mlpackage", (1, SIDE, SIDE, 3), "uint8")
    assert entry.size_bytes > 0
    assert entry.sha256 != describe_package(packages[1], "two").sha256


@pytest.mark.parametrize("name", ["missing.mlpackage", "model.tflite", "empty.mlpackage"])
def test_what_is_no_package_is_refused(coremltools, tmp_path, name):
    if name == "empty.mlpackage":
        (tmp_path / name).mkdir()
    with pytest.raises(ArtefactError, match=r"Core ML|mlpackage"):
        describe_package(tmp_path / name, "it")


def test_phones_get_an_array_in_place_of_an_image(coremltools, packages):
    path = packages[0]
    spec = coremltools.utils.load_spec(str(path))
    before = read_input(spec, path)
    changed = with_array_input(spec)
    after = read_input(changed, path)
    assert (before.image, after.image) == (True, False)
    assert after.picture().shape == (1, 3, SIDE, SIDE)
    assert spec.description.input[0].type.WhichOneof("Type") == "imageType"  # the original is as it was
    declared = changed.mlProgram.functions["main"].inputs[0].type.tensorType.dimensions
    assert [int(d.constant.size) for d in declared] == [1, 3, SIDE, SIDE]  # what the program begins with anyway


class TestCoremltools:
    """What is used of coremltools is there, under these names."""

    def test_durations_and_paths(self, coremltools):
        model = coremltools.models.MLModel
        for name in ("load_duration_in_nano_seconds", "last_predict_duration_in_nano_seconds"):
            assert isinstance(inspect.getattr_static(model, name), property)
        assert callable(model.get_compiled_model_path)
        assert {"compute_units", "skip_model_load"} <= set(inspect.signature(model.__init__).parameters)
        assert {unit.value for unit in ComputeUnits} <= {unit.name for unit in coremltools.ComputeUnit}

    def test_the_remote_device(self, coremltools):
        from coremltools.models.ml_program.experimental import async_wrapper, remote_device

        inspect.signature(remote_device.Device.get_connected_devices).bind(remote_device.DeviceType.IPHONE)
        remote_device.AppSigningCredentials(development_team="ABCDE12345")
        prepare = remote_device.Device.prepare_for_model_debugging
        inspect.signature(prepare).bind(None, credentials=None)
        wrapper = async_wrapper.MLModelAsyncWrapper
        inspect.signature(wrapper.from_spec_or_path).bind(
            spec_or_path=None, weights_dir="", compute_units=coremltools.ComputeUnit.ALL, device=None
        )
        for name in ("load", "predict", "retrieve_compute_plan", "unload"):
            assert inspect.iscoroutinefunction(getattr(async_wrapper.RemoteMLModelAsyncWrapper, name))
        fields = {"identifier", "udid", "name", "os_version", "session"}
        assert fields <= set(remote_device.Device.__dataclass_fields__)

    def test_a_compute_plan_is_read(self, coremltools):
        from coremltools.models import compute_device, compute_plan

        def operation(name):
            return compute_plan.MLModelStructureProgramOperation({}, name, [], [], None)

        operations = [operation(name) for name in ("const", "ios17.conv", "ios16.softmax", "ios16.gather")]
        block = compute_plan.MLModelStructureProgramBlock([], operations, [])
        program = compute_plan.MLModelStructureProgram(
            {"main": compute_plan.MLModelStructureProgramFunction([], block)}
        )
        engine, cpu = (
            object.__new__(getattr(compute_device, name))
            for name in ("MLNeuralEngineComputeDevice", "MLCPUComputeDevice")
        )
        usages = {"ios17.conv": engine, "ios16.softmax": cpu}
        plan = create_autospec(compute_plan.MLComputePlan, instance=True)
        plan.model_structure = compute_plan.MLModelStructure(None, program, None)
        plan.get_compute_device_usage_for_mlprogram_operation.side_effect = lambda op: (
            compute_plan.MLComputePlanDeviceUsage(usages[op.operator_name], [])
            if op.operator_name in usages
            else None
        )
        plan.get_estimated_cost_for_mlprogram_operation.side_effect = lambda op: (
            compute_plan.MLComputePlanCost(0.5) if op.operator_name in usages else None
        )
        found = read_plan(plan)
        assert found == (
            PlannedOperation("conv", "Neural Engine", 0.5),
            PlannedOperation("softmax", "CPU", 0.5),
            PlannedOperation("gather", "unknown", None),
        )
        assert placement(found) == "CPU 1, Neural Engine 1, unknown 1"
        plan.model_structure = compute_plan.MLModelStructure(None, None, None)
        assert read_plan(plan) == ()

    def test_a_model_is_timed_by_core_mls_clock(self, coremltools, packages):
        model = create_autospec(coremltools.models.MLModel, instance=True)
        model.load_duration_in_nano_seconds, model.last_predict_duration_in_nano_seconds = 2_000_000, 1_500
        source = read_input(coremltools.utils.load_spec(str(packages[0])), packages[0])
        loaded = MacModel(model, source)
        assert (loaded.load_s, loaded.predict()) == (2e-3, 1.5e-6)
        (inputs,) = model.predict.call_args.args
        assert inputs["picture"].size == (SIDE, SIDE)
        model.last_predict_duration_in_nano_seconds = None
        with pytest.raises(DeviceError, match="does not say how long it took"):
            loaded.predict()


class StandInPhone:
    """Plays coremltools' Device."""

    def __init__(self, name: str) -> None:
        self.name, self.identifier, self.udid = name, f"{name}-id", f"{name}-udid"


def test_phones_are_chosen_by_any_of_their_names():
    anna, bert = StandInPhone("Anna"), StandInPhone("Bert")
    assert choose_phone([anna], None) is anna
    for serial in ("Bert", "Bert-id", "Bert-udid"):
        assert choose_phone([anna, bert], serial) is bert
    with pytest.raises(DeviceError, match=r"2 iPhones are connected: Anna \(Anna-id\), Bert"):
        choose_phone([anna, bert], None)
    with pytest.raises(DeviceError, match="no iPhone Carl is connected; connected: Anna"):
        choose_phone([anna], "Carl")
    with pytest.raises(DeviceError, match="no iPhone is connected; attach one, unlock it, trust this Mac"):
        choose_phone([], None)


def test_coremltools_errors_become_one_line():
    with pytest.raises(DeviceError, match=r"^it: coremltools says first second$") as told, mapped("it"):
        raise RuntimeError("first\n  second")
    assert isinstance(told.value.__cause__, RuntimeError)
    with pytest.raises(RequestError), mapped("it"):
        raise RequestError("ours")
