"""How alike heads attend: similarity, capture from several kinds of network, known answers, the command."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from evit_edge.cli.main import app
from evit_edge.errors import DataError, RequestError

torch = pytest.importorskip("torch")

from evit_edge.analysis.attention_maps import watched  # noqa: E402
from evit_edge.analysis.heads import HeadsRequest, analyze_heads, head_similarity, sees_splits  # noqa: E402


@given(st.integers(2, 5), st.integers(2, 6), st.integers(0, 1000))
def test_similarity_is_of_the_nearest_other_head(heads, tokens, seed):
    torch.manual_seed(seed)
    maps = torch.randn(2, heads, tokens, tokens).softmax(-1)
    cosine, correlation = head_similarity(maps)
    for n in range(2):
        for i in range(heads):
            others = [maps[n, j].flatten().double() for j in range(heads) if j != i]
            mine = maps[n, i].flatten().double()
            pairs = [float(mine @ other / (mine.norm() * other.norm())) for other in others]
            assert float(cosine[n, i]) == pytest.approx(max(pairs))
            centred = [float(torch.corrcoef(torch.stack([mine, other]))[0, 1]) for other in others]
            assert float(correlation[n, i]) == pytest.approx(max(centred), abs=1e-6)


def test_uniform_maps_are_alike_and_not_correlated():
    cosine, correlation = head_similarity(torch.full((1, 2, 4, 4), 0.25))
    assert cosine.tolist() == [[pytest.approx(1)] * 2]
    assert correlation.tolist() == [[0, 0]]


def looked(photo_folder, *models, **changes):
    request = HeadsRequest(models, (photo_folder,), count=3, batch=2, **changes)
    return analyze_heads(request).models


def test_a_duplicated_head_is_found(photo_folder):
    (model,) = looked(photo_folder, "analysis_nets:duplicated_head", image_size=64)
    assert [block.name for block in model.blocks] == ["layers.1", "layers.3"]
    for block in model.blocks:
        first, second, third = block.cosine
        assert (first, second) == (pytest.approx(1, abs=1e-6), pytest.approx(1, abs=1e-6))
        assert third < 0.99
        assert block.correlation[:2] == (pytest.approx(1, abs=1e-5), pytest.approx(1, abs=1e-5))
        assert (block.splits, block.maps, block.tokens) == (False, 3, 16)
    assert (model.features, model.trained) == ("full features", False)


@pytest.fixture
def duplicating_m0(m0_checkpoint, tmp_path):
    """In the first block heads 0 and 1 ask nothing and have the same biases: both attend by place alone."""
    from evit_edge.models.checkpoints import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(m0_checkpoint)
    attention = checkpoint.model.stages[0].blocks[0].mixer.m.attn
    with torch.no_grad():
        for depthwise in attention.dws[:2]:
            depthwise.bn.weight.zero_()
            depthwise.bn.bias.zero_()
        attention.attention_biases[1] = attention.attention_biases[0]
    path, rule = tmp_path / "two.safetensors", checkpoint.preprocessing
    save_checkpoint(path, checkpoint.model, name="two", labels=checkpoint.labels, preprocessing=rule)
    return path


def test_cascaded_group_attention_has_a_head_for_each_softmax(photo_folder, m0_checkpoint):
    (model,) = looked(photo_folder, str(m0_checkpoint))
    assert [len(block.cosine) for block in model.blocks] == [4] * 6
    assert model.blocks[0].name == "stages.0.blocks.0.mixer.m.attn"
    assert [block.tokens for block in model.blocks] == [49, 16, 16, 4, 4, 4]  # 8 px in windows of 7, then 4, 2
    assert [block.maps for block in model.blocks] == [12, 3, 3, 3, 3, 3]
    assert (model.features, model.trained) == ("feature splits", True)
    assert all(0 < value < 1 for block in model.blocks for value in block.cosine)


def test_maps_are_those_that_the_network_uses():
    """Recomputed from the module's own layers."""
    from evit_edge.analysis.layout_nets import LayoutConfig, PlainTransformer

    torch.manual_seed(0)
    net = PlainTransformer(LayoutConfig(width=24, layers=2, attention_layers=1, image_size=32)).eval()
    seen = []
    handle = net.layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    found = []
    with watched(net, lambda *entry: found.append(entry)):
        net(torch.randn(2, 3, 32, 32))
    handle.remove()
    ((name, module, maps),) = found
    assert (name, module, maps.shape) == ("layers.1", net.layers[1], (2, 3, 4, 4))
    with torch.no_grad():
        q, k, _ = module.qkv(module.norm(seen[0])).reshape(2, 4, 3, 3, 8).permute(2, 0, 3, 1, 4)
    torch.testing.assert_close(maps, (q @ k.transpose(-2, -1) / math.sqrt(8)).softmax(-1))


