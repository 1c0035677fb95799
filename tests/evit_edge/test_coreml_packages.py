"""Packages of a small classifier: read, evaluated, run; damaged in many ways and refused by name."""

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from evit_converters.coreml import DeploymentTarget, Interface, OutputKind, export, save
from evit_converters.coreml.modes import ComputePrecision
from evit_edge import tensors
from evit_edge.cli.main import app
from evit_edge.errors import ArtefactError, MissingExtraError, RequestError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime import InputRange, open_runner
from evit_edge.runtime.coreml import (
    ColorOrder,
    CoreMLRunner,
    Evaluator,
    OutputType,
    Precision,
    decoded_weights,
    open_coreml,
    protobuf,
    read_package,
)
from evit_edge.runtime.coreml.apple import ComparedRunner, compare
from evit_edge.runtime.coreml.description import read_description
from evit_edge.runtime.coreml.elements import Element
from evit_edge.runtime.coreml.runner import REMARK
from evit_edge.runtime.info import RuleSource

LABELS = ("cup", "cat", "rocket", "moon")
SIDE = 24
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
RULE = Preprocessing(image_size=SIDE, crop_fraction=1.0, mean=MEAN, std=STD)
DESCRIBED = json.dumps(
    {"preprocessing": RULE.to_json(), "aliases": {"mug": "cup"}, "output_kind": "probabilities"}
)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.nn.functional.hardswish(self.depthwise(x) + x)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(5)
    made = Net().eval()
    made.norm.running_mean.normal_()
    made.norm.running_var.uniform_(0.5, 2)
    return made


@pytest.fixture(scope="module")
def packages(net, tmp_path_factory):
    """float32 and float16 classifiers, and one that answers with logits; read only."""
    folder = tmp_path_factory.mktemp("packages")
    own = {"evit_edge": DESCRIBED}
    common = {"image_size": SIDE, "mean": MEAN, "std": STD, "labels": LABELS, "name": "net", "author": "somebody"}
    made = {
        "float32": (Interface(**common, user_defined=own), ComputePrecision.FLOAT32, DeploymentTarget.IOS15),
        "float16": (Interface(**common, user_defined=own), ComputePrecision.FLOAT16, DeploymentTarget.IOS17),
        "logits": (Interface(**common, output_kind=OutputKind.LOGITS), ComputePrecision.FLOAT32, None),
    }
    for name, (interface, precision, target) in made.items():
        save(export(net, interface, precision=precision, target=target), folder / f"{name}.mlpackage")
    return folder


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def copied(packages, tmp_path):
    """A copy of the float16 package that a test may damage."""
    target = tmp_path / "net.mlpackage"
    shutil.copytree(packages / "float16.mlpackage", target)
    return target


def normalised(images):
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    return (x - torch.tensor(MEAN).double().view(1, 3, 1, 1)) / torch.tensor(STD).double().view(1, 3, 1, 1)


def truth(net, images):
    """float64 logits (B, classes)."""
    with torch.no_grad():
        logits = net.double()(normalised(images))
        net.float()
    return logits


# Reading


def test_what_a_package_says(packages):
    package = read_package(packages / "float16.mlpackage")

    assert (package.specification_version, package.opset, package.labels) == (8, "iOS17", LABELS)
    assert (package.image.width, package.image.height, package.image.color_order) == (SIDE, SIDE, ColorOrder.RGB)
    scale = 1 / (255 * np.mean(STD))
    assert package.image.scale == pytest.approx([scale] * 3)
    assert package.image.bias == pytest.approx([-255 * mean * scale for mean in MEAN])
    assert [output.type for output in package.outputs] == [OutputType.CLASS_LABEL, OutputType.PROBABILITIES]
    assert package.predicted_probabilities == package.outputs[1].name
    assert package.metadata["author"] == "somebody"
    assert package.weight_files == ("Data/com.apple.CoreML/weights/weight.bin",)
    described = read_description(package)
    assert described.preprocessing == RULE
    assert described.aliases == {"mug": "cup"}


