"""What rounding may do to a weight or a value, and what it may not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")

from evit_converters import coreml  # noqa: E402
from evit_edge.runtime.coreml.elements import Element  # noqa: E402
from evit_edge.tensors import OutputKind  # noqa: E402
from evit_edge.verification.coreml import Claims, Network, prove  # noqa: E402
from evit_edge.verification.coreml.diagnosis import diagnose  # noqa: E402
from evit_edge.verification.coreml.weights import half_spacing, to_nearest  # noqa: E402

TYPES = {Element.FLOAT16: np.float16, Element.FLOAT32: np.float32}
sources = st.floats(-1000, 1000)


@given(sources, st.sampled_from(list(TYPES)))
def test_rounding_is_allowed_and_the_number_after_next_is_not(source, element):
    kind = TYPES[element]
    stored = kind(np.float32(source))
    allowed = float(half_spacing(torch.tensor([source], dtype=torch.float64), element))
    assert abs(float(stored) - source) <= allowed
    beyond = np.nextafter(np.nextafter(stored, kind(np.inf)), kind(np.inf))
    assume(abs(source) > 2.0**-23)  # below, coremltools raises what would become 0
    assert abs(float(beyond) - source) > allowed


@given(st.lists(sources, min_size=1, max_size=20, unique=True), st.lists(sources, min_size=1, max_size=20))
def test_the_nearest_entry_of_a_table_is_found(table, values):
    entries, wanted = (torch.tensor(numbers, dtype=torch.float64) for numbers in (sorted(table), values))
    distances = (wanted[:, None] - entries[None]).abs().min(dim=1).values
    assert torch.equal(to_nearest(wanted, entries), distances)


@given(st.floats(-4, 4), st.integers(2, 6), st.integers(0, 100))
def test_a_diagnosis_tells_factor_and_shift(amount, size, seed):
    assume(min(abs(amount), abs(amount - 1)) > 0.05)
    source = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    allowed = torch.full_like(source, 1e-9)
    assert diagnose(source * amount, source, allowed) == f"it is the source's times {amount:.6g}"
    assert diagnose(source + amount, source, allowed) == f"it is the source's plus {amount:.4g}"
    assert diagnose(source.T.contiguous(), source, allowed) == "it is the source's transposed"


class Loud(torch.nn.Module):
    """Values beyond float16 between two layers; answers of ordinary size."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 4, 1)
        self.up.weight.data *= 3e5
        self.down.weight.data /= 3e5

    def forward(self, image):
        return self.down(self.up(image).relu()).mean((2, 3))


@pytest.mark.parametrize("precision", list(coreml.ComputePrecision))
def test_values_beyond_float16_are_named(tmp_path, photos, failed, precision):
    torch.manual_seed(0)
    module = Loud().eval()
    interface = coreml.Interface(
        image_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), output_kind=coreml.OutputKind.LOGITS
    )
    target = coreml.DeploymentTarget.IOS15
    path = tmp_path / "loud.mlpackage"
    coreml.save(coreml.export(module, interface, precision=precision, target=target), path)
    network = Network(module, image_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pictures = np.stack([np.ascontiguousarray(photos[name][:32, :32]) for name in ("astronaut", "cat")])
    found = failed(prove(path, network, pictures, claims=Claims(output_kind=OutputKind.LOGITS)))
    if precision is coreml.ComputePrecision.FLOAT32:
        assert not found
    else:
        assert "NaN or infinity in the declared precision, first in conv 'conv2d" in found["activations"]
        assert found["first wrong operation"].startswith("conv 'conv2d_cast_fp16': relative error inf")


class Nearest(torch.nn.Module):
    """Distances to prototypes, which have no half form on a CPU; parts, places and types on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 12, 4, 4)
        self.register_buffer("shift", torch.randn(6), persistent=False)
        self.prototypes = torch.nn.Parameter(torch.randn(5, 6))

    def forward(self, image):
        x, gate = self.stem(image).mean((2, 3)).chunk(2, dim=1)  # (1, 6) each
        x = x.index_select(1, torch.argsort(self.shift)) + self.shift * gate.softmax(-1, dtype=torch.float32)
        return -torch.cdist(x.to(self.prototypes.dtype), self.prototypes)


def test_a_network_without_a_half_form_is_rounded_after_each_operation(photos):
    torch.manual_seed(0)
    network = Network(Nearest().eval(), image_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pictures = np.stack([np.ascontiguousarray(photos[name][:32, :32]) for name in ("astronaut", "cat")])

    rounded, how = network.half_logits(pictures)

    truth = network.logits(pictures)
    assert how == "torch rounded to half after each operation"
    assert torch.equal(rounded, rounded.half().double())
    assert 2.0**-14 < float((rounded - truth).norm() / truth.norm()) < 2.0**-8
