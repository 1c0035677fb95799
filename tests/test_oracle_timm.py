"""The oracle can be imported beside a CPU build of torch, and is the network that we compare with."""

from types import ModuleType


def test_timm_builds_efficientvit_beside_this_torch(timm: ModuleType) -> None:
    model = timm.create_model("efficientvit_m0")
    assert sum(weight.numel() for weight in model.parameters()) == 2349436
