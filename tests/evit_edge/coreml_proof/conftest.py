"""A small EfficientViT in several packages, each converted once; and a way to damage a copy of one."""

from __future__ import annotations

import copy
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evit_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from evit_edge.tensors import OutputKind

LABELS = ("cup", "cat", "rocket", "astronaut", "camera")
SIDE = 128


class Edited:
    """A copy of a package whose model and weights can be changed."""

    def __init__(self, source: Path, copy_to: Path) -> None:
        from coremltools.proto import Model_pb2

        shutil.copytree(source, copy_to)
        self.path = copy_to
        data = copy_to / "Data" / "com.apple.CoreML"
        self.model_file, self.weight_file = data / "model.mlmodel", data / "weights" / "weight.bin"
        self.spec = Model_pb2.Model.FromString(self.model_file.read_bytes())
        self.weights = bytearray(self.weight_file.read_bytes())

    @property
    def operations(self):
        function = self.spec.mlProgram.functions["main"]
        return function.block_specializations[function.opset].operations

    def making(self, value: str):
        """The operation that makes a value."""
        return next(op for op in self.operations if any(output.name == value for output in op.outputs))

    def of_type(self, kind: str) -> list[Any]:
        """All operations of a type."""
        return [op for op in self.operations if op.type == kind]

    def parameter(self, operation, name: str):
        """The constant bound to an operation's parameter, as the file holds it at once."""
        bound = operation.inputs[name].arguments[0].name
        return self.making(bound).attributes["val"].immediateValue.tensor

    def stored(self, value, dtype: str = "<f2") -> np.ndarray:
        """A constant of weight.bin, writable, in its shape."""
        _, _, size, start = struct.unpack_from("<IIQQ", self.weights, value.blobFileValue.offset)
        flat = np.frombuffer(memoryview(self.weights)[start : start + size], dtype=dtype)
        shape = [dim.constant.size for dim in value.type.tensorType.dimensions]
        return flat.reshape(shape) if flat.size == np.prod(shape) else flat

    def array(self, constant: str) -> np.ndarray:
        """A float16 weight by name, writable."""
        return self.stored(self.making(constant).attributes["val"])

    def save(self) -> Path:
        self.model_file.write_bytes(self.spec.SerializeToString())
        self.weight_file.write_bytes(bytes(self.weights))
        return self.path


@pytest.fixture
def edited(tmp_path) -> Callable[[Path], Edited]:
    """Function: a copy of a package, to be damaged and saved."""
    return lambda source: Edited(source, tmp_path / "faulty.mlpackage")


@pytest.fixture(scope="session")
def tiny_labels() -> tuple[str, ...]:
    return LABELS


@pytest.fixture(scope="session")
def pictures(photos) -> np.ndarray:
    """Four photos, squeezed to squares; uint8 (4, S, S, 3)."""
    names = ("astronaut", "cat", "coffee", "rocket")
    return np.stack([np.asarray(Image.fromarray(photos[name]).resize((SIDE, SIDE))) for name in names])


@pytest.fixture(scope="session")
def tiny():
    """A small EfficientViT with padded windows, and no branch that is an identity."""
    torch = pytest.importorskip("torch")
    from evit_edge.models.config import EfficientViTConfig
    from evit_edge.models.efficientvit import EfficientViT

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


@pytest.fixture(scope="session")
def tiny_network(tiny):
    from evit_edge.models.neural_engine import neural_engine
    from evit_edge.verification.coreml import Network

    form = neural_engine(copy.deepcopy(tiny).double())
    return Network(tiny, image_size=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD, form=form)


@pytest.fixture(scope="session")
def tiny_program(tiny):
    """The float16 program, for iOS 17."""
    pytest.importorskip("coremltools")
    from evit_converters import coreml
    from evit_edge.models.neural_engine import neural_engine

    interface = coreml.Interface(image_size=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD, labels=LABELS, name="tiny")
    return coreml.export(neural_engine(tiny), interface, target=coreml.DeploymentTarget.IOS17)


@pytest.fixture(scope="session")
def tiny_package(tiny_program, tmp_path_factory) -> Callable[..., Path]:
    """Function: the program saved in some quantization, each once; read only."""
    from evit_converters import coreml

    folder = tmp_path_factory.mktemp("tiny")

    def package(
        quantization: str, ranges: Mapping[str, tuple[float, float]] | None = None, name: str = ""
    ) -> Path:
        path = folder / f"{name or quantization}.mlpackage"
        if not path.exists():
            coreml.save(coreml.quantize(tiny_program, coreml.Quantization(quantization), ranges), path)
        return path

    return package


@pytest.fixture(scope="session")
def tiny_values(tiny_program, tiny_package) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Function: the values whose ranges int8-full needs, on pictures."""
    from evit_converters import coreml
    from evit_edge.runtime.coreml import Evaluator, Precision, read_package

    names = frozenset(coreml.activation_names(tiny_program))
    evaluator = Evaluator(read_package(tiny_package("fp16")), Precision.FLOAT32)

    def values(images: np.ndarray) -> dict[str, np.ndarray]:
        seen: dict[str, np.ndarray] = {}
        evaluator.run(
            images, lambda name, value: seen.update({name: value.numpy().copy()} if name in names else {})
        )
        return seen

    return values


@pytest.fixture(scope="session")
def tiny_ranges(tiny_values, pictures) -> dict[str, tuple[float, float]]:
    """Smallest and largest of each value over the pictures."""
    seen = tiny_values(pictures)
    return {name: (min(0.0, float(value.min())), max(0.0, float(value.max()))) for name, value in seen.items()}


@pytest.fixture
def proved(tiny_network, pictures):
    """Function: the proof of a package against the small network, as iOS 17's with a softmax."""
    from evit_edge.verification.coreml import Claims, prove

    claims = Claims(LABELS, output_kind=OutputKind.PROBABILITIES, specification_version=8)
    return lambda path, **options: prove(path, tiny_network, pictures, claims=claims, **options)


@pytest.fixture
def failed():
    """Function: the gates that failed, by name, and what was measured."""
    return lambda report: {gate.name: gate.measured for gate in report.failed}
