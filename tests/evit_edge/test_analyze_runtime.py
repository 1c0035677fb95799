"""Where the run time goes: kinds of work, work by shapes, known answers, all the models named in the docs."""

import json
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from evit_edge.benchmark.figures import Bound
from evit_edge.cli.main import app
from evit_edge.errors import MissingExtraError, RequestError

torch = pytest.importorskip("torch")

from evit_edge.analysis.clock import Balance, Processor, check_processor, measure_balance, timed  # noqa: E402
from evit_edge.analysis.kinds import Kind, kind_of  # noqa: E402
from evit_edge.analysis.networks import Form, open_network  # noqa: E402
from evit_edge.analysis.runtime import RuntimeRequest, analyze_runtime, measure_network  # noqa: E402
from evit_edge.analysis.runtime_report import ModelRuntime, OperatorWork, document, join  # noqa: E402
from evit_edge.analysis.work import Work, work_of  # noqa: E402

BALANCE = Balance(flops_per_s=100e9, bytes_per_s=20e9)
SHORT = 0.02  # seconds a model
KINDS = {
    "aten::conv2d": Kind.MULTIPLICATION,
    "aten::addmm": Kind.MULTIPLICATION,
    "aten::_scaled_dot_product_flash_attention_for_cpu": Kind.MULTIPLICATION,
    "aten::batch_norm": Kind.NORMALIZATION,
    "aten::layer_norm": Kind.NORMALIZATION,
    "aten::softmax": Kind.OTHER,
    "aten::gelu": Kind.OTHER,
    "aten::mul": Kind.OTHER,
    "aten::mean": Kind.OTHER,
    "aten::add_": Kind.ADDITION,
    "aten::clone": Kind.COPY,
    "aten::cat": Kind.COPY,
    "aten::to": Kind.COPY,
    "aten::reshape": Kind.RESHAPE,
    "aten::permute": Kind.RESHAPE,
    "aten::slice": Kind.RESHAPE,
    "aten::something_new": Kind.OTHER,
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_operators(name):
    assert kind_of(name) is KINDS[name]


def test_the_paper_counts_four_kinds_as_memory_bound():
    counted = {kind for kind in Kind if kind.memory_bound_in_paper}
    assert counted == {Kind.RESHAPE, Kind.ADDITION, Kind.COPY, Kind.NORMALIZATION}


CALLS = {
    "conv, stride 2": (
        ("aten::conv2d", [[2, 3, 32, 32], [8, 3, 3, 3], [8]], [None, None, None, [2, 2], [1, 1], [1, 1], 1]),
        (2 * 2 * 8 * 256 * 27, 4 * (6144 + 216 + 8 + 4096)),
    ),
    "depthwise conv, padding same": (
        ("aten::conv2d", [[1, 8, 16, 16], [8, 1, 3, 3]], [None, None, None, [1, 1], None, [1, 1], 8]),
        (2 * 8 * 256 * 9, 4 * (2048 + 72 + 2048)),
    ),
    "dilated conv": (
        ("aten::conv2d", [[1, 1, 16, 16], [1, 1, 3, 3]], [None, None, None, [1, 1], [0, 0], [2, 2], 1]),
        (2 * 144 * 9, 4 * (256 + 9 + 144)),
    ),
    "conv of a line": (
        ("aten::conv1d", [[2, 3, 9], [4, 3, 3]], [None, None, None, [2], [1], [1], 1]),
        (2 * 2 * 4 * 5 * 9, 4 * (54 + 36 + 40)),
    ),
    "transposed conv": (
        ("aten::conv_transpose2d", [[2, 3, 8, 8], [3, 5, 2, 2]], [None, None, None, [2, 2], [0, 0]]),
        (2 * 2 * 64 * 60, 4 * (384 + 60 + 2 * 5 * 256)),
    ),
    "addmm": (("aten::addmm", [[16], [64, 8], [8, 16]], []), (2 * 64 * 8 * 16, 4 * (16 + 512 + 128 + 1024))),
    "bmm": (("aten::bmm", [[2, 8, 4], [2, 4, 6]], []), (2 * 2 * 8 * 4 * 6, 4 * (64 + 48 + 96))),
    "attention": (
        ("aten::_scaled_dot_product_flash_attention_for_cpu", [[2, 3, 10, 4]] * 3, []),
        (2 * 2 * 3 * 100 * 8, 4 * (3 * 240 + 240)),
    ),
    "addition": (("aten::add", [[2, 4], [4], []], []), (8, 4 * (8 + 4 + 8))),
    "copy": (("aten::clone", [[2, 4], []], []), (0, 4 * 16)),
}


@pytest.mark.parametrize("case", CALLS)
def test_work_by_shapes(case):
    (name, shapes, concrete), (flops, bytes_moved) = CALLS[case]
    assert work_of(name, kind_of(name), shapes, concrete) == Work(flops, bytes_moved)


def test_a_view_moves_nothing_and_a_reshape_may():
    assert work_of("aten::view", Kind.RESHAPE, [[2, 4], []], [], moves=False) == Work()
    assert work_of("aten::reshape", Kind.RESHAPE, [[2, 4], []], []) == Work(0, 64)


def quick(*models: str, **changes) -> RuntimeRequest:
    return RuntimeRequest(models, seconds=SHORT, **changes)


def test_a_net_of_copies_is_found_to_copy():
    (model,) = analyze_runtime(quick("analysis_nets:copies", batch=16)).models
    # On a crowded machine the time outside of operators grows; inside them nothing but copies takes any.
    assert model.share(Kind.COPY) >= 0.9 * (1 - model.outside_share)
    assert model.share(Kind.COPY) > 0.3
    assert model.memory_share == pytest.approx(model.share(Kind.COPY))
    assert model.compute_share == 0
    (operator, *_) = model.operators
    assert (operator.name, operator.calls) == ("aten::clone", pytest.approx(8))
    assert operator.bytes_moved == pytest.approx(8 * 2 * 16 * 3 * 224 * 224 * 4)


@pytest.mark.parametrize("form", list(Form))
def test_multiplications_are_those_that_the_configuration_states(form):
    from evit_edge.models.complexity import count
    from evit_edge.models.config import variant

    (model,) = analyze_runtime(quick("m0", batch=2, image_size=128, form=form)).models
    flops = sum(entry.flops for entry in model.operators if entry.kind is Kind.MULTIPLICATION)
    assert flops / 2 / 2 == pytest.approx(count(variant("m0").adapted(image_size=128)).macs)
    normalized = {entry.name for entry in model.operators if entry.kind is Kind.NORMALIZATION}
    assert normalized == ({"aten::batch_norm"} if form is Form.TRAIN else set())  # the inference form has none


def test_shares_and_bounds_add_up():
    (model,) = analyze_runtime(quick("m0", image_size=128)).models
    total = sum(kind.share for kind in model.kinds) + model.outside_share
    assert total == pytest.approx(1)
    assert model.memory_share + model.compute_share + model.outside_share == pytest.approx(1)
    assert model.images_per_s == pytest.approx(1 / model.whole_s)
    assert all(entry.time_s >= 0 for entry in model.operators)


def test_depthwise_waits_for_memory_and_a_large_product_does_not():
    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.depthwise = torch.nn.Conv2d(3, 3, 3, groups=3)
            self.dense = torch.nn.Conv2d(3, 512, 16)

        def forward(self, x):
            return self.dense(self.depthwise(x))

    network = replace(open_network("m0", image_size=128), module=Both().eval())
    model = measure_network(network, quick("both"), BALANCE)
    bounds = {entry.bound for entry in model.operators if entry.name == "aten::conv2d"}
    assert bounds == {Bound.COMPUTE, Bound.MEMORY}
    assert model.operators[0].bound is Bound.COMPUTE


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_attention_in_one_piece_or_in_operators(fused):
    (model,) = analyze_runtime(quick("analysis_nets:encoder", image_size=64, unfused=not fused)).models
    names = {entry.name for entry in model.operators}
    assert ("aten::_transformer_encoder_layer_fwd" in names) is fused
    assert model.share(Kind.MULTIPLICATION) > model.share(Kind.OTHER)


NAMED = (
    *(f"efficientvit_m{i}" for i in range(6)),
    "timm:deit_tiny_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
    "timm:mobilevit_xxs",
    "timm:mobilenetv3_large_100",
)


def test_every_model_of_the_docs_runs(timm):
    report = analyze_runtime(quick(*NAMED, image_size=128))
    for model in report.models:
        assert model.share(Kind.MULTIPLICATION) > max(
            share.share for share in model.kinds if share.kind is not Kind.MULTIPLICATION
        )
        assert 0 < model.memory_share < 1
    assert [model.image_size for model in report.models] == [128] * len(NAMED)


@pytest.mark.parametrize(("size", "expected"), [(None, 256), (96, 96)], ids=["its own", "another"])
def test_timm_models_have_a_size(timm, size, expected):
    network = open_network("timm:mobilevit_xxs", image_size=size)
    assert (network.image_size, network.noise(2).shape[-1]) == (expected, expected)
    assert network.preprocessing.mean == (0, 0, 0)  # as timm prepares photos for it


def test_timm_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match="pip install timm"):
        open_network("timm:deit_tiny_patch16_224")