def test_pytorchs_own_attention_is_seen(photo_folder):
    (model,) = looked(photo_folder, "analysis_nets:encoder", image_size=64)
    (block,) = model.blocks
    assert (block.name, len(block.cosine), block.tokens) == ("block.self_attn", 4, 16)
    assert torch.backends.mha.get_fastpath_enabled()


def test_timms_fused_and_windowed_attention_is_seen(photo_folder, timm):
    deit, mobilevit, ours = looked(
        photo_folder, "timm:deit_tiny_patch16_224", "timm:mobilevit_xxs", "timm:efficientvit_m0"
    )
    assert [len(block.cosine) for block in deit.blocks] == [3] * 12
    assert {block.tokens for block in deit.blocks} == {197}
    assert [len(block.cosine) for block in mobilevit.blocks] == [4] * 9
    assert [len(block.cosine) for block in ours.blocks] == [4] * 6
    assert (deit.features, ours.features) == ("full features", "feature splits")


def test_what_cannot_be_analysed(photo_folder, tmp_path):
    with pytest.raises(RequestError, match="no attention of two heads"):
        looked(photo_folder, "analysis_nets:copies", image_size=64)
    with pytest.raises(DataError, match="no folder"):
        looked(tmp_path / "missing", "m0")
    for models, photos in (((), (photo_folder,)), (("m0",), ())):
        with pytest.raises(RequestError, match="no model or no photos given"):
            HeadsRequest(models, photos)
    with pytest.raises(RequestError, match="at least 1, 1, 1 and 0"):
        HeadsRequest(("m0",), (tmp_path,), count=0)


@pytest.mark.parametrize(("seen", "splits"), [(8, True), (16, False)], ids=["a half", "all"])
def test_what_the_heads_of_group_attention_see(seen, splits):
    attention = torch.nn.Module()
    attention.qkvs = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Conv2d(seen, 24, 1)) for _ in range(2))
    attention.proj = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 1))
    assert sees_splits(attention) is splits
    assert not sees_splits(torch.nn.Linear(16, 16))


class TestCommand:
    """``evit-edge analyze heads``."""

    def call(self, *arguments):
        return CliRunner().invoke(app, ["analyze", "heads", *map(str, arguments)])

    def test_table_json_and_picture(self, duplicating_m0, photo_folder, tmp_path, monkeypatch):
        pytest.importorskip("matplotlib")
        monkeypatch.setenv("COLUMNS", "200")
        files = ["--json", tmp_path / "h.json", "--picture", tmp_path / "h.svg"]
        options = ["--image-size", 128, "--photos", photo_folder, "--count", 2]
        result = self.call(duplicating_m0, "m0", *options, *files)
        assert result.exit_code == 0, result.output
        for text in ("feature splits", "stages.0.blocks.0", "Mean over the blocks", "correlation"):
            assert text in result.stdout
        assert "efficientvit_m0 has random weights" in result.output
        assert (tmp_path / "h.svg").read_text().count("<svg") == 1
        written = json.loads((tmp_path / "h.json").read_text())
        assert written["schema"] == "evit-edge-analyze-heads/1"
        first = written["models"][0]["blocks"][0]
        assert first["cosine"][:2] == [pytest.approx(1, abs=1e-6)] * 2
        assert max(first["cosine"][2:]) < 0.999

    def test_a_table_alone_tells_what_was_not_compared(self, colour_photos, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        (colour_photos / "broken.png").write_text("no photo")
        result = self.call("analysis_nets:weighing", "--photos", colour_photos, "--image-size", 64, "--batch", 15)
        assert result.exit_code == 0, result.output
        assert "(8 heads)" in result.stdout
        assert "1 attentions of a single head have nothing to be compared with." in result.stdout
        assert "1 photos could not be read" in result.output
        assert "Mean over the blocks" not in result.stdout
