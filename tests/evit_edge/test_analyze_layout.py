"""Other shares of attention layers: the nets, the search for widths, the short training, the command."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from evit_edge.cli.main import app
from evit_edge.errors import DataError, RequestError

torch = pytest.importorskip("torch")

from evit_edge.analysis.layout import LayoutRequest, analyze_layout, next_width  # noqa: E402
from evit_edge.analysis.layout_nets import Attention, LayoutConfig, PlainTransformer  # noqa: E402


@given(st.integers(1, 40), st.data())
def test_attention_is_spread_evenly(layers, data):
    count = data.draw(st.integers(1, layers))
    attends = LayoutConfig(layers=layers, attention_layers=count).attends
    assert (len(attends), sum(attends)) == (layers, count)
    places = [i for i, here in enumerate(attends) if here]
    gaps = {after - before for before, after in itertools.pairwise(places)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_half_of_24_layers_is_deit_t():
    """12 blocks of 192 channels; DeiT-T has a class token and its place besides."""
    net = PlainTransformer(LayoutConfig())
    token_and_its_place = 2 * 192
    assert sum(p.numel() for p in net.parameters()) + token_and_its_place == 5_717_416
    assert sum(isinstance(layer, Attention) for layer in net.layers) == 12


def test_the_reference_is_timms_deit_t(timm):
    deit = timm.create_model("deit_tiny_patch16_224")
    ours = sum(p.numel() for p in PlainTransformer(LayoutConfig()).parameters())
    assert (
        sum(p.numel() for p in deit.parameters()) == ours + deit.cls_token.numel() + deit.pos_embed[:, :1].numel()
    )


@given(st.integers(8, 128), st.floats(1e-3, 1), st.floats(1e-3, 1))
def test_widths_move_towards_the_target(step, latency_s, target_s):
    width = 6 * step
    found = next_width(width, latency_s, target_s)
    assert (found % 6, 48 <= found <= 768) == (0, True)
    if latency_s <= target_s:
        assert found >= width
    if latency_s >= target_s:
        assert found <= width


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 50}, "multiple of 3 heads"),
        ({"attention_layers": 25}, "may attend"),
        ({"attention_layers": 0}, "may attend"),
        ({"image_size": 100}, "multiple of 16"),
    ],
)
def test_nets_that_cannot_be_built(changes, message):
    with pytest.raises(RequestError, match=message):
        LayoutConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": ()}, "at least one"),
        ({"shares": (0.0,)}, "at least one"),
        ({"epochs": 0}, "at least 1"),
        ({"speedup": 0}, "more than 0"),
        ({"image_size": 100}, "multiple of 16"),
    ],
)
def test_requests_that_cannot_be_met(changes, message):
    with pytest.raises(RequestError, match=message):
        LayoutRequest(**changes)


SMALL = {"layers": 10, "image_size": 32, "speedup": 2, "throughput_batch": 2, "seconds": 0.1}


def test_shares_meet_one_latency():
    heard = []
    report = analyze_layout(LayoutRequest(shares=(0.5, 0.2, 0.21), **SMALL), lambda *entry: heard.append(entry))
    assert [net.attention_layers for net in report.nets] == [2, 5]
    assert report.target_s == report.reference_latency_s / 2
    for net in report.nets:
        assert net.deviation == pytest.approx(net.latency_s / report.target_s - 1)
        assert net.accuracy is None
        assert net.runtime.batch == 2
        assert 0 < net.runtime.memory_share_in_paper < 1
        tokens, width, ffns = 4, net.width, net.layers - net.attention_layers
        attention = net.attention_layers * tokens * width * (4 * width + 2 * tokens)
        patches, head = tokens * 16 * 16 * 3 * width, 1000 * width
        assert net.macs == pytest.approx(attention + ffns * tokens * 8 * width**2 + patches + head)
    shares = [share for _, share in heard]
    assert shares == sorted(shares)


def test_photos_that_cannot_be_trained_on(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        analyze_layout(LayoutRequest(shares=(0.5,), train=(tmp_path / "missing",), **SMALL))


class TestCommand:
    """``evit-edge analyze layout``."""

    def call(self, *arguments):
        return CliRunner().invoke(app, ["analyze", "layout", *map(str, arguments)])

    def test_table_json_picture_and_training(self, colour_photos: Path, tmp_path, monkeypatch):
        pytest.importorskip("kornia")
        pytest.importorskip("matplotlib")
        monkeypatch.setenv("COLUMNS", "200")
        files = ["--json", tmp_path / "l.json", "--picture", tmp_path / "l.png"]
        size = ["--layers", 5, "--image-size", 32, "--speedup", 2, "--throughput-batch", 2, "--seconds", 0.1]
        training = ["--train", colour_photos, "--epochs", 12, "--train-batch", 8, "--workers", 0]
        result = self.call("--shares", "0.2,0.6", *size, *training, *files)
        assert result.exit_code == 0, result.output
        for text in ("1/5", "3/5", "top-1 %", "DeiT-T's layers", "mem (paper)"):
            assert text in result.stdout
        assert (tmp_path / "l.png").read_bytes()[:4] == b"\x89PNG"
        written = json.loads((tmp_path / "l.json").read_text())
        assert (written["schema"], written["data"]) == ("evit-edge-analyze-layout/1", ["photos"])
        assert [net["share"] for net in written["nets"]] == [0.2, 0.6]
        for net in written["nets"]:
            assert net["accuracy"]["photos"] == 6
            assert (
                net["accuracy"]["interval"]["low"]
                <= net["accuracy"]["top1"]
                <= net["accuracy"]["interval"]["high"]
            )
            assert net["runtime"]["memory_share"] > 0

    def test_a_picture_without_training(self, tmp_path, monkeypatch):
        pytest.importorskip("matplotlib")
        monkeypatch.setenv("COLUMNS", "200")
        size = ["--layers", 5, "--image-size", 32, "--speedup", 2, "--throughput-batch", 2, "--seconds", 0.05]
        result = self.call("--shares", "0.4", *size, "--picture", tmp_path / "l.svg")
        assert result.exit_code == 0, result.output
        assert ("2/5" in result.stdout, "top-1" in result.stdout) == (True, False)
        drawn = (tmp_path / "l.svg").read_text()
        assert (drawn.count("<svg"), "top-1" in drawn) == (1, False)

    def test_a_table_alone(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        size = ["--layers", 4, "--image-size", 32, "--speedup", 2, "--throughput-batch", 2, "--seconds", 0.05]
        result = self.call("--shares", "0.25", *size)
        assert (result.exit_code, "1/4" in result.stdout) == (0, True), result.output

    def test_shares_that_are_no_numbers(self):
        assert self.call("--shares", "a,b").exit_code == 2


def test_a_training_needs_photos_to_test_on(colour_photos):
    pytest.importorskip("kornia")
    from evit_edge.analysis.layout_training import ShortTraining

    (colour_photos / "train").mkdir()
    for name in ("red", "green", "blue"):
        (colour_photos / name).rename(colour_photos / "train" / name)
    with pytest.raises(DataError, match="no held-out photos: add val/ beside train/"):
        ShortTraining([colour_photos], image_size=32, epochs=1, batch_size=8, device="cpu", workers=0)


def test_a_short_training_learns(colour_photos):
    """Red, green and blue: more than chance after a few rounds."""
    pytest.importorskip("kornia")
    from evit_edge.analysis.layout_training import ShortTraining

    training = ShortTraining([colour_photos], image_size=32, epochs=30, batch_size=8, device="cpu", workers=0)
    torch.manual_seed(0)
    net = PlainTransformer(LayoutConfig(48, 4, 2, image_size=32, num_classes=training.classes))
    shares = []
    found = training.accuracy(net, shares.append)
    assert found.photos == 6
    assert found.top1 >= 4 / 6
    assert shares[-1] == 1