def test_logits_are_an_array_and_labels_are_metadata(packages):
    package = read_package(packages / "logits.mlpackage")

    assert [(output.type, output.shape) for output in package.outputs] == [(OutputType.ARRAY, (1, 4))]
    assert package.labels is None
    described = read_description(package)
    assert (described.labels, described.output_kind) == (LABELS, tensors.OutputKind.LOGITS)


def test_reading_loads_neither_torch_nor_coremltools(packages):
    code = (
        "import sys; from evit_edge.runtime.coreml import read_package, decoded_weights\n"
        f"package = read_package({str(packages / 'float16.mlpackage')!r}); list(decoded_weights(package))\n"
        "assert not {'torch', 'coremltools'} & set(sys.modules), sorted(sys.modules)\n"
        "import coremltools.proto.Model_pb2 as other\n"
        "from evit_edge.runtime.coreml.protobuf import message_classes\n"
        "assert other.Model is message_classes().Model\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=_environment()
    )

    assert done.returncode == 0, done.stderr


def _environment():
    root = Path(__file__).resolve().parents[2]
    paths = [str(root), str(root / "converters"), str(root / "calibration")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def test_without_coremltools_the_install_line_is_given(packages, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "coremltools" else find(name, *rest)
    )
    protobuf.message_classes.cache_clear()

    with pytest.raises(MissingExtraError, match=r"pip install 'evit-edge\[convert\]'"):
        read_package(packages / "float16.mlpackage")


def test_a_coremltools_without_its_messages_is_named(tmp_path):
    (tmp_path / "coremltools").mkdir()
    (tmp_path / "coremltools" / "__init__.py").touch()
    environment = _environment()
    environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path), environment["PYTHONPATH"]))
    code = "from evit_edge.runtime.coreml import read_package; read_package('any.mlpackage')"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )

    assert done.stderr.splitlines()[-1] == (
        "evit_edge.errors.MissingExtraError: coremltools lacks its folder proto: "
        "pip install --force-reinstall coremltools"
    )


# Evaluating


@pytest.mark.parametrize("name", ["float32", "logits"])
def test_float_programs_compute_torchs_answer(name, net, packages, images):
    expected = truth(net, images)
    if name != "logits":
        expected = expected.softmax(-1)
    package = read_package(packages / f"{name}.mlpackage")

    for precision, bound in ((Precision.FLOAT64, 1e-6), (Precision.FLOAT32, 3e-6), (Precision.DECLARED, 3e-6)):
        scores = Evaluator(package, precision).run(images)
        assert scores.dtype == (torch.float64 if precision is Precision.FLOAT64 else torch.float32)
        assert (scores.double() - expected).abs().max() < bound


def test_half_programs_stay_within_half_precision(net, packages, images):
    expected = truth(net, images).softmax(-1)

    scores = Evaluator(read_package(packages / "float16.mlpackage"), Precision.DECLARED).run(images)

    error = (scores.double() - expected).abs().max()
    assert 1e-7 < error < 3e-3


def test_a_batch_is_its_pictures_one_by_one(packages, images):
    evaluator = Evaluator(read_package(packages / "float16.mlpackage"), Precision.FLOAT64)

    batch = evaluator.run(images)
    single = torch.cat([evaluator.run(images[i : i + 1]) for i in range(len(images))])

    torch.testing.assert_close(batch, single, rtol=1e-12, atol=1e-12)
    assert evaluator.run(images[:0]).shape == (0, 4)


@pytest.mark.parametrize("count", [1, 3])
def test_observers_see_every_result_as_declared(count, packages, images):
    package = read_package(packages / "float16.mlpackage")
    seen = {}

    Evaluator(package, Precision.DECLARED).run(images[:count], seen.__setitem__)

    made = {
        value.name: value.type for op in package.function.operations for value in op.outputs if op.type != "const"
    }
    assert seen.keys() == made.keys()
    for name, value in seen.items():
        declared = made[name]
        if not hasattr(declared, "element") or declared.shape == ():
            continue
        assert tuple(value.shape) == (count, *declared.shape)
        if declared.element.name == "FLOAT16":
            assert torch.equal(value, value.half().float())


