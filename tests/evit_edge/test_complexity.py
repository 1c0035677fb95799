import pytest

from evit_edge.models.complexity import count
from evit_edge.models.config import PAPER_FIGURES, VARIANTS

PARAMETERS = {
    "efficientvit_m0": 2349436,
    "efficientvit_m1": 2980560,
    "efficientvit_m2": 4187554,
    "efficientvit_m3": 6900722,
    "efficientvit_m4": 8804228,
    "efficientvit_m5": 12473772,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_and_macs_are_the_papers(name):
    counted = count(VARIANTS[name])
    assert counted.parameters == PARAMETERS[name]
    assert round(counted.macs / 1e6) == PAPER_FIGURES[name].mflops  # what the paper calls FLOPs are MACs
    tenths = PARAMETERS[name] / 1e5
    tenths = int(tenths) if name == "efficientvit_m5" else round(tenths)  # the paper cuts M5's 12.47 to 12.4
    assert tenths == round(10 * PAPER_FIGURES[name].parameters_m)


@pytest.mark.parametrize(("classes", "side"), [(1000, 224), (104, 256), (6, 160)])
@pytest.mark.parametrize("name", ["efficientvit_m0", "efficientvit_m5"])
def test_counts_equal_torchs(name, classes, side):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from evit_edge.models.efficientvit import EfficientViT

    config = VARIANTS[name].adapted(num_classes=classes, image_size=side)
    model = EfficientViT(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side, side))
    counted = count(config)
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    assert 2 * counted.macs == counter.get_total_flops()