def test_timm_names_what_is_near(timm):
    with pytest.raises(RequestError, match=r"no model 'deit_tinny'.*near it: deit"):
        open_network("timm:deit_tinny")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("analysis_nets:number", "returned int"),
        ("analysis_nets:broken", "ValueError: out of nets"),
        ("analysis_nets:missing", "AttributeError"),
        ("no_such_module:net", "ModuleNotFoundError"),
    ],
)
def test_functions_that_make_no_net(source, message):
    with pytest.raises(RequestError, match=message):
        open_network(source)


def test_functions_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "mine_alone.py").write_text("from torch import nn\ndef net():\n    return nn.Identity()\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert open_network("mine_alone:net", image_size=64).image_size == 64
    assert sys.path == before


def test_the_inference_form_is_efficientvits(m0_checkpoint):
    network = open_network(str(m0_checkpoint), form=Form.INFERENCE)
    assert (network.trained, network.noise(2).dtype, network.noise(2).shape) == (
        True,
        torch.uint8,
        (2, 128, 128, 3),
    )
    with pytest.raises(RequestError, match="only EfficientViT"):
        open_network("analysis_nets:encoder", form=Form.INFERENCE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"models": ()}, "no model"), ({"batch": 0}, "at least 1"), ({"seconds": 0}, "more than 0")],
)
def test_requests_that_cannot_be_met(changes, message):
    with pytest.raises(RequestError, match=message):
        RuntimeRequest(**{"models": ("m0",), **changes})