def test_weights_can_be_replaced(net, packages, images):
    package = read_package(packages / "float16.mlpackage")
    head = next(weight for weight in decoded_weights(package) if weight.value.shape == (4, 8))
    zeros = Evaluator(package, Precision.FLOAT64, weights={head.name: torch.zeros(4, 8)})

    scores = zeros.run(images)

    bias = net.head.bias.detach().half().double().softmax(-1)
    torch.testing.assert_close(scores, bias.expand(3, 4), rtol=1e-9, atol=1e-9)
    with pytest.raises(RequestError, match=r"\['nobody'\] given; float16.mlpackage has no such"):
        Evaluator(package, weights={"nobody": torch.zeros(1)})
    with pytest.raises(RequestError, match=r"of shape \(8, 4\) given; \(4, 8\) is needed"):
        Evaluator(package, weights={head.name: torch.zeros(8, 4)})


def test_wrong_pictures_and_inputs_are_refused(packages, images):
    evaluator = Evaluator(read_package(packages / "float32.mlpackage"))

    with pytest.raises(RequestError, match=r"float64 \(3, 24, 24, 3\) given; uint8 \(B, 24, 24, 3\)"):
        evaluator.run(images.astype(np.float64))
    with pytest.raises(RequestError, match=r"\(B, 24, 24, 3\) is accepted"):
        evaluator.run(images[:, :-1])
    with pytest.raises(RequestError, match=r"inputs \['picture'\] given; \['image'\] are needed"):
        evaluator.run_tensors({"picture": torch.zeros(1)})
    with pytest.raises(RequestError, match=r"'image' of shape \(3, 24, 24\) given"):
        evaluator.run_tensors({"image": torch.zeros(3, 24, 24)})


def _open_length(model):
    (name,) = _block(model).outputs
    (made,) = (value for op in _block(model).operations for value in op.outputs if value.name == name)
    made.type.tensorType.dimensions[1].unknown.variadic = False


def _two_arrays(model):
    model.description.output.add().CopyFrom(model.description.output[0])


def _text_as_output(model):
    operation = _block(model).operations.add()
    operation.CopyFrom(_first(model, "const"))
    operation.outputs[0].name = "told"
    value = operation.attributes["val"]
    value.ClearField("type")
    value.type.tensorType.dataType = Element.STRING.number
    value.ClearField("immediateValue")
    value.immediateValue.tensor.strings.values.append("cup")
    operation.outputs[0].type.CopyFrom(value.type)
    del _block(model).outputs[:]
    _block(model).outputs.append("told")
    model.description.output[0].name = "told"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_open_length, r"its output '.*' has no fixed shape \(1, None\)"),
        (_two_arrays, "has 2 arrays as outputs; exactly one is accepted"),
        (_text_as_output, "a text was found where numbers are needed"),
    ],
    ids=["open length", "two arrays", "text"],
)
def test_answers_that_are_no_scores_are_refused(change, message, packages, images, tmp_path):
    path = shutil.copytree(packages / "logits.mlpackage", tmp_path / "net.mlpackage")
    with _edited(path) as model:
        change(model)
    evaluator = Evaluator(read_package(path))

    with pytest.raises(ArtefactError, match=message) as caught:
        evaluator.run(images if change is not _open_length else images[:0])

    assert str(path) in str(caught.value)


def test_inputs_that_are_no_tensors_are_refused(copied):
    with _edited(copied) as model:
        entry = model.mlProgram.functions["main"].inputs[0]
        entry.type.listType.length.constant.size = 1
    evaluator = Evaluator(read_package(copied))

    with pytest.raises(ArtefactError, match="'image' is a listType; a tensor is accepted"):
        evaluator.run_tensors({"image": torch.zeros(1)})


# Running


def test_the_runner_honours_what_the_package_says(packages, images, net):
    runner = CoreMLRunner.open(packages / "float16.mlpackage", threads=1)
    info = runner.info

    scores = runner.run(images)

    assert (scores.dtype, scores.shape) == (np.float32, (3, 4))
    assert scores.argmax(-1).tolist() == truth(net, images).argmax(-1).tolist()
    assert info.remark == REMARK == "evaluated by the reference evaluator, not on Apple hardware"
    assert (info.labels, info.preprocessing, info.preprocessing_source) == (LABELS, RULE, RuleSource.FILE)
    assert (info.aliases, info.output_kind) == ({"mug": "cup"}, tensors.OutputKind.PROBABILITIES)
    assert (info.runtime, info.input.shape, info.num_classes) == ("coreml-reference", (1, SIDE, SIDE, 3), 4)
    assert runner.run(images[:0]).shape == (0, 4)


