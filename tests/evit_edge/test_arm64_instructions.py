"""Executed instructions on the emulated Arm: repeatable, in proportion to the work, and never called time."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from evit_converters.tflite import PartitionReport
from evit_edge.analysis import instructions
from evit_edge.analysis.instructions import InstructionsRequest, analyze_instructions
from evit_edge.cli.main import app
from evit_edge.errors import ArtefactError, DeviceError, RequestError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime.arm64 import Arm64Root, find_root
from evit_edge.runtime.arm64.counting import Counted, open_counter

M0_RULE = Preprocessing(image_size=128, crop_fraction=0.9)
SIDE, CHANNELS = 16, 64
MACS = SIDE * SIDE * CHANNELS * CHANNELS  # of one layer


@pytest.fixture(scope="module")
def counter(arm64_root, missing):
    """A counter in the root; both runtimes are there."""
    try:
        with open_counter(find_root(arm64_root)) as opened:
            yield opened
    except DeviceError as exc:
        missing(f"{exc} (`make envs` installs it or says why it cannot)")


@pytest.fixture(scope="module")
def layers(tmp_path_factory) -> dict[str, Path]:
    """One, two and three pointwise convolutions of 64 channels on 16 x 16, float; one and three in int8."""
    pytest.importorskip("litert_torch", reason="making a .tflite needs litert-torch, which is for Linux")
    import torch

    from evit_converters import tflite

    class Planes(torch.nn.Sequential):
        def forward(self, x):  # (1, H, W, C)
            return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    folder, contents = tmp_path_factory.mktemp("layers"), {}
    picture = np.random.default_rng(0).random((1, SIDE, SIDE, CHANNELS), np.float32)
    torch.manual_seed(0)
    for number in (1, 2, 3):
        net = Planes(*(torch.nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(number))).eval()
        contents[str(number)] = tflite.export(net, torch.zeros(1, SIDE, SIDE, CHANNELS))
    for name in ("1", "3"):
        contents[f"{name} int8"] = quantized(contents[name], picture, in_float=())
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content)
    return {name: folder / f"{name}.tflite" for name in contents}


def quantized(content: bytes, picture: np.ndarray, in_float: tuple[str, ...] | None = None) -> bytes:
    """A model in int8, for the values that one picture gives; by default without scores and residual stream."""
    from evit_converters import tflite

    found = tflite.activation_runner(content)(picture)
    ranges = {name: (float(values.min()), float(values.max())) for name, values in found.items()}
    exempt = dict.fromkeys(
        tflite.delicate_operators(content) if in_float is None else in_float, tflite.Precision.FLOAT
    )
    return tflite.quantize(content, tflite.Quantization.INT8, ranges, exempt=exempt)


@pytest.mark.slow
def test_each_layer_costs_the_same_and_what_its_arithmetic_needs(counter, layers):
    litert = counter.root.engines()[0]
    counts = {name: counter.count(litert, path, runs=1).counts[0] for name, path in layers.items()}
    layer, next_layer = counts["2"] - counts["1"], counts["3"] - counts["2"]
    assert next_layer == pytest.approx(layer, rel=0.02)
    assert MACS / 4 < layer < MACS / 2  # a NEON instruction multiplies four floats, and most do
    layer = (counts["3 int8"] - counts["1 int8"]) / 2
    assert MACS / 16 < layer < MACS / 8  # a dot product multiplies 16 bytes, other instructions 8 at most


@pytest.mark.slow
def test_counts_do_not_change_from_one_inference_process_or_picture_to_the_next(counter, layers):
    for engine in counter.root.engines():
        first = counter.count(engine, layers["3"], runs=4)
        assert len(first.counts) == 4
        again = counter.count(engine, layers["3"], runs=1, seed=1)
        every = [*first.counts, *again.counts]
        assert max(every) - min(every) < 2e-3 * min(every)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # on a machine that many share
def test_the_command_prints_float_against_int8_and_says_that_it_is_no_time(
    counter, arm64_root, m0_artefact, photos, tmp_path
):
    int8 = tmp_path / "int8.tflite"
    int8.write_bytes(quantized(m0_artefact.read_bytes(), M0_RULE.apply(photos["coffee"])[None]))
    figures = tmp_path / "figures.json"
    words = ["analyze", "instructions", str(m0_artefact), str(int8), "--arm64-root", str(arm64_root)]
    answer = CliRunner().invoke(app, [*words, "--json", str(figures)])
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.count("executed instructions, an emulated Cortex-A76; not time") == 2
    report = json.loads(figures.read_text())
    assert report["schema"] == "evit-edge-analyze-instructions/1"
    assert report["meaning"] == "executed instructions, an emulated Cortex-A76; not time"
    litert, old = report["counts"][:2], report["counts"][2:]
    assert [entry["model"] for entry in litert] == [str(m0_artefact), str(int8)]
    assert [entry["ratio"] for entry in (litert[0], old[0])] == [1.0, 1.0]
    assert litert[1]["ratio"] == litert[0]["instructions"] / litert[1]["instructions"] > 1.5
    assert litert[1]["partitions"] == 1
    assert "CONV_2D" in old[1]["division"]  # int8 runs in tflite-runtime's own kernels ...
    assert old[1]["ratio"] < 1.2  # ... and executes no fewer instructions than float in XNNPACK's
    assert all(entry["spread"] < 1e-3 * entry["instructions"] for entry in report["counts"])
    assert f"{litert[1]['ratio']:.2f}" in answer.stdout


def test_what_is_missing_is_answered_with_the_command(tmp_path, monkeypatch):
    root = Arm64Root(tmp_path, Path("qemu-aarch64-static"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"sudo apt-get install qemu-user$"), open_counter(root):
        pass
    _program(tmp_path / "qemu-aarch64", "exit 0")
    with pytest.raises(DeviceError, match=r"sudo apt-get install gcc libc6-dev$"), open_counter(root):
        pass
    _program(tmp_path / "cc", "echo 'counter.c: fatal error: stdint.h: no such file' >&2; exit 1")
    with (
        pytest.raises(DeviceError, match=r"cc says 'counter.c: fatal.* a C compiler and QEMU"),
        open_counter(root),
    ):
        pass


def test_an_emulator_without_plugins_is_named(tmp_path, monkeypatch, missing):
    static = shutil.which("qemu-aarch64-static")
    if static is None or shutil.which("cc") is None:
        missing("qemu-aarch64-static or cc is not installed")
    (tmp_path / "qemu-aarch64").symlink_to(static)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with (
        pytest.raises(DeviceError, match=r"qemu-aarch64 says .*plugin.*apt-get install qemu-user"),
        open_counter(Arm64Root(tmp_path, Path(static))),
    ):
        pass


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class Refusing:
    """Stands in for a counter; the runtimes refuse what they are told to."""

    version = "7.2"

    def __init__(self, refused: set[tuple[str, str]]):
        self.refused = refused

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def count(self, engine, path):
        if (engine.name, path.stem) in self.refused:
            raise ArtefactError(f"{path} failed on arm64: no such operator")
        size = path.stat().st_size
        return Counted((size, size + 2, size - 1), PartitionReport(1, ()))


@pytest.fixture
def refusing(arm64_root, monkeypatch, colour_models):
    """Function: analyze two models while (runtime, model) of the given pairs are refused."""

    def analyze(*refused):
        monkeypatch.setattr(instructions, "open_counter", lambda _root: Refusing(set(refused)))
        models = tuple(str(colour_models[form]) for form in ("int8-nhwc-logits", "float32-nchw-logits"))
        return analyze_instructions(InstructionsRequest(models, arm64_root))

    return analyze


def test_a_runtime_that_refuses_a_model_is_a_remark(refusing):
    report = refusing(("tflite-runtime", "int8-nhwc-logits"))
    assert [
        (entry.runtime.split()[0], Path(entry.model).stem, entry.ratio is None) for entry in report.counts
    ] == [
        ("ai-edge-litert", "int8-nhwc-logits", False),
        ("ai-edge-litert", "float32-nchw-logits", False),
        ("tflite-runtime", "float32-nchw-logits", True),  # nothing to take a ratio against
    ]
    assert len(report.remarks) == 1
    assert "not counted in tflite-runtime 2.14.0" in report.remarks[0]
    assert all((entry.spread, entry.inferences) == (3, 3) for entry in report.counts)


def test_the_command_prints_remarks(refusing, arm64_root, colour_models, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    refusing(("tflite-runtime", "int8-nhwc-logits"))
    models = [str(colour_models[form]) for form in ("int8-nhwc-logits", "float32-nchw-logits")]
    result = CliRunner().invoke(app, ["analyze", "instructions", *models, "--arm64-root", str(arm64_root)])
    assert result.exit_code == 0, result.output
    assert "One inference in ai-edge-litert" in result.stdout
    assert "not counted in tflite-runtime 2.14.0" in result.output


def test_a_model_that_all_runtimes_refuse_is_an_error(refusing):
    with pytest.raises(ArtefactError, match=r"no runtime takes .*int8-nhwc-logits.tflite: .*no such operator"):
        refusing(*((name, "int8-nhwc-logits") for name in ("ai-edge-litert", "tflite-runtime")))


@pytest.mark.parametrize("given", [(), ("a.tflite", "a.tflite")], ids=["nothing", "twice"])
def test_a_request_names_each_model_once(given):
    with pytest.raises(RequestError, match="each once"):
        InstructionsRequest(given)


def test_only_tflite_files_are_counted(tmp_path):
    for name, told in (("m.onnx", "a .tflite file is accepted"), ("m.tflite", "it is no file")):
        with pytest.raises(ArtefactError, match=told):
            analyze_instructions(InstructionsRequest((str(tmp_path / name),), tmp_path))


def test_a_model_with_two_inputs_is_refused(counter, tmp_path):
    litert_torch = pytest.importorskip("litert_torch")
    import torch

    from evit_converters.quiet import quiet

    class Sum(torch.nn.Module):
        def forward(self, a, b):
            return a + b

    path = tmp_path / "two.tflite"
    with quiet():
        model = litert_torch.convert(Sum().eval(), (torch.zeros(1, 4), torch.zeros(1, 4)))
    path.write_bytes(model.model_content())
    with pytest.raises(ArtefactError, match="2 inputs; a model with one is accepted"):
        counter.count(counter.root.engines()[0], path)
