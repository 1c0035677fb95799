"""ONNX classifiers of several input forms in ONNX Runtime."""

import numpy as np
import pytest

from evit_edge.benchmark import BenchmarkRequest, benchmark
from evit_edge.errors import ArtefactError, MissingExtraError, RequestError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime import InputRange, Layout, OutputKind, open_runner
from evit_edge.runtime.info import RuleSource

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SIDE = 32
DTYPES = {"float32": onnx.TensorProto.FLOAT, "uint8": onnx.TensorProto.UINT8, "int32": onnx.TensorProto.INT32}


def colour_model(path, *, dtype="float32", layout="nchw", softmax=False, batch="N", side=SIDE, outputs=1):
    """Mean of each channel, times 10; a classifier of red, green and blue."""
    shape = [batch, 3, side, side] if layout == "nchw" else [batch, side, side, 3]
    make = onnx.helper.make_node
    nodes = [make("Cast", ["image"], ["real"], to=onnx.TensorProto.FLOAT)]
    nodes.append(make("ReduceMean", ["real", "axes"], ["mean"], keepdims=0))
    nodes.append(make("Mul", ["mean", "ten"], ["scores" if not softmax else "logits"]))
    if softmax:
        nodes.append(make("Softmax", ["logits"], ["scores"], axis=-1))
    nodes += [make("Identity", ["scores"], [f"copy{i}"]) for i in range(1, outputs)]
    axes = np.array([2, 3] if layout == "nchw" else [1, 2], dtype=np.int64)
    constants = [onnx.numpy_helper.from_array(axes, "axes"), onnx.numpy_helper.from_array(np.float32(10), "ten")]
    results = [("scores", [batch, 3]), *((f"copy{i}", [batch, 3]) for i in range(1, outputs))]
    graph = onnx.helper.make_graph(
        nodes,
        "colour",
        [onnx.helper.make_tensor_value_info("image", DTYPES[dtype], shape)],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims) for name, dims in results],
        constants,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("batch", ["N", 1])
def test_forms_of_input(dtype, layout, batch, tmp_path, paint):
    path = colour_model(tmp_path / "m.onnx", dtype=dtype, layout=layout, batch=batch)
    runner = open_runner(path, input_range=InputRange.ZERO_TO_ONE, labels=("red", "green", "blue"))
    info = runner.info
    assert info.layout is Layout(layout.upper())
    assert info.output_kind is OutputKind.LOGITS
    assert info.runtime == "onnxruntime"
    assert info.input.shape[0] == 1
    pictures = np.stack([info.preprocessing.apply(paint(colour)) for colour in ("blue", "red")])
    scores = runner.run(pictures)
    scale = 255 if dtype == "float32" else 1
    assert scores == pytest.approx(10 * pictures.mean((1, 2)) / scale, rel=1e-5)
    assert [info.label(int(i)) for i in scores.argmax(-1)] == ["blue", "red"]


def test_probabilities_are_told_from_logits(tmp_path):
    path = colour_model(tmp_path / "m.onnx", softmax=True)
    assert open_runner(path).info.output_kind is OutputKind.PROBABILITIES


def test_a_rule_may_be_given_but_must_fit(tmp_path):
    path = colour_model(tmp_path / "m.onnx")
    info = open_runner(path, preprocessing=Preprocessing(image_size=SIDE, crop_fraction=1.0)).info
    assert info.preprocessing_source is RuleSource.REQUEST
    with pytest.raises(ArtefactError, match="32 px"):
        open_runner(path, preprocessing=Preprocessing(image_size=64))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "int32"}, "tensor\\(int32\\)"),
        ({"side": "S"}, "fixed picture size"),
        ({"outputs": 2}, "2 outputs"),
    ],
    ids=["type", "free size", "two outputs"],
)
def test_what_is_no_classifier_of_one_picture_is_refused(changes, words, tmp_path):
    with pytest.raises(ArtefactError, match=words):
        open_runner(colour_model(tmp_path / "m.onnx", **changes))


def test_files_that_are_none(tmp_path):
    for content in (b"", b"no model", colour_model(tmp_path / "whole.onnx").read_bytes()[:60]):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(ArtefactError, match=r"m\.onnx is no usable"):
            open_runner(tmp_path / "m.onnx")
    with pytest.raises(ArtefactError, match="no artefact"):
        open_runner(tmp_path / "missing.onnx")
    with pytest.raises(RequestError, match="at least 1"):
        open_runner(tmp_path / "whole.onnx", threads=0)


def test_without_onnxruntime_the_cure_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"evit-edge\[onnx\]"):
        open_runner(tmp_path / "m.onnx")


def test_pictures_of_another_size_are_refused(tmp_path):
    runner = open_runner(colour_model(tmp_path / "m.onnx"))
    for call in (runner.run, runner.prepare):
        with pytest.raises(RequestError, match="uint8"):
            call(np.zeros((1, 16, 16, 3), dtype=np.uint8))


def test_onnx_is_benchmarked_beside_tflite(tmp_path, colour_models):
    path = colour_model(tmp_path / "m.onnx")
    request = BenchmarkRequest((str(path), str(colour_models["float32-nchw-logits"])), min_runs=8, min_time_s=0)
    report = benchmark(request)
    assert [row.engine.name for row in report.measurements] == ["onnxruntime", "ai-edge-litert"]
    assert report.models[0].format == "onnx"
    assert report.models[0].macs is None
    assert report.measurements[0].limit is None
    assert report.measurements[0].cold_start is not None
    assert len(report.ratios) == 1
