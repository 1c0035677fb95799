"""From a module to ONNX: the same answers, free batches, and int8 that ONNX Runtime takes."""

import numpy as np
import onnx as reference
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evit_converters import onnx
from evit_converters.errors import ModelFileError, ModuleError, QuantizationError

SIDE = 32


class Net(nn.Module):
    """uint8 (B, 32, 32, 3) to probabilities (B, 7), with attention, a gate and a residual."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.local = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.qkv = nn.Conv2d(16, 48, 1)
        self.head = nn.Linear(16, 7)
        self.register_buffer("mean", torch.tensor([120.0, 110.0, 100.0]))

    def forward(self, image):
        x = ((image.float() - self.mean) / 60).permute(0, 3, 1, 2)
        x = F.relu(self.stem(x))
        x = x + self.local(x)
        q, k, v = self.qkv(x).flatten(2).chunk(3, dim=1)
        x = x.flatten(2) + v @ (q.transpose(1, 2) @ k / 4).softmax(-1).transpose(1, 2)
        return self.head(x.mean(-1)).softmax(-1)


class OnlyOne(nn.Module):
    """A module written for a batch of one."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * SIDE * SIDE, 7)

    def forward(self, image):
        return self.head(image.float().reshape(1, -1) / 255)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def example():
    return torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)


@pytest.fixture(scope="module")
def content(net, example):
    return onnx.export(net, example, output_name="probabilities")


@pytest.fixture(scope="module")
def ranges(content, pictures):
    run = onnx.activation_runner(content)
    seen = [run(picture[None]) for picture in pictures]
    return {
        name: (min(0.0, *(float(s[name].min()) for s in seen)), max(0.0, *(float(s[name].max()) for s in seen)))
        for name in seen[0]
    }


def answers(content, images, name="probabilities"):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run([name], {"image": images})[0]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_model_answers_like_the_module(content, net, pictures, batch):
    with torch.no_grad():
        expected = net(torch.from_numpy(pictures[:batch])).numpy()
    np.testing.assert_allclose(answers(content, pictures[:batch]), expected, atol=1e-6)


def test_a_module_for_one_picture_becomes_a_model_for_one_picture(example, pictures):
    torch.manual_seed(0)
    module = OnlyOne().eval()
    made = onnx.export(module, example)
    assert reference.load_from_string(made).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    with torch.no_grad():
        expected = module(torch.from_numpy(pictures[:1])).numpy()
    np.testing.assert_allclose(answers(made, pictures[:1], "scores"), expected, atol=1e-5)


def test_nothing_tells_where_it_was_made(net, example, content):
    assert onnx.export(net, example, output_name="probabilities") == content
    assert b".py" not in content
    assert b"File " not in content


def test_activations_are_those_of_the_model(content, pictures):
    names = onnx.activation_names(content)
    seen = onnx.activation_runner(content)(pictures[:1])
    assert list(seen) == names
    assert all(value.dtype == np.float32 for value in seen.values())
    np.testing.assert_allclose(seen["probabilities"], answers(content, pictures[:1]), atol=1e-7)


def test_int8_is_close_and_integer_where_it_should_be(content, ranges, pictures):
    made = onnx.quantize(content, onnx.Quantization.INT8, ranges)
    onnx.check(made)
    measured, expected = np.log(answers(made, pictures)), np.log(answers(content, pictures))
    assert 10 * np.log10((expected**2).sum() / ((measured - expected) ** 2).sum()) > 30
    graph = reference.load_from_string(made).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            dequantize = producers[node.input[1]]
            assert stored[dequantize.input[0]].data_type == reference.TensorProto.INT8
            assert len(stored[dequantize.input[1]].dims) == 1  # a scale for each channel
            assert producers[node.input[0]].op_type == "DequantizeLinear"
        if node.op_type == "Softmax":
            assert producers[node.input[0]].op_type != "DequantizeLinear"
            readers = [reader.op_type for reader in graph.node if node.output[0] in reader.input]
            assert "QuantizeLinear" not in readers
    assert onnx.quantize(content, onnx.Quantization.INT8, ranges) == made


def test_half_weights_are_rounded_and_nothing_else(content, net, pictures):
    made = onnx.quantize(content, onnx.Quantization.FP16)
    onnx.check(made)
    rounded = Net().eval()
    rounded.load_state_dict(
        {k: v.half().float() if k.endswith("weight") else v for k, v in net.state_dict().items()}
    )
    with torch.no_grad():
        expected = rounded(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(answers(made, pictures), expected, atol=1e-6)
    assert not np.array_equal(answers(made, pictures), answers(content, pictures))
    assert len(made) < len(content)


def test_no_quantization_changes_nothing(content):
    assert onnx.quantize(content, onnx.Quantization.NONE) == content


def test_a_description_is_read_by_the_runtime(content):
    made = onnx.describe(content, version="1.2", description="A net.", metadata={"labels": '["a"]'})
    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta()
    assert (told.producer_name, told.description, told.custom_metadata_map) == (
        "evit-edge",
        "A net.",
        {"labels": '["a"]'},
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: dict(list(r.items())[1:]), "missing for 1"),
        (lambda r: r | {"nobody": (0.0, 1.0)}, "unknown 1 values, the first is 'nobody'"),
        (lambda r: r | {next(iter(r)): (0.0, float("nan"))}, "finite"),
        (lambda r: r | {next(iter(r)): (1.0, 0.0)}, "ascending"),
    ],
    ids=["missing", "unknown", "nan", "upside down"],
)
def test_ranges_that_do_not_fit_are_refused(content, ranges, change, message):
    with pytest.raises(QuantizationError, match=message):
        onnx.quantize(content, onnx.Quantization.INT8, change(ranges))


def test_int8_needs_ranges(content):
    with pytest.raises(QuantizationError, match="needs the value ranges"):
        onnx.quantize(content, onnx.Quantization.INT8)


def test_weights_beyond_float16_are_named(example):
    module = OnlyOne().eval()
    with torch.no_grad():
        module.head.weight[0, 0] = 1e6
    with pytest.raises(QuantizationError, match=r"1e\+06; float16 ends at 65504"):
        onnx.quantize(onnx.export(module, example), onnx.Quantization.FP16)


def test_a_module_in_training_is_refused(example):
    with pytest.raises(ModuleError, match="training"):
        onnx.export(Net(), example)


@pytest.mark.parametrize("content", [b"", b"no model"], ids=["nothing", "text"])
def test_what_is_no_model_is_refused(content):
    with pytest.raises(ModelFileError):
        onnx.check(content)
