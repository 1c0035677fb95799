"""Exported models compute what the module computes, in one partition, silently and reproducibly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evit_converters import tflite
from evit_converters.errors import ExportError, ModuleError
from evit_converters.tflite.graph import Graph

Answer = Callable[[bytes, np.ndarray], np.ndarray]


def test_float_answers_equal_torch(
    small_net: nn.Module, float_model: bytes, thumbnails: list[np.ndarray], answer: Answer
) -> None:
    for image in thumbnails:
        expected = small_net(torch.from_numpy(image.copy())).detach().numpy()
        np.testing.assert_allclose(answer(float_model, image), expected, rtol=1e-5, atol=1e-6)


def test_one_partition_behind_the_cast(float_model: bytes) -> None:
    report = tflite.partitions(float_model)
    assert (report.partitions, report.native_ops) == (1, ("CAST",))
    assert str(report) == "1 partition, native: CAST"


def test_no_fully_connected_has_computed_weights(float_model: bytes) -> None:
    graph = Graph(float_model)
    kinds = [graph.kind(operator) for operator in graph.operators]
    assert kinds.count("BATCH_MATMUL") == 2
    for operator in graph.operators:
        if graph.kind(operator) == "FULLY_CONNECTED":
            assert graph.is_constant(int(operator.inputs[1]))


@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU()], ids=["plain", "relu"])
def test_product_with_a_bias_of_one_number(activation: nn.Module, answer: Answer) -> None:
    """The converter makes this a FULLY_CONNECTED with bias."""

    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.key = nn.Linear(8, 8)
            self.activation = activation
            self.register_buffer("bias", torch.full((1, 5, 5), 0.5))

        def forward(self, x: Tensor) -> Tensor:
            return self.activation(self.key(x) @ x.transpose(1, 2) + self.bias) @ x  # (1, 5, 8)

    module, x = Scores().eval(), torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    model = tflite.export(module, x)
    assert tflite.partitions(model).partitions == 1
    np.testing.assert_allclose(answer(model, x.numpy()), module(x).detach().numpy(), rtol=1e-4, atol=1e-6)


def test_tensor_names_are_unique_and_short(float_model: bytes) -> None:
    graph = Graph(float_model)
    names = [graph.name(tensor) for tensor in range(len(graph.tensors))]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 40
    assert names[graph.inputs[0]] == "input_0"
    assert names[graph.outputs[0]] == "output_0"


def test_same_module_same_bytes(small_net: nn.Module, float_model: bytes, example: Tensor) -> None:
    assert tflite.export(small_net, example) == float_model


def test_converter_is_silent(example: Tensor, capfd: pytest.CaptureFixture[str]) -> None:
    class Tiny(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.float().mean((1, 2))

    tflite.export(Tiny().eval(), example)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_bad_weights_are_named(value: float) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        module[1].weight[0, 0] = value
    with pytest.raises(ModuleError, match=r"1\.weight holds 1 NaN or infinite values of 8"):
        tflite.export(module, torch.zeros(1, 4))


def test_training_mode_is_refused(small_net: nn.Module, example: Tensor) -> None:
    with pytest.raises(ModuleError, match=r"\.eval\(\)"):
        tflite.export(nn.Sequential(small_net).train(), example)
    small_net.eval()


def test_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModuleError, match=r"cannot run an input of torch.float32 \(1, 5\)"):
        tflite.export(nn.Linear(4, 2).eval(), torch.zeros(1, 5))


def test_two_outputs_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(ModuleError, match="one tensor is needed"):
        tflite.export(Two().eval(), torch.zeros(1, 4))


def test_what_litert_cannot_convert_is_an_export_error() -> None:
    class DataDependent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.nonzero()

    with pytest.raises(ExportError, match="litert-torch cannot convert DataDependent"):
        tflite.export(DataDependent().eval(), torch.ones(1, 4))


def test_max_pool_behind_relu_is_padded_with_zeros(answer: Answer) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)).eval()
    x = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model = tflite.export(module, x)
    graph = Graph(model)
    assert "PADV2" not in {graph.kind(operator) for operator in graph.operators}
    assert tflite.partitions(model).partitions == 1
    np.testing.assert_allclose(answer(model, x.numpy()), module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_max_pool_of_signed_values_keeps_its_padding(answer: Answer) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, 1)).eval()
    x = -torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model = tflite.export(module, x)
    np.testing.assert_allclose(answer(model, x.numpy()), module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_group_normalization_stays_in_the_partition(answer: Answer) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(1, 8), nn.Conv2d(8, 8, 3), nn.GroupNorm(4, 8)).eval()
    x = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model = tflite.export(module, x)
    assert tflite.partitions(model).partitions == 1
    np.testing.assert_allclose(answer(model, x.numpy()), module(x).detach().numpy(), rtol=1e-4, atol=1e-5)