def test_many_pictures_are_cut_into_batches(packages, images):
    runner = CoreMLRunner.open(packages / "float32.mlpackage")
    many = np.concatenate([images] * 7)

    np.testing.assert_allclose(runner.run(many), np.concatenate([runner.run(images)] * 7), atol=1e-6)


def test_strangers_packages_get_the_default_rule(copied):
    with _edited(copied) as model:
        model.description.metadata.userDefined.pop("evit_edge")

    info = CoreMLRunner.open(copied, labels=("a", "b", "c", "d")).info

    assert info.preprocessing == Preprocessing(image_size=SIDE)
    assert info.preprocessing_source is RuleSource.DEFAULT
    assert info.output_kind is tensors.OutputKind.PROBABILITIES  # by the softmax in the program
    assert info.labels == ("a", "b", "c", "d")


def test_channels_are_given_in_the_order_that_the_package_states(copied, images):
    before = CoreMLRunner.open(copied).run(images)
    with _edited(copied) as model:
        model.description.input[0].type.imageType.colorSpace = 30  # BGR

    after = CoreMLRunner.open(copied).run(images)

    assert read_package(copied).image.color_order is ColorOrder.BGR
    np.testing.assert_allclose(CoreMLRunner.open(copied).run(images[..., ::-1]), before, atol=1e-6)
    assert np.abs(after - before).max() > 1e-3


def test_constants_that_are_no_tensors_are_left_out(copied, images):
    before = CoreMLRunner.open(copied).run(images)
    with _edited(copied) as model:
        operation = _block(model).operations.add(type="const")
        operation.CopyFrom(_first(model, "const"))
        operation.outputs[0].name = "table"
        operation.attributes["val"].type.dictionaryType.keyType.tensorType.dataType = Element.STRING.number
        operation.attributes["val"].immediateValue.dictionary.SetInParent()

    package = read_package(copied)

    assert "table" in {value.name for op in package.function.operations for value in op.outputs}
    assert "table" not in {weight.name for weight in decoded_weights(package)}
    np.testing.assert_array_equal(CoreMLRunner.open(copied).run(images), before)


def test_a_table_without_entries_needs_no_values(copied):
    with _edited(copied) as model:
        _constant((0,), "STRING")(model)

    value = read_package(copied).function.operations[0].attributes["val"]

    assert (value.array.shape, value.array.dtype) == ((0,), np.dtype(object))


def test_outputs_that_are_no_scores_are_told_apart(copied):
    with _edited(copied) as model:
        for name, field in (("mask", "imageType"), ("count", "int64Type")):
            output = model.description.output.add(name=name)
            getattr(output.type, field).SetInParent()

    package = read_package(copied)

    assert [output.type for output in package.outputs[2:]] == [OutputType.IMAGE, OutputType.OTHER]


def test_a_program_that_hands_its_input_on_answers_with_logits(copied):
    with _edited(copied) as model:
        model.description.metadata.userDefined.pop("evit_edge")
    assert read_description(read_package(copied)).output_kind is tensors.OutputKind.PROBABILITIES
    with _edited(copied) as model:
        del _block(model).outputs[:]
        _block(model).outputs.append("image")
        _first(model, "classify").type = "identity"

    assert read_description(read_package(copied)).output_kind is tensors.OutputKind.LOGITS


