"""Damage that a saved package may have, put in byte by byte or field by field: each is caught, by name."""

from __future__ import annotations

import copy
import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")

from evit_converters import coreml  # noqa: E402
from evit_edge.errors import ArtefactError  # noqa: E402
from evit_edge.models.config import EfficientViTConfig  # noqa: E402
from evit_edge.models.efficientvit import EfficientViT  # noqa: E402
from evit_edge.models.neural_engine import neural_engine  # noqa: E402
from evit_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from evit_edge.tensors import OutputKind  # noqa: E402
from evit_edge.verification import VerificationReport  # noqa: E402
from evit_edge.verification.coreml import Claims, Network, prove  # noqa: E402

LABELS = ("cup", "cat", "rocket", "astronaut", "camera")
CLAIMS = Claims(LABELS, OutputKind.PROBABILITIES, specification_version=6)
SIDE = 128


class Edited:
    """A copy of a package whose model and weights can be changed."""

    def __init__(self, source: Path, copy_to: Path) -> None:
        from coremltools.proto import Model_pb2

        shutil.copytree(source, copy_to)
        self.path = copy_to
        data = copy_to / "Data" / "com.apple.CoreML"
        self._model_file, self._weight_file = data / "model.mlmodel", data / "weights" / "weight.bin"
        self.spec = Model_pb2.Model.FromString(self._model_file.read_bytes())
        self.weights = bytearray(self._weight_file.read_bytes())

    @property
    def operations(self):
        function = self.spec.mlProgram.functions["main"]
        return function.block_specializations[function.opset].operations

    def making(self, value: str):
        """The operation that makes a value."""
        return next(op for op in self.operations if any(output.name == value for output in op.outputs))

    def of_type(self, kind: str):
        """All operations of a type."""
        return [op for op in self.operations if op.type == kind]

    def place(self, constant: str) -> tuple[int, int]:
        """Where a constant's values start in weight.bin, and how many bytes they take."""
        offset = self.making(constant).attributes["val"].blobFileValue.offset
        _, _, size, start = struct.unpack_from("<IIQQ", self.weights, offset)
        return start, size

    def array(self, constant: str) -> np.ndarray:
        """A float16 constant of weight.bin, writable, in its shape."""
        start, size = self.place(constant)
        dims = self.making(constant).attributes["val"].type.tensorType.dimensions
        flat = np.frombuffer(memoryview(self.weights)[start : start + size], dtype="<f2")
        return flat.reshape([dim.constant.size for dim in dims])

    def save(self) -> Path:
        self._model_file.write_bytes(self.spec.SerializeToString())
        self._weight_file.write_bytes(bytes(self.weights))
        return self.path


@pytest.fixture(scope="module")
def pictures(photos) -> np.ndarray:
    """Four photos, squeezed to squares; uint8 (4, S, S, 3)."""
    names = ("astronaut", "cat", "coffee", "rocket")
    return np.stack([np.asarray(Image.fromarray(photos[name]).resize((SIDE, SIDE))) for name in names])


@pytest.fixture(scope="module")
def tiny():
    """A small EfficientViT with padded windows, a mask of biases, and no branch that is an identity."""
    torch.manual_seed(0)
    config = EfficientViTConfig("tiny", (16, 16, 32), (1, 1, 1), (2, 1, 2), (3, 3), num_classes=5, image_size=SIDE)
    model = EfficientViT(config).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.6, 1.4)
        elif name.endswith(("running_mean", "bn.bias", "attention_biases")):
            tensor.normal_(0, 0.3)
        elif name.endswith("linear.weight"):
            tensor.normal_(0, 0.2)
    return model


@pytest.fixture(scope="module")
def interface():
    return coreml.Interface(image_size=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD, labels=LABELS, name="tiny")


@pytest.fixture(scope="module")
def network(tiny) -> Network:
    form = neural_engine(copy.deepcopy(tiny).double())
    return Network(tiny, image_size=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD, form=form)


@pytest.fixture(scope="module")
def program(tiny, interface):
    return coreml.export(neural_engine(tiny), interface, target=coreml.DeploymentTarget.IOS15)