def test_channels_may_lie_last(monkeypatch):
    seen = []
    network = open_network("analysis_nets:encoder", image_size=64)
    network.module.patches.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    for channels_last in (False, True):
        measure_network(network, quick("encoder", batch=2, channels_last=channels_last), BALANCE)
    assert seen == sorted(seen)
    assert set(seen) == {False, True}


def test_a_size_that_a_net_does_not_take():
    with pytest.raises(RequestError, match="encoder does not run at 8 px"):
        analyze_runtime(quick("analysis_nets:encoder", image_size=8))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none():
    with pytest.raises(RequestError, match="sees no CUDA device"):
        check_processor(Processor.CUDA)


def test_the_balance_is_a_machines():
    found = measure_balance(Processor.CPU)
    assert found.flops_per_byte == found.flops_per_s / found.bytes_per_s > 0
    assert found.least_s(found.flops_per_s, 0) == pytest.approx(1)
    assert len(timed(lambda: None, 0.0)) == 5


def test_operators_are_joined_by_bound():
    one = OperatorWork("aten::conv2d", Kind.MULTIPLICATION, Bound.COMPUTE, 1, 2.0, 10, 5, 1.0)
    small = replace(one, bound=Bound.MEMORY, time_s=0.5)
    joined = join([small, one, one])
    assert [(entry.bound, entry.calls, entry.time_s) for entry in joined] == [
        ("compute", 2, 4.0),
        ("memory", 1, 0.5),
    ]
    model = ModelRuntime("net", "train", 224, 1, 0, 5.0, 5, 5, 1.0, joined)
    assert (model.compute_share, model.memory_share, model.outside_share) == pytest.approx((0.8, 0.1, 0.1))
    assert model.memory_share_in_paper == 0


class TestCommand:
    """``evit-edge analyze runtime``."""

    def call(self, *arguments):
        return CliRunner().invoke(app, ["analyze", "runtime", *map(str, arguments), "--seconds", str(SHORT)])

    def test_table_json_and_picture(self, tmp_path, monkeypatch):
        pytest.importorskip("matplotlib")
        monkeypatch.setenv("COLUMNS", "200")
        files = ["--json", tmp_path / "r.json", "--picture", tmp_path / "r.png"]
        result = self.call("m0", "analysis_nets:copies", "--image-size", 128, "--operators", *files)
        assert result.exit_code == 0, result.output
        for text in ("efficientvit_m0", "copies", "mem (paper)", "longest operators", "clone", "Balance:"):
            assert text in result.stdout
        assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"
        written = json.loads((tmp_path / "r.json").read_text())
        assert written["schema"] == "evit-edge-analyze-runtime/1"
        first = written["models"][0]
        assert [kind["kind"] for kind in first["kinds"]] == [kind.value for kind in Kind]
        assert sum(kind["share"] for kind in first["kinds"]) + first["outside_share"] == pytest.approx(1)

    def test_a_table_alone(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        result = self.call("analysis_nets:copies")
        assert result.exit_code == 0, result.output
        assert ("Balance:" in result.stdout, "longest operators" in result.stdout) == (True, False)

    def test_errors_are_one_line(self):
        result = self.call("no_such_file.pth")
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert "no checkpoint at no_such_file.pth" in result.output

    def test_wrong_choices(self, tmp_path):
        assert self.call("m0", "--form", "folded").exit_code == 2
        assert self.call("m0", "--device", "tpu").exit_code == 2
        result = self.call("m0", "--picture", tmp_path / "r.txt")
        assert (result.exit_code, "are accepted" in result.output) == (1, True)


def test_the_document_names_what_follows():
    report = analyze_runtime(quick("m0", image_size=128))
    fields = document(report)
    assert fields["flops_per_byte"] == report.flops_per_byte
    assert fields["models"][0]["memory_share"] == report.models[0].memory_share