def test_the_runner_computes_with_the_threads_it_was_given(packages, images):
    before = torch.get_num_threads()
    runner = CoreMLRunner.open(packages / "float32.mlpackage", threads=before + 1)
    try:
        runner.run(images)

        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.description.metadata.userDefined.update({"evit_edge": "{"}), "cannot be read"),
        (lambda m: m.description.metadata.userDefined.update({"evit_edge": "[]"}), "a JSON object is needed"),
        (
            lambda m: m.description.metadata.userDefined.update({"evit_edge": '{"output_kind": 7}'}),
            "cannot be read",
        ),
        (lambda m: setattr(m.description.input[0].type.imageType, "width", 12), "image of 12 x 24; one square"),
        (lambda m: setattr(m.description.input[0].type.imageType, "colorSpace", 10), "takes a GRAYSCALE image"),
    ],
    ids=["no JSON", "no object", "no output kind", "not square", "grey"],
)
def test_packages_that_are_no_classifiers_of_photos(change, message, copied, images):
    with _edited(copied) as model:
        change(model)

    with pytest.raises(ArtefactError, match=message):
        CoreMLRunner.open(copied).run(images)


class StandInForMLModel:
    """In the place of coremltools' MLModel, which needs a Mac: the evaluator's answer, one class changed."""

    def __init__(self, path):
        self.runner = CoreMLRunner.open(path)
        self.asked = []

    def predict(self, data):
        (name, image), *_ = data.items()
        self.asked.append((name, image.mode, image.size))
        scores = self.runner.run(np.asarray(image)[None])[0]
        scores[0] *= 1.5
        if self.runner.info.output_kind is tensors.OutputKind.LOGITS:
            return {"logits": scores[None]}
        return {"classLabel": "x", self.runner.info.output.name: dict(zip(LABELS, scores.tolist(), strict=True))}


@pytest.mark.parametrize("name", ["float32", "logits"])
def test_beside_apples_core_ml(name, packages, images):
    path = packages / f"{name}.mlpackage"
    reference = CoreMLRunner.open(path).run(images)
    runner = open_coreml(path, native=StandInForMLModel)

    scores = runner.run(images)
    again = runner.run(images[:1])

    assert isinstance(runner, ComparedRunner)
    np.testing.assert_allclose(scores, reference * np.array([1.5, 1, 1, 1], np.float32), rtol=1e-5)
    np.testing.assert_allclose(again, scores[:1], rtol=1e-4)
    both = compare(reference, scores, runner.info.output_kind).joined(
        compare(reference[:1], scores[:1], runner.info.output_kind)
    )
    # One picture and a batch take other float kernels, whose last digits differ.
    assert asdict(runner.comparison) == pytest.approx(asdict(both), rel=1e-4)
    assert runner.comparison.pictures == 4
    assert runner.comparison.largest_difference > 0.1
    assert runner.info.runtime == "coreml"
    assert "on 4 of 4 pictures" in runner.info.remark or "of 4 pictures" in runner.info.remark
    assert runner._native.asked == [("image", "RGB", (SIDE, SIDE))] * 4