@pytest.fixture(scope="module")
def fp16_package(program, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fp16") / "tiny.mlpackage"
    coreml.save(program, path)
    return path


@pytest.fixture
def proved(network, pictures) -> Callable[[Path], VerificationReport]:
    return lambda path: prove(path, network, pictures, claims=CLAIMS)


def failed(report: VerificationReport) -> dict[str, str]:
    return {gate.name: gate.measured for gate in report.failed}


def test_an_honest_package_passes_far_from_every_limit(fp16_package, proved):
    report = proved(fp16_package)
    assert report.passed, failed(report)
    assert [gate.name for gate in report.gates] == [
        "colour order",
        "input size",
        "scale",
        "bias",
        "labels",
        "labels of the metadata",
        "specification",
        "output kind",
        "stored weights",
        "converted form",
        "graph",
        "rounding",
        "activations",
    ]
    figures = report.figures
    assert figures["graph_error"] < 1e-6 * figures["torch_float32_error"]
    assert figures["rounding_error"] < 2 * figures["torch_declared_error"]
    assert report.remarks == ("evaluated by the reference evaluator, not on Apple hardware",)


# The interface


def bgr(package: Edited) -> None:
    image = package.spec.description.input[0].type.imageType
    image.colorSpace = image.BGR


def swapped_bias(package: Edited) -> None:
    values = package.making("image__biased___y_0").attributes["val"].immediateValue.tensor.floats.values
    values[0], values[2] = values[2], values[0]


def wrong_image_bias(package: Edited) -> None:
    package.making("image__biased___y_0").attributes["val"].immediateValue.tensor.floats.values[1] += 0.01


def wrong_scale(package: Edited) -> None:
    package.making("image__scaled___y_0").attributes["val"].immediateValue.tensor.floats.values[0] = 1 / 255


def shuffled_labels(package: Edited) -> None:
    entries = package.of_type("classify")[0].inputs["classes"].arguments[0].value.immediateValue.list.values
    for entry, label in zip(entries, ("cat", "cup", *LABELS[2:]), strict=True):
        entry.immediateValue.tensor.strings.values[0] = label


def shuffled_metadata(package: Edited) -> None:
    package.spec.description.metadata.userDefined["labels"] = json.dumps(LABELS[::-1])


def raised_specification(package: Edited) -> None:
    package.spec.specificationVersion = 8


def other_size(package: Edited) -> None:
    package.spec.description.input[0].type.imageType.width = 127


def removed_softmax(package: Edited) -> None:
    softmax = package.of_type("softmax")[-1]
    softmax.type = "identity"
    del softmax.inputs["axis"]


@pytest.mark.parametrize(
    ("fault", "gate", "culprit"),
    [
        pytest.param(bgr, "colour order", "BGR", id="red and blue swapped"),
        pytest.param(swapped_bias, "bias", "R and B are swapped", id="bias of red and blue swapped"),
        pytest.param(wrong_image_bias, "bias", "-2.007699", id="bias of green off"),
        pytest.param(wrong_scale, "scale", "0.003921569", id="scale of an unnormalised image"),
        pytest.param(shuffled_labels, "labels", "another order; the first at class 0: 'cat' instead", id="labels"),
        pytest.param(shuffled_metadata, "labels of the metadata", "the first at class 0: 'camera'", id="metadata"),
        pytest.param(other_size, "input size", "127x128", id="size"),
        pytest.param(raised_specification, "specification", "8 with operations of iOS15", id="specification"),
        pytest.param(removed_softmax, "output kind", "logits .* the softmax is missing", id="softmax removed"),
    ],
)
def test_a_fault_of_the_interface_fails_its_gate(fp16_package, proved, tmp_path, fault, gate, culprit):
    package = Edited(fp16_package, tmp_path / "faulty.mlpackage")
    fault(package)
    found = failed(proved(package.save()))
    assert gate in found
    assert re.search(culprit, found[gate])


# Weights


def flipped_byte(package: Edited) -> None:
    start, size = package.place("p_module_layers_4_weight_to_fp16")
    package.weights[start + size // 2 | 1] ^= 0x40


def flipped_lowest_bit(package: Edited) -> None:
    start, size = package.place("p_module_layers_4_weight_to_fp16")
    package.weights[(start + size // 2) & ~1] ^= 0x01


def wrong_bias(package: Edited) -> None:
    package.array("p_module_layers_8_expand_bias_to_fp16")[:] += np.float16(0.25)


def one_bias(package: Edited) -> None:
    package.array("p_module_layers_8_expand_bias_to_fp16")[7] = 3


def corrupt_attention_bias(package: Edited) -> None:
    table = package.array("b_module_layers_9_heads_1_bias_to_fp16")
    table[..., 3, 5] = -table[..., 3, 5] - 1


def scaled_weight(package: Edited) -> None:
    package.array("p_module_layers_9_proj_weight_to_fp16")[:] *= np.float16(1.125)


def scaled_channel(package: Edited) -> None:
    package.array("p_module_layers_8_expand_weight_to_fp16")[17] *= np.float16(1.5)


def transposed_square(package: Edited) -> None:
    weight = package.array("p_module_layers_9_proj_weight_to_fp16")
    weight[:] = weight.swapaxes(0, 1).copy()


def swapped_colours(package: Edited) -> None:
    weight = package.array("p_module_layers_0_weight_to_fp16")
    weight[:] = weight[:, ::-1].copy()


def not_a_number(package: Edited) -> None:
    package.array("p_module_layers_9_proj_weight_to_fp16")[2, 3] = np.nan


@pytest.mark.parametrize(
    ("fault", "weight", "diagnosis"),
    [
        pytest.param(flipped_byte, "layers_4_weight", "1 of 288 elements differ", id="byte flipped"),
        pytest.param(flipped_lowest_bit, "layers_4_weight", "1 of 288 elements differ", id="lowest bit flipped"),
        pytest.param(wrong_bias, "layers_8_expand_bias", "it is the source's plus 0.25", id="bias shifted"),
        pytest.param(one_bias, "layers_8_expand_bias", r"1 of 32 elements differ, the first at \(7,\)", id="one bias"),
        pytest.param(corrupt_attention_bias, "layers_9_heads_1_bias", r"1 of 2401 elements differ, the first at \(0, 0, 3, 5\)", id="attention bias"),
        pytest.param(scaled_weight, "layers_9_proj_weight", "the source's times 1.12", id="weight scaled"),
        pytest.param(scaled_channel, "layers_8_expand_weight", r"channel 17 of 32 is the source's times 1\.(5|49)", id="row"),
        pytest.param(transposed_square, "layers_9_proj_weight", "the source's transposed", id="square transposed"),
        pytest.param(swapped_colours, "layers_0_weight", "R and B are swapped", id="weights of red and blue"),
        pytest.param(not_a_number, "layers_9_proj_weight", "NaN or infinity", id="not a number"),
    ],
)
def test_a_wrong_weight_is_named(fp16_package, proved, tmp_path, fault, weight, diagnosis):
    package = Edited(fp16_package, tmp_path / "faulty.mlpackage")
    fault(package)
    report = proved(package.save())
    found = failed(report)["stored weights"]
    assert found.startswith(f"1 of {len(package.of_type('conv')) * 2 + 5}: ")
    assert f"_{weight}" in found
    assert re.search(diagnosis, found)
    assert "graph" not in failed(report), "with the source's weights in place, the program is right"


# Operations


def attribute(package: Edited, operation, parameter: str):
    return package.making(operation.inputs[parameter].arguments[0].name).attributes["val"].immediateValue.tensor


def transposed_product(package: Edited) -> None:
    product = package.of_type("matmul")[1]
    flag = attribute(package, product, "transpose_y").bools.values
    flag[0] = not flag[0]


def relu_removed(package: Edited) -> None:
    package.of_type("relu")[5].type = "identity"


def padding_moved(package: Edited) -> None:
    conv = package.of_type("conv")[0]
    pad = attribute(package, conv, "pad").ints.values
    pad[0], pad[1], pad[2], pad[3] = 0, 2, 0, 2


def softmax_axis(package: Edited) -> None:
    attribute(package, package.of_type("softmax")[0], "axis").ints.values[0] = -2


def other_operand(package: Edited) -> None:
    addition = package.of_type("add")[3]
    first = package.of_type("add")[2]
    addition.inputs["y"].arguments[0].name = first.inputs["x"].arguments[0].name


@pytest.mark.parametrize(
    ("fault", "operation"),
    [
        pytest.param(transposed_product, "matmul 'matmul_1", id="square matrix transposed in a product"),
        pytest.param(relu_removed, "identity 'relu_5", id="relu removed"),
        pytest.param(padding_moved, "conv 'conv2d_cast", id="padding on one side"),
        pytest.param(softmax_axis, "softmax 'softmax", id="softmax over the other axis"),
    ],
)
def test_the_first_wrong_operation_is_named(fp16_package, proved, tmp_path, fault, operation):
    package = Edited(fp16_package, tmp_path / "faulty.mlpackage")
    fault(package)
    found = failed(proved(package.save()))
    assert "stored weights" not in found
    assert "graph" in found
    assert found["first wrong operation"].startswith(operation)


# Files


@pytest.mark.parametrize("kept", [0, 40, 1000, -64, -1])
def test_truncated_weights_are_an_error_that_names_the_weight(fp16_package, proved, tmp_path, kept):
    package = Edited(fp16_package, tmp_path / "faulty.mlpackage")
    file = package.path / "Data/com.apple.CoreML/weights/weight.bin"
    file.write_bytes(bytes(package.weights)[:kept] if kept else b"")
    with pytest.raises(ArtefactError, match=r"faulty.mlpackage is no usable .mlpackage: .*weight"):
        proved(package.path)


@pytest.mark.parametrize("name", ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_truncated_files_are_an_error(fp16_package, proved, tmp_path, name, part):
    package = Edited(fp16_package, tmp_path / "faulty.mlpackage")
    file = package.path / name
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ArtefactError, match="faulty.mlpackage"):
        proved(package.path)
