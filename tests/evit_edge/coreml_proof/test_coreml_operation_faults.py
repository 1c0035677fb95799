"""Programs that compute something else, and packages that are not whole."""

from __future__ import annotations

import pytest

from evit_edge.errors import ArtefactError


def transposed_product(package) -> None:
    product = package.of_type("matmul")[1]
    flag = package.parameter(product, "transpose_y").bools.values
    flag[0] = not flag[0]


def relu_removed(package) -> None:
    package.of_type("relu")[5].type = "identity"


def padding_moved(package) -> None:
    conv = package.of_type("conv")[0]
    pad = package.parameter(conv, "pad").ints.values
    pad[0], pad[1], pad[2], pad[3] = 0, 2, 0, 2


def softmax_axis(package) -> None:
    package.parameter(package.of_type("softmax")[0], "axis").ints.values[0] = -2


def another_layers_weight(package) -> None:
    """A depthwise convolution reads the weights of the one before it."""
    weights = [op.inputs["weight"].arguments[0] for op in package.of_type("conv")]
    one, other, *_ = (weight for weight in weights if package.array(weight.name).shape == (16, 1, 3, 3))
    other.name = one.name


@pytest.mark.parametrize(
    ("fault", "operation"),
    [
        pytest.param(transposed_product, "matmul 'matmul_1", id="square matrix transposed in a product"),
        pytest.param(relu_removed, "identity 'relu_5", id="relu removed"),
        pytest.param(padding_moved, "conv 'conv2d_cast", id="padding on one side"),
        pytest.param(another_layers_weight, "conv 'conv2d_", id="weight of another layer"),
        pytest.param(softmax_axis, "softmax 'softmax", id="softmax over the other axis"),
    ],
)
def test_the_first_wrong_operation_is_named(tiny_package, proved, failed, edited, fault, operation):
    package = edited(tiny_package("fp16"))
    fault(package)
    found = failed(proved(package.save()))
    assert "stored weights" not in found
    assert "graph" in found
    assert found["first wrong operation"].startswith(operation)


@pytest.mark.parametrize("kept", [0, 40, 1000, -64, -1])
def test_truncated_weights_are_an_error_that_names_the_weight(tiny_package, proved, edited, kept):
    package = edited(tiny_package("fp16"))
    file = package.weight_file
    file.write_bytes(bytes(package.weights)[:kept] if kept else b"")
    with pytest.raises(ArtefactError, match=r"faulty.mlpackage is no usable .mlpackage: .*weight"):
        proved(package.path)


@pytest.mark.parametrize("name", ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_truncated_files_are_an_error(tiny_package, proved, edited, name, part):
    package = edited(tiny_package("fp16"))
    file = package.path / name
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ArtefactError, match=r"faulty\.mlpackage"):
        proved(package.path)