def test_commands_say_who_answered(packages, coffee_png, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "cup").mkdir()
    shutil.copy(coffee_png, tmp_path / "cup")
    package = str(packages / "float16.mlpackage")

    for command in (["classify", package, str(coffee_png)], ["evaluate", package, "--data", str(tmp_path)]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert REMARK in result.stdout


def test_a_package_states_itself_what_a_pixel_is(packages):
    with pytest.raises(RequestError, match="states what it expects of a pixel; drop the input range"):
        open_runner(packages / "float32.mlpackage", input_range=InputRange.RAW)


def test_elsewhere_the_evaluator_alone_answers(packages, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")

    assert isinstance(open_coreml(packages / "float32.mlpackage"), CoreMLRunner)


# Damage


class _edited:  # noqa: N801  used as a function
    """The model's message, written back at the end of the block."""

    def __init__(self, package):
        self.file = package / "Data/com.apple.CoreML/model.mlmodel"

    def __enter__(self):
        self.model = protobuf.message_classes().Model.FromString(self.file.read_bytes())
        return self.model

    def __exit__(self, *_):
        self.file.write_bytes(self.model.SerializeToString())


def _block(model):
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def _first(model, kind):
    return next(operation for operation in _block(model).operations if operation.type == kind)


def _manifest(change):
    def damage(package):
        file = package / "Manifest.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return damage


def _path(stated):
    def change(content):
        content["itemInfoEntries"][content["rootModelIdentifier"]]["path"] = stated

    return _manifest(change)


def _message(change):
    def damage(package):
        with _edited(package) as model:
            change(model)

    return damage


def _weights(change):
    def damage(package):
        file = package / "Data/com.apple.CoreML/weights/weight.bin"
        content = bytearray(file.read_bytes())
        changed = change(content)
        file.write_bytes(content if changed is None else changed)

    return damage


def _put(form, offset, value):
    return lambda content: struct.pack_into(form, content, offset, value)


def _linked(package):
    outside = package.parent / "outside.bin"
    outside.write_bytes(b"x" * 64)
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    file.unlink()
    file.symlink_to(outside)


def _weight_name(stated):
    def change(model):
        for operation in _block(model).operations:
            if operation.type == "const" and operation.attributes["val"].WhichOneof("value") == "blobFileValue":
                operation.attributes["val"].blobFileValue.fileName = stated

    return _message(change)


def _rename_input(model):
    _first(model, "conv").inputs["x"].arguments[0].name = "nowhere"


def _twice(model):
    first, second = (op for op in _block(model).operations if op.type == "conv")
    second.outputs[0].name = first.outputs[0].name


def _bindings(model):
    _first(model, "conv").inputs["x"].arguments[0].ClearField("name")


def _nested(model):
    operation = _first(model, "conv")
    for _ in range(9):
        operation = operation.blocks.add().operations.add()


def _first_weight(model):
    constants = (op.attributes["val"] for op in _block(model).operations if op.type == "const")
    return next(value for value in constants if value.WhichOneof("value") == "blobFileValue")


def _unnamed_classes(model):
    _first(model, "classify").inputs["classes"].arguments[0].name = "image"


def _constant(shape, kind, **values):
    """Change to a first constant of that shape and type, its values by the message's fields for them."""

    def change(model):
        value = next(op for op in _block(model).operations if op.type == "const").attributes["val"]
        value.ClearField("type")
        value.type.tensorType.dataType = getattr(Element, kind).number
        value.type.tensorType.rank = len(shape)
        for size in shape:
            dimension = value.type.tensorType.dimensions.add()
            if size is None:
                dimension.unknown.variadic = False
            else:
                dimension.constant.size = size
        value.ClearField("immediateValue")
        value.immediateValue.tensor.SetInParent()
        for field, held in values.items():
            if field == "bytes":
                value.immediateValue.tensor.bytes.values = held
            else:
                getattr(value.immediateValue.tensor, field).values.extend(held)

    return change


def _untyped(change):
    return _message(
        lambda m: change(next(op for op in _block(m).operations if op.type == "const").attributes["val"])
    )


def _wide_constant(model):
    value = next(op for op in _block(model).operations if op.type == "const").attributes["val"]
    dimension = value.type.tensorType.dimensions.add()
    dimension.constant.size = 2**40
    value.type.tensorType.rank += 1


DAMAGE = {
    "nothing there": (shutil.rmtree, "does not exist"),
    "a file": (lambda p: (shutil.rmtree(p), p.write_text("x")), "is a file; a folder"),
    "no manifest": (lambda p: (p / "Manifest.json").unlink(), "no Manifest.json"),
    "cut manifest": (lambda p: (p / "Manifest.json").write_text("{"), "Manifest.json cannot be read"),
    "binary manifest": (
        lambda p: (p / "Manifest.json").write_bytes(b"\xff\xfe\x00"),
        "Manifest.json cannot be read",
    ),
    "manifest of a list": (lambda p: (p / "Manifest.json").write_text("[]"), "names no root model"),
    "manifest without root": (_manifest(lambda m: m.pop("rootModelIdentifier")), "names no root model"),
    "manifest with a strange root": (
        _manifest(lambda m: m.update(rootModelIdentifier="x")),
        "names no root model",
    ),
    "path that is no text": (_path(7), "7 as the model's path"),
    "path upwards": (_path("../../../secret.txt"), "points outside the package"),
    "path from the root": (_path("/etc/passwd"), "points outside the package"),
    "path with a NUL": (_path("a\0b"), "no name of a file"),
    "no model": (lambda p: (p / "Data/com.apple.CoreML/model.mlmodel").unlink(), "lacks the file"),
    "weights linked outside": (_linked, "points outside the package"),
    "weights named upwards": (_weight_name("@model_path/../../../../x"), "points outside the package"),
    "weights named absolutely": (_weight_name("/etc/passwd"), "a name under @model_path/"),
    "no weights": (lambda p: shutil.rmtree(p / "Data/com.apple.CoreML/weights"), "lacks the file '@model_path"),
    "empty weights": (_weights(lambda c: b""), "has 0 bytes"),
    "half the weights": (_weights(lambda c: c[: len(c) // 2]), "lies outside|truncated"),
    "other version": (_weights(_put("<I", 4, 3)), "storage version 3"),
    "too few blobs": (_weights(_put("<I", 0, 1)), "states 1 blobs"),
    "sentinel": (_weights(_put("<B", 64, 0)), "instead of 0xdeadbeef"),
    "type of a blob": (_weights(_put("<I", 68, 2)), "holds float32 and the program says float16"),
    "unknown type of a blob": (_weights(_put("<I", 68, 99)), "holds type 99"),
    "size of a blob": (_weights(_put("<Q", 72, 2)), "has 2 bytes"),
    "start of a blob": (_weights(_put("<Q", 80, 2**62)), "claims"),
    "start inside the description": (_weights(_put("<Q", 80, 64)), "claims"),
    "an older kind of model": (_message(lambda m: m.neuralNetwork.layers.add()), "holds a neuralNetwork"),
    "unknown operations": (
        _message(lambda m: setattr(m.mlProgram.functions["main"], "opset", "CoreML99")),
        "CoreML99",
    ),
    "no main": (_message(lambda m: m.mlProgram.functions.clear()), "has no function 'main'"),
    "old version": (_message(lambda m: setattr(m, "specificationVersion", 6)), "states specification version 6"),
    "a value that nobody makes": (_message(_rename_input), "conv '.*' uses 'nowhere'"),
    "a value made twice": (_message(_twice), "which exists already"),
    "an output that nobody makes": (_message(lambda m: _block(m).outputs.append("x")), "the output 'x'"),
    "a constant without value": (
        _message(lambda m: _first(m, "const").attributes["val"].ClearField("immediateValue")),
        "has no value",
    ),
    "a huge constant": (_message(_wide_constant), "at most 2147483648 elements"),
    "an input that is bound to nothing": (_message(_bindings), "an input of '.*' is bound to nothing"),
    "deep blocks": (_message(_nested), "blocks are nested more than 8 deep"),
    "weights off the grid": (
        _message(lambda m: setattr(_first_weight(m).blobFileValue, "offset", 65)),
        r"at offset 65 lies outside .* or off its grid of 64",
    ),
    "weights that are a list": (
        _message(lambda m: setattr(_first_weight(m).type.listType.length.constant, "size", 1)),
        "the weight '.*' is a listType; a tensor is accepted",
    ),
    "a constant without type": (_untyped(lambda v: v.ClearField("type")), "the value '.*' has no type"),
    "a constant of no known type": (
        _untyped(lambda v: setattr(v.type.tensorType, "dataType", 99)),
        "the value '.*' has elements of unknown type 99",
    ),
    "a tensor that is stated as a list": (
        _untyped(lambda v: setattr(v.type.listType.length.constant, "size", 1)),
        "the constant '.*' holds a tensor, which does not fit its type",
    ),
    "a constant of open length": (
        _message(_constant((None,), "INT32", ints=[1])),
        r"the constant '.*' has type int32 \(\?\); a fixed shape is needed",
    ),
    "a constant with a byte too many": (
        _message(_constant((2,), "FLOAT16", bytes=b"12345")),
        r"the constant '.*' has 5 bytes, which float16 \(2\) does not take",
    ),
    "a constant with a value too few": (
        _message(_constant((2,), "INT32", ints=[1])),
        r"the constant '.*' holds 1 ints, which int32 \(2\) does not take",
    ),
    "a constant with no values": (
        _message(_constant((2,), "INT32")),
        r"the constant '.*' holds 0 None, which int32 \(2\) does not take",
    ),
    "text for numbers": (
        _message(_constant((1,), "INT32", strings=["1"])),
        r"holds 1 strings, which int32 \(1\) does not take",
    ),
    "fractions for whole numbers": (
        _message(_constant((1,), "INT32", floats=[1.0])),
        r"holds float32, which int32 \(1\) does not take",
    ),
    "numbers that are too large": (
        _message(_constant((2,), "INT8", ints=[127, 128])),
        "the constant '.*' holds values that int8 cannot",
    ),
    "two images": (
        _message(lambda m: m.description.input.add().CopyFrom(m.description.input[0])),
        "it takes 2 images; one is accepted",
    ),
    "an unknown colour space": (
        _message(lambda m: setattr(m.description.input[0].type.imageType, "colorSpace", 99)),
        "the image 'image' has colour space 99, which is unknown",
    ),
    "classes without names": (_message(_unnamed_classes), "classify '.*' names no classes"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_by_name(name, copied):
    damage, message = DAMAGE[name]
    damage(copied)

    with pytest.raises(ArtefactError, match=message) as caught:
        read_package(copied)

    assert str(caught.value).startswith(f"{copied} is no usable .mlpackage: ")


def _turned(model):
    """The program's first factor minus the picture."""
    operation = _first(model, "mul")
    operation.type = "sub"
    x, y = (operation.inputs[key].arguments[0] for key in ("x", "y"))
    kept = type(x).FromString(x.SerializeToString())
    x.CopyFrom(y)
    y.CopyFrom(kept)


@pytest.mark.parametrize(
    "change",
    [_turned, _constant((1, 3, 1, 1), "INT32", ints=[2, 2, 2])],
    ids=["a number minus the picture", "whole numbers"],
)
def test_what_only_looks_like_a_normalisation_is_none(change, copied):
    assert read_package(copied).image.scale != (1, 1, 1)
    with _edited(copied) as model:
        change(model)

    assert read_package(copied).image.scale == (1, 1, 1)


OPERATIONS = {
    "unknown operation": (lambda m: setattr(_first(m, "conv"), "type", "convolve"), r"convolve '.*' is not among"),
    "unknown parameter": (
        lambda m: _first(m, "conv").inputs["flavour"].CopyFrom(_first(m, "conv").inputs["x"]),
        "conv '.*' has the parameter 'flavour'",
    ),
    "missing parameter": (
        lambda m: _first(m, "conv").inputs.pop("weight"),
        "conv '.*' .*lacks the parameter 'weight'",
    ),
    "wrong shape": (
        lambda m: setattr(_first(m, "conv").outputs[0].type.tensorType.dimensions[1].constant, "size", 9),
        r"has shape \(1, 8, 12, 12\); the file declares float16 \(1, 9, 12, 12\)",
    ),
    "wrong axis": (
        lambda m: _first(m, "reduce_mean").inputs["axes"].CopyFrom(_first(m, "conv").inputs["pad"]),
        "reduce_mean '.*' fails",
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_that_cannot_be_evaluated_are_named(name, copied, images):
    change, message = OPERATIONS[name]
    with _edited(copied) as model:
        change(model)

    with pytest.raises(ArtefactError, match=message) as caught:
        Evaluator(read_package(copied)).run(images)

    assert str(copied) in str(caught.value)


FILES = ("Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_read_or_refused(data, copied):
    """Bytes changed, cut or added anywhere: the reader answers or raises its one error."""
    file = copied / data.draw(st.sampled_from(FILES))
    whole = file.read_bytes()
    # Mostly near the front, where what the rest hangs on is.
    place = data.draw(
        st.one_of(st.integers(0, 400), st.integers(0, len(whole) - 1)).map(lambda n: min(n, len(whole) - 1))
    )
    new = data.draw(st.binary(min_size=1, max_size=4))
    way = data.draw(st.sampled_from(("replace", "cut", "insert")))
    changed = {
        "replace": whole[:place] + new + whole[place + len(new) :],
        "cut": whole[:place],
        "insert": whole[:place] + new + whole[place:],
    }[way]
    file.write_bytes(changed)
    try:
        with contextlib.suppress(ArtefactError):  # and nothing else
            list(decoded_weights(read_package(copied)))
    finally:
        file.write_bytes(whole)
