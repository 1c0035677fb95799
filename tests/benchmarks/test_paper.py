"""The comparison with the paper: its networks, its ratios, its tables. No time is asserted."""

import importlib.util
import json
import re

import numpy as np
import paper_measure
import paper_tables
import pytest
import torch
from paper import batches, measured
from paper_measure import Cell, Group, Report, images_per_s, in_turns, read_report, speed_up, write_report
from paper_nets import ENTRIES, Form, entry, folded, formed, opened
from torch import nn

from evit_edge.benchmark.figures import Runs

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def cell(net, milliseconds, form=Form.FOLDED, mode="eager"):
    times = tuple(1e-3 * value for value in milliseconds)
    return Cell(net, form, mode, 224, Runs(times, rounds=tuple(range(len(times)))))


def group(*cells, engine="torch", batch=64):
    return Group(engine, batch, "a CPU", 1, "wall", "2026-11-21", "python", {"torch": "2"}, 0.5, 0.7, cells)


PAIR = group(
    cell("efficientvit_m5", [100, 101, 99, 100, 102, 98, 100, 100]),
    cell("mobilenetv3_large_100", [160, 161, 159, 160, 162, 158, 160, 160]),
    cell("efficientvit_m2", [50] * 8),
    cell("mobilevit_xxs", [150] * 8),
    Cell("levit_128s", Form.FOLDED, "eager", 224, remark="an engine's own words"),
)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("m5", "efficientvit_m5"),
        ("deit_tiny", "deit_tiny_patch16_224"),
        ("LeViT-128S", "levit_128s"),
        ("timm:mobilevit_xxs", "mobilevit_xxs"),
    ],
)
def test_a_network_has_several_names(given, key):
    assert entry(given).key == key


def test_an_unknown_network_is_answered_with_the_known():
    with pytest.raises(ValueError, match="mobileone_s1"):
        entry("resnet50")


def test_the_paper_speaks_of_the_networks_that_are_compared():
    keys = {known.key for known in ENTRIES}
    assert len(keys) == len(ENTRIES) == 14
    for claim in paper_tables.CLAIMS:
        assert {claim.faster, claim.slower} <= keys
    gains = [entry(claim.faster).top1 - entry(claim.slower).top1 for claim in paper_tables.CLAIMS]
    assert gains == pytest.approx([1.9, 1.8])  # what the paper's text says


@needs_timm
@pytest.mark.parametrize("name", ["m0", "mobilenetv3_large_100", "mobileone_s1", "levit_128s"])
def test_folding_leaves_no_normalization_and_the_same_answer(name):
    network = opened(entry(name))
    module = formed(network, Form.FOLDED)  # refuses itself what answers differently
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert not norms
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.module.modules())


def test_a_normalization_that_follows_no_convolution_stays():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    net.eval()
    net[4].running_mean.fill_(2.0)
    example = torch.randn(2, 3, 5, 5)
    merged = folded(entry_like(net), example)
    assert isinstance(merged[2], nn.BatchNorm2d)
    assert isinstance(merged[4], nn.Identity)
    torch.testing.assert_close(merged(example), net(example))


def entry_like(net):
    pytest.importorskip("timm")
    return net


def test_the_inference_form_takes_more_pictures_than_one():
    network = opened(entry("m0"))
    module = formed(network, Form.INFERENCE)
    images = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8)
    with torch.inference_mode():
        together = module(images)
        alone = torch.cat([module(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_throughput_and_ratio_of_known_times():
    m5, mobilenet = PAIR.cells[:2]
    speed, interval = images_per_s(m5, 64)
    assert speed == pytest.approx(640)
    assert interval.low <= speed <= interval.high
    found = speed_up(m5, mobilenet)
    assert found.value == pytest.approx(1.6, rel=0.01)
    assert 1.5 < found.interval.low <= found.value <= found.interval.high < 1.7


def test_the_ratio_of_a_network_to_itself_holds_one():
    generator = np.random.default_rng(0)
    one, other = (cell("efficientvit_m0", generator.normal(100, 3, 12)) for _ in range(2))
    assert 1.0 in speed_up(one, other).interval


def test_ratios_stand_beside_those_of_the_paper():
    text = paper_tables.markdown(Report((PAIR,)))
    line = next(line for line in text.splitlines() if "M5" in line and "both folded" in line)
    assert re.search(r"\| 64 \| 1\.60 \[1\.\d\d, 1\.\d\d\] \| 1\.452 \| yes \|", line)
    line = next(line for line in text.splitlines() if "M2" in line and "both folded" in line)
    assert "3.00 [3.00, 3.00] | 3.7 | 19 % short" in line
    assert "levit_128s, folded, eager: an engine's own words" in text


def test_every_row_of_a_table_has_every_column():
    rows = [line for line in paper_tables.markdown(Report((PAIR,))).splitlines() if line.startswith("|")]
    widths = {row.count("|") for row in rows[:6]}
    assert len(widths) == 1
    assert "| M5 | 77.1 | 640 |" in rows


def test_onnx_is_held_against_the_ratio_of_onnx():
    onnx = group(
        cell("efficientvit_m2", [10] * 8, Form.INFERENCE, "float"),
        cell("mobilevit_xxs", [74] * 8, Form.FOLDED, "float"),
        engine="onnx",
    )
    (_, batch, found, paper), *more = paper_tables.ratios(Report((onnx,)), paper_tables.CLAIMS[1])
    assert (batch, paper, not more) == (64, 7.4, True)
    assert found.value == pytest.approx(7.4)


def test_turns_alternate_and_short_passes_are_repeated():
    order = []
    moments = iter(range(1000))
    runs = in_turns(
        {name: lambda name=name: order.append(name) for name in "ab"}, 3, 0.1, lambda: float(next(moments))
    )
    assert [len(runs[name].times_s) for name in "ab"] == [30, 30]
    assert runs["a"].rounds == tuple(np.repeat(range(3), 10))
    assert "".join(order)[4:] == ("a" * 11 + "b" * 11) * 3  # after two each, one a turn does not count


def test_measuring_again_replaces_and_the_file_tells_the_same(tmp_path):
    path = tmp_path / "paper.json"
    other = group(cell("efficientvit_m0", [1, 2, 3]), batch=1)
    report = Report().with_group(PAIR).with_group(other).with_group(group(PAIR.cells[0]))
    assert [(known.batch, len(known.cells)) for known in report.groups] == [(1, 1), (64, 1)]
    write_report(path, report)
    assert read_report(path) == report
    assert json.loads(path.read_text())["schema"] == paper_measure.SCHEMA
    assert read_report(tmp_path / "none.json") == Report()


def test_the_picture_is_drawn(tmp_path):
    paper_tables.draw(Report((PAIR,)), tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("engine", "expected"), [("torch", [1, 64]), ("tflite", [1])])
def test_batches(engine, expected):
    assert batches(engine, [1, 64]) == expected


def test_cuda_is_left_out_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert batches("cuda", [1, 64]) == []


def test_a_network_is_measured(tmp_path):
    from argparse import Namespace

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        options = Namespace(models=[entry("m0")], rounds=2, threads=1, command="test")
        found = measured("torch", 1, options, tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert {(made.form, made.mode) for made in found.cells} == {
        (Form.FOLDED, "eager"),
        (Form.FOLDED, "channels_last"),
        (Form.INFERENCE, "eager"),
    }
    assert all(made.runs is not None and not made.remark for made in found.cells)
