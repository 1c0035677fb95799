"""Where the time goes: cutting graphs, classes of operators, the profiler, the phone, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from evit_edge.benchmark.figures import Bound, OperatorTime
from evit_edge.benchmark.request import DeviceChoice
from evit_edge.cli.main import app
from evit_edge.errors import ArtefactError, DeviceError, ReportError, RequestError
from evit_edge.profiling import (
    ClassTime,
    OpClass,
    Profile,
    ProfileRequest,
    classify,
    profile,
    read_profile,
    write_profile,
)
from evit_edge.profiling.profile import SCHEMA, by_class, operator_times

CLASSES = {
    "CONV_2D": OpClass.CONVOLUTION,
    "Delegate/Convolution (NHWC, QC8) IGEMM": OpClass.CONVOLUTION,
    "aten::mkldnn_convolution": OpClass.CONVOLUTION,
    "Convolution (NHWC, F32) DWConv": OpClass.DEPTHWISE,
    "DEPTHWISE_CONV_2D": OpClass.DEPTHWISE,
    "Fully Connected (NC, QS8, QC8W) GEMM": OpClass.MATMUL,
    "Delegate/Batch Matrix Multiply (NC, F32) GEMM": OpClass.MATMUL,
    "aten::addmm": OpClass.MATMUL,
    "SOFTMAX": OpClass.NORMALIZATION,
    "aten::native_batch_norm": OpClass.NORMALIZATION,
    "Static Reshape (NC)": OpClass.RESHAPE,
    "Transpose (ND, X8) Transpose": OpClass.RESHAPE,
    "Copy (NC, X32)": OpClass.COPY,
    "aten::copy_": OpClass.COPY,
    "Convert (NC)": OpClass.CONVERSION,
    "DEQUANTIZE": OpClass.CONVERSION,
    "Add (ND)": OpClass.ELEMENTWISE,
    "HardSwish (NC)": OpClass.ELEMENTWISE,
    "Mean (ND) Reduce2": OpClass.REDUCTION,
    "TfLiteGpuDelegateV2": OpClass.DELEGATE,
    "something new": OpClass.OTHER,
    "aten::something_new": OpClass.OTHER,
}


@pytest.mark.parametrize("name", CLASSES)
def test_names_of_three_vocabularies_have_classes(name):
    assert classify(name) is CLASSES[name]


def test_classes_are_bound_by_compute_or_memory():
    compute = {OpClass.CONVOLUTION, OpClass.DEPTHWISE, OpClass.MATMUL}
    unknown = {OpClass.DELEGATE, OpClass.OTHER}
    for op_class in OpClass:
        expected = Bound.COMPUTE if op_class in compute else None if op_class in unknown else Bound.MEMORY
        assert op_class.bound is expected


def test_every_builtin_of_tflite_that_computes_numbers_is_known():
    from evit_converters.tflite.graph import OP_NAMES

    unknown = [name for name in OP_NAMES.values() if classify(name) is OpClass.OTHER]
    assert not {name for name in unknown if name.startswith(("CONV", "REDUCE_M", "RESIZE", "SPLIT", "LOGICAL"))}


class TestCutting:
    """A graph in pieces computes what the whole computes."""

    @pytest.fixture
    def half_precision(self, m0_artefact, tmp_path) -> Path:
        from evit_converters.tflite import Quantization, quantize
        from evit_converters.tflite.graph import Graph

        path = tmp_path / "half.tflite"
        model = Graph(m0_artefact.read_bytes()).to_bytes()  # without the archive behind it
        path.write_bytes(quantize(model, Quantization.FP16))
        return path

    def check(self, path: Path, **changes):
        from evit_edge.profiling.tflite import measure_pieces

        found = measure_pieces(path, **{"threads": 1, "seconds": 0.1, "tell": lambda *_: None, **changes})
        assert found.difference == 0.0
        return found

    def test_m0(self, m0_artefact):
        from evit_converters.tflite.cut import single_operators
        from evit_converters.tflite.graph import Graph

        graph = Graph(m0_artefact.read_bytes())
        kinds = [graph.kind(operator) for operator in graph.operators]
        assert "PAD" in kinds
        found = self.check(m0_artefact)
        joined = sum(len(group) - 1 for group in single_operators(graph))
        assert 0 < joined <= kinds.count("PAD")
        assert sum(entry.count for entry in found.classes) == len(kinds) - joined  # PAD goes with its convolution
        depthwise = next(entry for entry in found.classes if entry.op_class is OpClass.DEPTHWISE)
        assert depthwise.kinds == {"DEPTHWISE_CONV_2D": kinds.count("DEPTHWISE_CONV_2D")}
        errors = [entry.error_s / entry.count for entry in found.classes]
        assert errors == pytest.approx([errors[0]] * len(errors))
        assert found.whole_s > 0
        assert "taken off each for the call" in found.method
        assert sum(entry.time_s for entry in found.classes) == pytest.approx(found.whole_s)

    def test_weights_of_half_precision_are_widened_at_loading(self, half_precision):
        from evit_converters.tflite.graph import Graph

        graph = Graph(half_precision.read_bytes())
        assert "DEQUANTIZE" in {graph.kind(operator) for operator in graph.operators}
        kinds = {kind for entry in self.check(half_precision).classes for kind in entry.kinds}
        assert "DEQUANTIZE" not in kinds

    def test_other_inputs_and_several_threads(self, colour_models):
        for path in colour_models.values():
            self.check(path, threads=2)

    @pytest.mark.shared
    def test_a_foreign_quantized_model(self, shared):
        found = self.check(shared / "models" / "mobilenet_v2_1.0_224_quant.tflite")
        assert next(iter(found.classes)).op_class is OpClass.CONVOLUTION

    def test_a_graph_with_state_is_refused(self, m0_artefact, tmp_path):
        from evit_converters.tflite.graph import Graph

        graph = Graph(m0_artefact.read_bytes())
        graph.operators[3].opcodeIndex = graph.opcode("READ_VARIABLE")
        (tmp_path / "state.tflite").write_bytes(graph.to_bytes())
        with pytest.raises(ArtefactError, match=r"a graph with state \(READ_VARIABLE\)"):
            profile(ProfileRequest(str(tmp_path / "state.tflite")))

    def test_what_is_no_model_is_refused(self, tmp_path):
        (tmp_path / "text.tflite").write_text("this is no model")
        with pytest.raises(ArtefactError, match="does not start like a TFLite model"):
            profile(ProfileRequest(str(tmp_path / "text.tflite")))
        with pytest.raises(ArtefactError, match="no artefact at"):
            profile(ProfileRequest(str(tmp_path / "missing.tflite")))
        with pytest.raises(ArtefactError, match=r"a \.tflite file or a checkpoint is accepted"):
            profile(ProfileRequest(str(tmp_path / "model.onnx")))

    def test_pieces_name_what_they_read_and_give(self, m0_artefact):
        from evit_converters.tflite.cut import cut, single_operators
        from evit_converters.tflite.graph import Graph

        graph = Graph(m0_artefact.read_bytes())
        groups = single_operators(graph)
        halves = [sum(groups[:40], ()), sum(groups[40:], ())]
        first, second = cut(graph, halves)
        assert first.inputs == tuple(graph.inputs)
        assert second.outputs == tuple(graph.outputs)
        assert set(second.inputs) <= set(first.outputs) | set(graph.inputs)


def test_a_checkpoint_in_torch(m0_checkpoint, capfd):
    from evit_edge.models.checkpoints import load_checkpoint

    network = load_checkpoint(m0_checkpoint).model
    torch = pytest.importorskip("torch")
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    depthwise = [module for module in convolutions if module.groups > 1]
    found = profile(ProfileRequest(str(m0_checkpoint), seconds=0.2, batch=2))
    counted = {
        op_class: sum(op.count for op in found.operators if op.kind == op_class.value)
        for op_class in (OpClass.CONVOLUTION, OpClass.DEPTHWISE)
    }
    assert counted == {OpClass.CONVOLUTION: len(convolutions) - len(depthwise), OpClass.DEPTHWISE: len(depthwise)}
    assert (found.batch, found.engine.split()[0]) == (2, "torch")
    assert 0 < found.attributed_s <= found.whole_s * 1.5
    other = sum(entry.time_s for entry in found.classes if entry.op_class is OpClass.OTHER)
    assert other < 0.1 * found.attributed_s
    assert capfd.readouterr().err == ""  # torch's profiler greets on stderr


def figures(**changes) -> Profile:
    times = {OpClass.CONVOLUTION: 6e-3, OpClass.RESHAPE: 1e-3, OpClass.DELEGATE: 0.5e-3}
    classes = tuple(ClassTime(c, c.bound, 2, seconds, 1e-4, {"X": 2}) for c, seconds in times.items())
    operators = (OperatorTime("X", "convolution", 2, 6e-3),)
    text = dict.fromkeys(("tool_version", "created", "command", "artefact", "sha256", "engine"), "x")
    return replace(
        Profile(
            schema=SCHEMA,
            **text,
            device="host",
            device_kind="host",
            device_name="it",
            threads=1,
            batch=1,
            method="by counting",
            runs=3,
            whole_s=8e-3,
            classes=classes,
            operators=operators,
        ),
        **changes,
    )


def test_sums_and_the_residual():
    found = figures()
    assert found.attributed_s == pytest.approx(7.5e-3)
    assert found.residual_s == pytest.approx(0.5e-3)
    assert found.bound_s(Bound.COMPUTE) == 6e-3
    assert found.bound_s(None) == 0.5e-3


def test_operators_are_joined():
    joined = operator_times([("CONV_2D", None, 1, 2.0), ("ADD", None, 1, 1.0), ("CONV_2D", None, 2, 3.0)])
    assert joined == (OperatorTime("CONV_2D", "convolution", 3, 5.0), OperatorTime("ADD", "elementwise", 1, 1.0))
    (first, second) = by_class((*joined, OperatorTime("MUL", "elementwise", 4, 0.5)))
    assert (first.op_class, first.time_s) == (OpClass.CONVOLUTION, 5.0)
    assert (second.count, second.time_s, second.kinds) == (5, 1.5, {"ADD": 1, "MUL": 4})


def test_profiles_survive_their_file(m0_artefact, tmp_path):
    found = profile(ProfileRequest(str(m0_artefact), seconds=0.1))
    write_profile(tmp_path / "profile.json", found)
    assert read_profile(tmp_path / "profile.json") == found
    text = json.loads((tmp_path / "profile.json").read_text())
    assert text["residual_s"] == pytest.approx(found.residual_s)


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"schema": 2}', "{}"])
def test_files_that_are_no_profile_are_refused(tmp_path, text):
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(ReportError):
        read_profile(tmp_path / "profile.json")


def test_what_says_nothing_is_refused():
    for changes in ({"whole_s": 0.0}, {"runs": 0}, {"schema": 7}, {"whole_s": float("nan")}):
        with pytest.raises(ReportError):
            figures(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": DeviceChoice.parse("mac")}, "host and android are accepted"),
        ({"device": DeviceChoice.parse("android:all")}, "name one phone"),
        ({"threads": 0}, "each at least 1"),
        ({"batch": 0}, "each at least 1"),
        ({"seconds": 0.0}, "more than 0"),
    ],
)
def test_requests_that_cannot_be_met(changes, message):
    with pytest.raises(RequestError, match=message):
        ProfileRequest("model.tflite", **changes)


def test_batches_and_phones_have_their_place(m0_artefact, m0_checkpoint):
    with pytest.raises(RequestError, match="takes the batch that is in it"):
        profile(ProfileRequest(str(m0_artefact), batch=2))
    with pytest.raises(RequestError, match="convert it to profile it on android"):
        profile(ProfileRequest(str(m0_checkpoint), device=DeviceChoice.parse("android")))


class TestPhone:
    """The op profile of benchmark_model, on the scripted adb."""

    def request(self, phones, path) -> ProfileRequest:
        choice = DeviceChoice.parse("android")
        return ProfileRequest(str(path), device=choice, seconds=0.001, benchmark_model=phones.program)

    def test_classes(self, phones, colour_model):
        phones.add()
        found = profile(self.request(phones, colour_model))
        assert {entry.op_class: entry.time_s for entry in found.classes} == pytest.approx(
            {
                OpClass.CONVOLUTION: 6e-4,
                OpClass.DEPTHWISE: 2e-4,
                OpClass.CONVERSION: 1.99e-4,
                OpClass.RESHAPE: 4e-7,
            },
            rel=0.01,
        )
        assert (found.device, found.device_kind) == ("scripted-1", "android")
        assert found.whole_s == pytest.approx(2e-3)
        assert any("measured by nobody" in remark for remark in found.remarks)
        assert any("50 % of the whole are left over" in remark for remark in found.remarks)
        assert phones.left_behind() == []

    def test_a_tool_that_crashes(self, phones, colour_model):
        phones.add(tool={"crash_at": 0})
        with pytest.raises(DeviceError, match=r"could not be profiled on phone scripted-1: .*Segmentation fault"):
            profile(self.request(phones, colour_model))

    def test_a_missing_file(self, phones):
        phones.add()
        with pytest.raises(ArtefactError, match="no artefact at"):
            profile(self.request(phones, "missing.tflite"))


class TestCommand:
    """``evit-edge profile``."""

    def call(self, *arguments):
        return CliRunner().invoke(app, ["profile", *map(str, arguments)])

    def test_table_json_and_picture(self, m0_artefact, tmp_path, monkeypatch):
        pytest.importorskip("matplotlib")
        monkeypatch.setenv("COLUMNS", "200")
        files = ["--json", tmp_path / "p.json", "--picture", tmp_path / "p.png"]
        result = self.call(m0_artefact, "--seconds", "0.1", *files)
        assert result.exit_code == 0, result.output
        for text in (
            "convolution",
            "compute",
            "memory",
            "not explained",
            "whole model",
            "Method: the graph cut into",
        ):
            assert text in result.stdout
        assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
        assert read_profile(tmp_path / "p.json").artefact == m0_artefact.name

    @pytest.mark.parametrize("residual", [0.4, -0.4], ids=["left over", "counted twice"])
    def test_pictures_of_any_residual(self, residual, tmp_path):
        pytest.importorskip("matplotlib")
        from evit_edge.profiling.picture import draw_profile

        found = figures()
        draw_profile(replace(found, whole_s=found.attributed_s / (1 - residual)), tmp_path / "p.svg")
        assert (tmp_path / "p.svg").read_text().count("<svg") == 1

    def test_a_picture_of_another_kind_is_refused_first(self, m0_artefact, tmp_path):
        result = self.call(m0_artefact, "--picture", tmp_path / "p.gif")
        assert result.exit_code == 1
        assert ".png, .svg, .pdf are accepted" in result.stderr

    def test_devices_that_do_not_exist(self, m0_artefact):
        assert self.call(m0_artefact, "--device", "fridge").exit_code == 1


def test_noise_fits_every_type_of_input():
    from evit_edge.runtime.engines import noise

    generator = np.random.default_rng(0)
    for dtype in (np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float16, np.bool_):
        assert noise({"shape": np.array([2, 3]), "dtype": dtype}, generator).dtype == dtype
