"""A network of another make: BatchNorm that coremltools folds, layer norm, attention, gates."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")

from torch import nn  # noqa: E402

from evit_converters import coreml  # noqa: E402
from evit_edge.errors import RequestError  # noqa: E402
from evit_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from evit_edge.tensors import OutputKind  # noqa: E402
from evit_edge.verification.coreml import Claims, Limits, Network, prove  # noqa: E402

SIDE = 32
CLAIMS = Claims((), output_kind=OutputKind.LOGITS, specification_version=6)


class Gated(nn.Module):
    """Convolution and BatchNorm, a squeeze-and-excite gate, hardswish; tokens with layer norm and gelu."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1, groups=16, bias=False), nn.BatchNorm2d(16))
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.attention = nn.Linear(16, 48)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.layer_scale = nn.Parameter(0.1 + torch.rand(16))
        self.head = nn.Linear(16, 7)

    def forward(self, image):
        x = self.stem(image)
        x = self.depthwise(x * nn.functional.hardsigmoid(self.gate(x))).flatten(2).transpose(1, 2)
        q, k, v = self.attention(self.norm(x)).chunk(3, dim=-1)
        x = x + nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.layer_scale * self.mlp(x)
        return self.head(x.mean(1))


@pytest.fixture(scope="module")
def gated():
    torch.manual_seed(0)
    model = Gated().eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.6, 1.4)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def squares(photos) -> np.ndarray:
    return np.stack([np.ascontiguousarray(photos[name][:SIDE, :SIDE]) for name in ("astronaut", "coffee", "cat")])


@pytest.fixture(scope="module")
def gated_package(gated, tmp_path_factory):
    """Function: the network in some precision; read only."""
    folder = tmp_path_factory.mktemp("gated")

    def package(precision: coreml.ComputePrecision):
        path = folder / f"{precision}.mlpackage"
        if not path.exists():
            interface = coreml.Interface(
                image_size=SIDE,
                mean=IMAGENET_MEAN,
                std=IMAGENET_STD,
                output_kind=coreml.OutputKind.LOGITS,
            )
            target = coreml.DeploymentTarget.IOS15
            coreml.save(coreml.export(gated, interface, precision=precision, target=target), path)
        return path

    return package


@pytest.fixture(scope="module")
def gated_network(gated):
    return Network(gated, image_size=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD)


@pytest.mark.parametrize("precision", list(coreml.ComputePrecision))
def test_a_network_with_batch_norm_passes(gated_package, gated_network, squares, failed, precision):
    report = prove(gated_package(precision), gated_network, squares, claims=CLAIMS)
    assert report.passed, failed(report)
    assert report.figures["graph_error"] < 1e-6 * report.figures["torch_float32_error"]
    assert "converted form" not in {gate.name for gate in report.gates}


def test_a_folded_bias_is_named_by_the_layers_that_it_comes_from(
    gated_package, gated_network, squares, failed, edited
):
    package = edited(gated_package(coreml.ComputePrecision.FLOAT16))
    bias = package.of_type("conv")[0].inputs["bias"].arguments[0].name
    package.array(bias)[2] += 1
    found = failed(prove(package.save(), gated_network, squares, claims=CLAIMS))
    assert bias in found["stored weights"]
    assert "off no bias beside stem.0.weight with stem.1 folded in by 1" in found["stored weights"]


def test_an_epsilon_of_another_size_is_found_by_its_operation(
    gated_package, gated_network, squares, failed, edited
):
    package = edited(gated_package(coreml.ComputePrecision.FLOAT32))
    package.parameter(package.of_type("layer_norm")[0], "epsilon").floats.values[0] = 1e-5
    found = failed(prove(package.save(), gated_network, squares, claims=CLAIMS))
    assert found["first wrong operation"].startswith("layer_norm 'layer_norm")


def test_a_package_of_another_network_is_not_proved(gated_package, squares, failed):
    torch.manual_seed(1)
    other = Network(Gated().eval(), image_size=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    found = failed(prove(gated_package(coreml.ComputePrecision.FLOAT16), other, squares, claims=CLAIMS))
    assert found["stored weights"].startswith("17 of 19: ")  # two are zeros or ones in both
    assert {"stored weights", "rounding"} <= found.keys()


def test_what_cannot_be_proved_is_refused(gated, gated_package, gated_network, squares):
    with pytest.raises(RequestError, match="training mode"):
        Network(Gated().train(), image_size=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    with pytest.raises(RequestError, match="std positive"):
        Network(gated, image_size=SIDE, mean=IMAGENET_MEAN, std=(1, 1, 0))
    with pytest.raises(RequestError, match="images of uint8"):
        prove(gated_package(coreml.ComputePrecision.FLOAT16), gated_network, squares[:, :16])
    with pytest.raises(RequestError, match="factors above 0"):
        Limits(graph=0)


class Shifted(nn.Module):
    """A standardised weight; constants that are added, taken away, a limit, and a number for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pointwise = nn.Conv2d(3, 16, 3, bias=False), nn.Conv2d(16, 16, 1)
        self.shift = nn.Parameter(torch.randn(1, 16, 1, 1))
        self.places = nn.Parameter(torch.rand(1, 16, 15, 15))
        self.register_buffer("floor", torch.full((1, 16, 1, 1), -0.5), persistent=False)
        self.head = nn.Linear(16, 7)

    def forward(self, image):
        weight = self.stem.weight - self.stem.weight.mean((1, 2, 3), keepdim=True)
        x = nn.functional.conv2d(image, weight, None, 2) + self.shift  # (1, 16, 15, 15)
        x = self.pointwise(torch.maximum(x, self.floor)) - self.shift
        return self.head((x * self.places).mean((2, 3)))


def test_weights_and_biases_that_are_computed_are_found(squares, failed, edited, tmp_path):
    torch.manual_seed(0)
    module = Shifted().eval()
    half = (0.5, 0.5, 0.5)
    interface = coreml.Interface(image_size=SIDE, mean=half, std=half, output_kind=coreml.OutputKind.LOGITS)
    coreml.save(coreml.export(module, interface, target=coreml.DeploymentTarget.IOS15), tmp_path / "s.mlpackage")
    network = Network(module, image_size=SIDE, mean=half, std=half)

    report = prove(tmp_path / "s.mlpackage", network, squares, claims=CLAIMS)
    assert report.passed, failed(report)

    package = edited(tmp_path / "s.mlpackage")
    weight = package.of_type("conv")[0].inputs["weight"].arguments[0].name
    package.array(weight)[3] *= 2
    found = failed(prove(package.save(), network, squares, claims=CLAIMS))
    assert found["stored weights"].startswith(f"1 of 8: {weight} ")
    assert "off stem.weight" in found["stored weights"]
