"""Real benchmarks of small real models on this machine, through the one door."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from evit_edge.benchmark import BenchmarkRequest, DeviceChoice, DeviceKind, Judgement, Status, benchmark
from evit_edge.benchmark.artefacts import invocation, open_subjects, size_and_hash
from evit_edge.benchmark.child import peak_bytes
from evit_edge.benchmark.device import Bandwidth, Peaks
from evit_edge.benchmark.environment import environment
from evit_edge.benchmark.figures import Bound, Stage
from evit_edge.benchmark.peak_model import MACS, peak_model
from evit_edge.benchmark.processes import cold_start, memory_use
from evit_edge.benchmark.report import Accelerator, report_text
from evit_edge.benchmark.request import Phase
from evit_edge.benchmark.roofline import bandwidth_at, limit, measure_peaks
from evit_edge.benchmark.schema import published_schema
from evit_edge.benchmark.words import remarks
from evit_edge.benchmark.work import Work, tflite_work
from evit_edge.errors import ArtefactError, DataError, RequestError
from evit_edge.files import sha256_of
from evit_edge.models.complexity import count
from evit_edge.models.config import variant
from evit_edge.runtime import open_runner


@pytest.fixture(scope="module")
def models(colour_models) -> list[str]:
    return [str(colour_models[form]) for form in ("uint8-nhwc-probabilities", "float32-nchw-logits")]


@pytest.fixture(scope="module")
def report(models, coffee_jpg):
    """Two models with everything, few runs."""
    told = []
    request = BenchmarkRequest(
        tuple(models), min_runs=30, min_time_s=0.0, image=coffee_jpg, published=True, command="evit-edge benchmark"
    )
    made = benchmark(request, told.append)
    assert {progress.phase for progress in told} == set(Phase)
    return made


def test_a_report_of_this_machine_is_whole(report, models):
    assert report.status is Status.COMPLETE
    assert [entry.sha256 for entry in report.models] == [sha256_of(Path(model)) for model in models]
    (device,) = report.devices
    assert device.kind is DeviceKind.HOST
    assert device.environment.cpu.logical_cores >= 1
    assert device.environment.versions["numpy"] == np.__version__
    assert device.verdict.checks
    assert len(device.reference.times_s) == 1 + max(report.measurements[0].runs.rounds)
    for row in report.measurements:
        assert row.statistics.count == len(row.runs.times_s) >= 30
        assert row.engine.partitions is not None
        assert [stage.stage for stage in row.stages] == list(Stage)
        assert row.cold_start.total_s > row.cold_start.load_s > 0
        assert row.memory is None or row.memory.peak_bytes > 10e6
    (found,) = report.ratios
    assert (found.model, found.baseline) == (report.models[1].name, report.models[0].name)
    assert found.value in found.interval
    assert report.settings.image == "coffee.jpg"


def test_a_report_of_this_machine_is_valid_json(report):
    validator = jsonschema.Draft202012Validator(published_schema())
    assert list(validator.iter_errors(json.loads(report_text(report)))) == []


def test_the_baseline_may_be_another_and_threads_several(models):
    request = BenchmarkRequest(
        (models[0],),
        threads=(1, 2),
        min_runs=8,
        min_time_s=0,
        baseline=models[1],
        stages=False,
        cold_start=False,
        peaks=False,
    )
    told = []
    made = benchmark(request, told.append)
    done = [progress.done for progress in told if progress.phase is Phase.MEASURE]
    assert done == sorted(done)
    assert done[-1] == 1
    names = [Path(model).name for model in models]
    assert [(row.model, row.threads) for row in made.measurements] == [(n, t) for t in (1, 2) for n in names]
    assert [(ratio.model, ratio.baseline, ratio.threads) for ratio in made.ratios] == [(*names, 1), (*names, 2)]
    starts = [min(row.runs.starts_s) for row in made.measurements]
    assert max(starts[:2]) < min(starts[2:])  # one clock for both sessions
    reference = made.devices[0].reference
    assert len(set(reference.rounds)) == len(reference.rounds)


def test_the_same_file_twice_has_two_names(models):
    subjects = open_subjects([models[0], models[0]], reference=False)
    assert [s.entry.name for s in subjects] == [
        "uint8-nhwc-probabilities.tflite",
        "uint8-nhwc-probabilities.tflite (2)",
    ]


def test_a_package_is_hashed_over_its_files(tmp_path):
    package = tmp_path / "m.mlpackage"
    (package / "Data").mkdir(parents=True)
    with pytest.raises(ArtefactError, match="neither"):
        size_and_hash(package)
    (package / "Manifest.json").write_bytes(b"{}")
    (package / "Data" / "weights").write_bytes(b"1234")
    size, digest = size_and_hash(package)
    assert size == 6
    (package / "Data" / "weights").rename(package / "Data" / "other")
    assert size_and_hash(package)[1] != digest


def test_a_checkpoint_beside_its_artefact(m0_checkpoint, m0_artefact):
    request = BenchmarkRequest(
        (str(m0_checkpoint), str(m0_artefact)), min_runs=2, min_time_s=0, stages=False, cold_start=False
    )
    made = benchmark(request)
    torch_model, tflite_model = made.models
    assert torch_model.format == "checkpoint"
    assert torch_model.macs == tflite_model.macs
    assert torch_model.number_type == tflite_model.number_type == "float32"
    assert all(row.limit.measured_over_limit > 0.5 for row in made.measurements)
    assert made.measurements[0].engine.name == "torch"


def test_a_stopped_benchmark_gives_a_partial_report(models):
    stop = threading.Event()

    def tell(progress):
        if progress.phase is Phase.MEASURE and progress.done > 0.4:
            stop.set()

    made = benchmark(BenchmarkRequest(tuple(models), min_runs=20_000, min_time_s=0), tell, stop)
    assert made.status is Status.PARTIAL
    assert 0 < made.measurements[0].statistics.count < 20_000
    assert made.measurements[0].cold_start is None
    assert made.devices[0].peaks == ()
    assert not made.trusted


def test_a_benchmark_that_is_stopped_at_once_says_so(models):
    stop = threading.Event()
    stop.set()
    made = benchmark(BenchmarkRequest(tuple(models)), stop=stop)
    assert made.status is Status.PARTIAL
    assert all(row.statistics is None and "stopped" in row.failure for row in made.measurements)
    assert made.judgement is Judgement.NOISY
    assert made.ratios == ()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"artefacts": ("missing.tflite",)}, ArtefactError, "missing.tflite"),
        ({"artefacts": ("model.mlpackage",)}, RequestError, "--reference"),
        ({"accelerators": (Accelerator.GPU,)}, RequestError, "cpu is accepted"),
        ({"image": Path("missing.jpg")}, DataError, "no such file"),
    ],
    ids=["missing", "mlpackage", "gpu", "photo"],
)
def test_what_cannot_be_measured_is_said_before_anything_is(change, error, message, models):
    request = replace(BenchmarkRequest(tuple(models)), **change)
    told = []
    with pytest.raises(error, match=message):
        benchmark(request, told.append)
    assert told == []


@pytest.mark.parametrize(
    "fields",
    [
        {"artefacts": ()},
        {"threads": (0,)},
        {"threads": (1, 1)},
        {"min_runs": 0},
        {"min_time_s": -1.0},
        {"min_time_s": float("nan")},
        {"seed": -1},
        {"accelerators": ()},
    ],
    ids=str,
)
def test_requests_that_measure_nothing_are_refused(fields):
    with pytest.raises(RequestError, match="given"):
        BenchmarkRequest(**{"artefacts": ("a.tflite",), **fields})


def test_devices_by_name():
    assert DeviceChoice.parse("host") == DeviceChoice()
    assert DeviceChoice.parse("android:all").serial == "all"
    assert DeviceChoice.parse("ios").kind is DeviceKind.IOS
    for text in ("", "android:", "windows", "host:1", "mac:x"):
        with pytest.raises(RequestError):
            DeviceChoice.parse(text)


def test_cold_start_and_memory_are_of_fresh_processes(models):
    ballast = bytearray(200_000_000)  # a parent's memory must not count
    ballast[::4096] = b"x" * len(ballast[::4096])
    stop = threading.Event()
    started, used = cold_start(models[0], 1, stop), memory_use(models[0], 1, stop)
    assert started.process_s > 0.01
    assert used is None or used.before_bytes < used.peak_bytes < peak_bytes() - 100_000_000
    with pytest.raises(ArtefactError, match="fresh process failed"):
        cold_start("missing.tflite", 1, stop)
    stop.set()
    assert cold_start(models[0], 1, stop) is None
    del ballast


def test_work_is_counted_as_the_architecture_says(m0_artefact):
    config = variant("m0").adapted(num_classes=5, image_size=128)
    work = tflite_work(m0_artefact.read_bytes())
    expected = count(config)
    assert work.macs == expected.macs
    assert work.number_type == "float32"
    assert work.constant_bytes == pytest.approx(4 * work.parameters, rel=0.1)
    assert work.parameters == pytest.approx(expected.parameters, rel=0.01)  # batch normalisation is folded


@pytest.mark.shared
def test_work_of_a_foreign_model(shared):
    work = tflite_work((shared / "models" / "mobilenet_v2_1.0_224_quant.tflite").read_bytes())
    assert work.macs == pytest.approx(300e6, rel=0.01)  # as its paper says
    assert work.number_type == "int8"


@pytest.mark.parametrize("number_type", ["float32", "int8"])
def test_the_peak_model_is_what_it_says_and_runs(number_type, tmp_path):
    path = tmp_path / "peak.tflite"
    path.write_bytes(peak_model(number_type))
    work = tflite_work(path.read_bytes())
    assert (work.macs, work.number_type) == (MACS, number_type)
    from evit_edge.runtime.engines import delegate_partitions, open_interpreter

    _, interpreter = open_interpreter(path, 1)
    interpreter.invoke()
    assert len(np.unique(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))) > 100
    assert delegate_partitions(path).partitions == 1


@pytest.mark.parametrize("content", [b"", b"TFL3" * 20, b"\xff" * 200])
def test_damaged_files_are_no_work(content):
    with pytest.raises(ArtefactError):
        tflite_work(content)


def test_peaks_are_measured():
    for threads in (1, 2):
        peaks = measure_peaks(threads)
        assert set(peaks.macs_per_s) == {"float32", "int8"}
        assert min(peaks.macs_per_s.values()) > 1e8
        assert [b.block_bytes for b in peaks.bandwidths] == sorted(b.block_bytes for b in peaks.bandwidths)
        assert min(b.bytes_per_s for b in peaks.bandwidths) > 1e8


def test_the_limit_is_the_slower_of_compute_and_memory():
    peaks = Peaks(1, {"int8": 1e9}, (Bandwidth(1000, 1e9), Bandwidth(1_000_000, 1e8)))
    heavy = limit(Work(10**7, 1000, 1000, "int8"), 0, peaks, 0.02)
    assert (heavy.bound, heavy.limit_s, heavy.measured_over_limit) == (Bound.COMPUTE, 0.01, pytest.approx(2))
    light = limit(Work(1000, 1000, 1_000_000, "int8"), 0, peaks, 0.02)
    assert light.bound is Bound.MEMORY
    assert light.limit_s == pytest.approx(0.01)
    assert limit(Work(1000, 1000, 1000, "float32"), 0, peaks, 0.02) is None
    assert 1e8 < bandwidth_at(peaks, 30_000) < 1e9
    assert bandwidth_at(peaks, 1) == pytest.approx(1e9)


def test_the_environment_does_not_fail_where_nothing_can_be_read(monkeypatch):
    monkeypatch.setattr("evit_edge.benchmark.environment._lines", lambda path: [])
    monkeypatch.setattr("evit_edge.benchmark.environment._answer", lambda command: None)
    found = environment()
    assert found.cpu.model
    assert found.git_commit is None
    assert found.virtual_machine is None


def test_git_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git = ("git", "-c", "user.name=n", "-c", "user.email=e@example.org")
    for command in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "file").write_text("1")
    assert environment().git_dirty is False
    subprocess.run([*git, "add", "file"], check=True)
    found = environment()
    assert len(found.git_commit) == 40
    assert found.git_dirty is True


def test_a_runner_without_prepare_is_timed_as_a_whole(colour_model):
    class Plain:
        def __init__(self, inner):
            self.info, self.run, self.calls = inner.info, self._run, 0

        def _run(self, images):
            self.calls += 1
            assert images.shape == (1, 32, 32, 3)

    plain = Plain(open_runner(colour_model))
    invocation(plain)()
    assert plain.calls == 1


def _row(report, name, median_s, **changes):
    entry = replace(report.models[0], name=name, sha256=name.rjust(64, "0"), **changes)
    figures = replace(
        report.measurements[0].statistics, min_s=median_s, p50_s=median_s, mean_s=1, p90_s=1, p99_s=1, max_s=1
    )
    return entry, replace(report.measurements[0], model=name, statistics=figures)


def _said(rows):
    def times(slow, fast):
        found = slow.statistics.p50_s / fast.statistics.p50_s
        return found if found > 1 else None

    return remarks([entry for entry, _ in rows], [row for _, row in rows], times)


def test_an_int8_model_slower_than_its_float_is_said_in_words(report):
    float_row = _row(report, "float", 0.002, number_type="float32", macs=100)
    int8_row = _row(report, "int8", 0.003, number_type="int8", macs=100)
    engine = replace(report.measurements[0].engine, partitions=22)
    int8_row = (int8_row[0], replace(int8_row[1], engine=engine))
    (said,) = _said([float_row, int8_row])
    assert said == "int8 is slower than float: int8 takes 1.50 times as long as float; it runs in 22 partitions"
    assert _said([_row(report, "float", 0.004, number_type="float32", macs=100), int8_row]) == ()


def test_nets_that_lose_are_said_in_words(report):
    small = _row(report, "small", 0.001, number_type="float32", macs=100_000_000)
    big = _row(report, "big", 0.003, number_type="float32", macs=500_000_000)
    (said,) = _said([small, big])
    assert said == (
        "a bigger net loses to a smaller: big (500 M MACs) takes 3.00 times as long as small (100 M MACs)"
    )
    slow = _row(report, "small", 0.004, number_type="float32", macs=100_000_000)
    (said,) = _said([slow, big])
    assert said.startswith("a smaller net loses to a bigger: small (100 M MACs)")


def test_a_reference_evaluator_is_called_one(report):
    entry, row = _row(report, "m.mlpackage", 0.1, reference_only=True)
    assert _said([(entry, row)]) == (
        "m.mlpackage ran in a reference evaluator: its time says nothing about any device",
    )


def test_importing_the_door_loads_no_engine():
    heavy = {"torch", "ai_edge_litert", "onnxruntime", "matplotlib"}
    check = f"import sys, evit_edge.benchmark; print(sorted({heavy} & set(sys.modules)))"
    paths = ":".join(path for path in sys.path if path)
    answer = subprocess.run(
        [sys.executable, "-c", check], env={"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
