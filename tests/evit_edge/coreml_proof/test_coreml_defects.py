"""Four defects of coremltools 9.0, each let happen and found in the saved file."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from evit_edge.tensors import OutputKind  # noqa: E402
from evit_edge.verification.coreml import Claims, Network, prove  # noqa: E402

SIDE = 32
CLAIMS = Claims(output_kind=OutputKind.LOGITS, specification_version=7)


class Normalised(torch.nn.Module):
    """A network that scales and shifts its image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.tensor([4.37, 4.46, 4.44]).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor([-2.12, -2.04, -1.80]).view(1, 3, 1, 1))
        self.conv = torch.nn.Conv2d(3, 16, 3, 2, 1)
        self.head = torch.nn.Linear(16, 5)

    def forward(self, image):
        return self.head(self.conv(image * self.gain + self.shift).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def normalised():
    torch.manual_seed(0)
    return Normalised().eval()


@pytest.fixture(scope="module")
def squares(photos) -> np.ndarray:
    return np.stack([np.ascontiguousarray(photos[name][:SIDE, :SIDE]) for name in ("astronaut", "coffee", "cat")])


@pytest.fixture(scope="module")
def converted(normalised, tmp_path_factory):
    """Function: a network through coremltools' passes, all of them or without some."""
    library = pytest.importorskip("evit_converters.coreml.library")
    from evit_converters.quiet import quiet

    ct, folder = library.coremltools(), tmp_path_factory.mktemp("converted")

    def convert(precision: str, without: set[str], module=normalised):
        path = folder / f"{type(module).__name__}-{precision}-{len(without)}.mlpackage"
        pipeline = ct.PassPipeline()
        pipeline.remove_passes(without)
        with quiet():
            exported = torch.export.export(module, (torch.zeros(1, 3, SIDE, SIDE),)).run_decompositions({})
            ct.convert(
                exported,
                inputs=[ct.ImageType(name="image", shape=(1, 3, SIDE, SIDE), scale=1 / 255)],
                minimum_deployment_target=ct.target.iOS16,
                compute_precision=ct.precision[precision],
                pass_pipeline=pipeline,
                skip_model_load=True,
            ).save(str(path))
        return path

    return convert


@pytest.fixture(scope="module")
def network(normalised):
    return Network(normalised, image_size=SIDE, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_a_epsilon_in_a_fused_batch_norm(converted, network, squares, failed, precision):
    """Values shrink by 5e-6 of themselves: 200 times less than float16 rounds, and found all the same."""
    report = prove(converted(precision, set()), network, squares, claims=CLAIMS)
    found = failed(report)
    assert found["first wrong operation"].startswith("batch_norm 'add")
    assert report.figures["graph_error"] > 10 * report.figures["torch_float32_error"]
    assert ("rounding" in found) == (precision == "FLOAT32")


def test_without_the_defect_the_same_network_passes(converted, network, squares, failed):
    path = converted("FLOAT16", {"common::fuse_elementwise_to_batchnorm"})
    report = prove(path, network, squares, claims=CLAIMS)
    assert report.passed, failed(report)
    assert report.figures["graph_error"] < 1e-6 * report.figures["torch_float32_error"]


def test_b_a_corrupt_look_up_table(tiny_package, proved, failed, edited):
    """The table's entries are far from every weight that they stand for; the share of weights hit was measured."""
    package = edited(tiny_package("palette6"))
    operation = package.of_type("constexpr_lut_to_dense")[0]
    table = package.stored(operation.attributes["lut"]).reshape(-1)
    table[7], table[30] = 12.2, -7.1
    found = failed(proved(package.save()))
    assert operation.outputs[0].name in found["stored weights"]
    assert "all are stored as -7.102, 12.2" in found["stored weights"]
    assert "compression" in found
    assert operation.outputs[0].name.split("_weight")[0] in found["stored weights"]


def test_c_ranges_of_the_last_sample_only(tiny_package, tiny_values, tiny_ranges, pictures, proved, failed):
    """Coremltools' own collector of ranges, fed a photo after the other and a grey picture last."""
    experimental = "coremltools.optimize.coreml.experimental._post_training_quantization"
    update = pytest.importorskip(experimental)._update_tensor_range
    seen: dict[str, dict[str, float]] = defaultdict(dict)
    for picture in (*pictures, np.full_like(pictures[0], 118)):
        for name, value in tiny_values(picture[None]).items():
            update(name, value, seen)
    last = {name: (float(min(0, span["rmin"])), float(max(0, span["rmax"]))) for name, span in seen.items()}
    assert sum(last[name] != span for name, span in tiny_ranges.items()) > len(last) / 2, "the defect is gone"
    path = tiny_package("int8-full", last, name="last-sample")
    found = failed(proved(path, ranges=tiny_ranges))
    assert " of 94: quantize 'quantize_" in found["activation ranges"]
    assert "image_to_fp16 has " in found["activation ranges"]
    assert "outside" in failed(proved(path))["clipping"], "without the ranges, the pictures tell"


class Shifted(torch.nn.Module):
    """A constant for each channel is added to one convolution and taken from another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pointwise = torch.nn.Conv2d(3, 16, 3, bias=False), torch.nn.Conv2d(16, 16, 1)
        self.shift = torch.nn.Parameter(torch.randn(1, 16, 1, 1))
        self.head = torch.nn.Linear(16, 5)

    def forward(self, image):
        return self.head((self.pointwise((self.stem(image) + self.shift).relu()) - self.shift).mean((2, 3)))


def test_d_a_constant_is_added_that_was_to_be_taken_away(converted, squares, failed):
    torch.manual_seed(0)
    module = Shifted().eval()
    path = converted("FLOAT16", {"common::fuse_elementwise_to_batchnorm"}, module)
    network = Network(module, image_size=SIDE, mean=(0, 0, 0), std=(1, 1, 1))
    found = failed(prove(path, network, squares, claims=CLAIMS))
    assert found["stored weights"].startswith("1 of 6: ")  # what is added to the other is right
    assert "is off pointwise.bias with shift folded in by " in found["stored weights"]
