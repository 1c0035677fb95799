"""Checkpoints, ONNX files and Core ML packages made to do harm: nothing is executed, nothing outside is read."""

import io
import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import seeds
import torch
from safetensors.torch import save_file

from evit_edge.errors import ArtefactError, CheckpointError
from evit_edge.models.checkpoints import load_checkpoint, read_weights
from evit_edge.runtime import open_runner
from evit_edge.runtime.checks import Limits, check_model
from evit_edge.runtime.checks import onnx as onnx_checks

ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"


# Checkpoints


class Harm:
    """Unpickled without care, it makes a file."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def in_torchs_zip(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


@pytest.mark.parametrize("packed", [bytes, in_torchs_zip], ids=["plain pickle", "torch's zip"])
@pytest.mark.parametrize("call", ["os.system", "eval", "open", "torch.load"])
def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path, packed, call):
    mark = tmp_path / "mark"
    harm = {
        "os.system": Harm(os.system, f"touch {mark}"),
        "eval": Harm(eval, f"__import__('pathlib').Path({str(mark)!r}).touch()"),
        "open": Harm(open, str(mark), "w"),
        "torch.load": Harm(torch.load, str(mark)),
    }[call]
    path = tmp_path / "m0.pth"
    path.write_bytes(packed(pickle.dumps({"model": harm}, protocol=2)))
    with pytest.raises(CheckpointError, match=r"m0\.pth cannot be read as weights only") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_the_pickle_is_malicious(tmp_path):
    """That it does its harm where it is trusted, so that the test above tests something."""
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Harm(open, str(mark), "w"), protocol=2)).close()
    assert mark.exists()


def test_a_tensor_of_100_gib_out_of_one_number_is_refused(tmp_path):
    wide = torch.zeros(1).expand(27_000_000_000)
    torch.save({"head.linear.weight": wide}, tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match=r"'head\.linear\.weight' with shape \(27000000000,\) and 4 bytes"):
        read_weights(tmp_path / "wide.pth")


@pytest.mark.parametrize("kind", ["sparse", "quantized", "meta"])
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path, kind):
    tensor = {
        "sparse": lambda: torch.eye(3).to_sparse(),
        "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
        "meta": lambda: torch.zeros(3, device="meta"),
    }[kind]
    with warnings.catch_warnings():  # torch's own, about quantized tensors
        warnings.simplefilter("ignore")
        torch.save({"a": tensor()}, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=r"a\.pth"):
            read_weights(tmp_path / "a.pth")


def test_an_archive_of_tensors_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(300 * 2**20))
    with pytest.raises(CheckpointError, match=r"the archive of its tensors unpacks to 300\.0 MiB"):
        read_weights(path, Limits(memory_bytes=2**28))


@pytest.mark.parametrize("classes", ["7", "1000000000000"])
def test_a_wrong_number_of_classes_builds_no_network(tmp_path, classes):
    rule = {
        "image_size": 128,
        "crop_fraction": 0.9,
        "interpolation": "bicubic",
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
    }
    metadata = {"format": "evit-edge/1", "name": "n", "model": "efficientvit_m0", "num_classes": classes}
    metadata |= {"image_size": "128", "preprocessing": json.dumps(rule), "labels": "null", "aliases": "{}"}
    for name, state in (("with", {"head.linear.weight": torch.zeros(3, 192)}), ("without", {"a": torch.zeros(1)})):
        save_file(state, tmp_path / f"{name}.safetensors", metadata)
    with pytest.raises(CheckpointError, match=rf"says {classes} classes and its head\.linear\.weight has shape"):
        load_checkpoint(tmp_path / "with.safetensors")
    reason = "holds no head" if classes != "7" else "does not fit"
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(tmp_path / "without.safetensors")


def safetensors_of(header: object, data: bytes = b"", claimed: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BAD_HEADERS = {
    "a header of 2**63 bytes": safetensors_of({}, claimed=2**63),
    "a header longer than the file": safetensors_of({}, claimed=5000),
    "no JSON": safetensors_of(b"{nonsense"),
    "a tensor behind the end": safetensors_of({"a": {**ENTRY, "data_offsets": [0, 8000]}}, bytes(8)),
    "a tensor before the start": safetensors_of({"a": {**ENTRY, "data_offsets": [-8, 0]}}, bytes(8)),
    "more than its bytes": safetensors_of({"a": {**ENTRY, "shape": [2**60]}}, bytes(8)),
    "a shape that overflows": safetensors_of({"a": {**ENTRY, "shape": [2**40, 2**40]}}, bytes(8)),
    "tensors on each other": safetensors_of({"a": ENTRY, "b": ENTRY}, bytes(8)),
    "an unknown type": safetensors_of({"a": {**ENTRY, "dtype": "F99"}}, bytes(8)),
    "deep nesting": safetensors_of(b"[" * 100_000),
}


@pytest.mark.parametrize("content", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_headers_that_lie(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        read_weights(tmp_path / "a.safetensors")


# Core ML packages


@pytest.fixture
def package(tmp_path):
    """A small sound package, and a secret beside it."""
    pytest.importorskip("coremltools")
    (tmp_path / "secret").write_bytes(b"secret")
    folder = seeds.unpack_package((CORPUS / "package" / "float16.package").read_bytes(), tmp_path / "in")
    return folder.rename(tmp_path / "net.mlpackage")


def point_at(package: Path, place: str) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    entry["path"] = place
    (package / "Manifest.json").write_text(json.dumps(manifest))


def test_the_small_package_is_sound(package):
    runner = open_runner(package)
    assert runner.run(np.zeros((2, 8, 8, 3), np.uint8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("../../secret", "points outside the package"),
        ("com.apple.CoreML/../../../secret", "points outside the package"),
        ("/etc/passwd", "points outside the package"),
        ("", "a name is needed"),
        ("com.apple.CoreML", "lacks the file"),
        ("a\0b", "no name of a file"),
    ],
)
def test_a_manifest_that_leads_out_of_the_package(package, place, reason):
    point_at(package, place)
    with pytest.raises(ArtefactError, match=rf"net\.mlpackage is no usable \.mlpackage.*{reason}"):
        open_runner(package)


def test_weights_that_lead_out_of_the_package(package):
    model = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    content, inside = model.read_bytes(), b"@model_path/weights/weight.bin"
    assert inside in content
    outside = b"@model_path/../../../../secret"
    assert len(inside) == len(outside)  # so that no length before it changes
    model.write_bytes(content.replace(inside, outside))
    with pytest.raises(ArtefactError, match="points outside the package"):
        open_runner(package)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda place, secret: place.symlink_to(secret), "is a link out of the package"),
        (lambda place, secret: place.symlink_to(secret.parent), "is a link out of the package"),
        (lambda place, _: place.symlink_to(place), "cannot be read|is neither"),
        (lambda place, _: os.mkfifo(place), "is neither a file nor a folder"),
    ],
    ids=["to a file", "to a folder", "in a circle", "a pipe"],
)
def test_links_and_pipes_in_a_package(package, make, reason):
    make(package / "Data" / "more", package.parent / "secret")
    with pytest.raises(ArtefactError, match=f"'Data/more' .*({reason})|'Data/more' ({reason})"):
        open_runner(package)


def test_the_weights_as_a_link_out_of_the_package(package):
    weights = package / "Data" / "com.apple.CoreML" / "weights"
    shutil.move(weights, package.parent / "elsewhere")
    weights.symlink_to(package.parent / "elsewhere")
    with pytest.raises(ArtefactError, match=r"'Data/com\.apple\.CoreML/weights' is a link out of the package"):
        open_runner(package)


def test_a_package_larger_than_the_limit(package):
    with (package / "Data" / "large").open("wb") as file:
        file.truncate(2**40)  # no byte of it takes any place
    with pytest.raises(ArtefactError, match=r"it has 1024\.0 GiB; the limit is 4\.0 GiB"):
        check_model(package)


def test_a_program_that_declares_more_than_the_limit(package):
    from evit_edge.runtime.checks.package import declared_bytes
    from evit_edge.runtime.coreml.package import read_package
    from evit_edge.runtime.coreml.protobuf import message_classes

    small = declared_bytes(read_package(package).function)
    assert small < 10_000
    file = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model = message_classes().Model.FromString(file.read_bytes())
    block = next(iter(model.mlProgram.functions["main"].block_specializations.values()))
    relu = next(operation for operation in block.operations if operation.type == "relu")
    for dimension in relu.outputs[0].type.tensorType.dimensions:
        dimension.constant.size = 1100
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match=r"declares .* GiB of weights and values|at most 2147483648 elements"):
        open_runner(package)


# ONNX


@pytest.fixture
def outside(tmp_path):
    """Function: a model with its weights in another file, whose entry is changed as asked for."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    (tmp_path / "model" / "weights.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())

    def write(**entries):
        model = onnx.ModelProto.FromString((CORPUS / "onnx" / "outside.onnx").read_bytes())
        for entry in model.graph.initializer[0].external_data:
            entry.value = str(entries.pop(entry.key, entry.value))
        assert not entries
        path = tmp_path / "model" / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def test_weights_beside_the_model_are_read(outside):
    runner = open_runner(outside())
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[..., 1] = 5
    assert int(runner.run(picture).argmax()) == 1


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"location": "../secret.bin"}, "a file in the model's own folder is accepted"),
        ({"location": "x/../../secret.bin"}, "a file in the model's own folder is accepted"),
        ({"location": "/etc/passwd"}, "a file in the model's own folder is accepted"),
        ({"location": "C:\\windows\\win.ini"}, "a file in the model's own folder is accepted"),
        ({"location": "..\\secret.bin"}, "a file in the model's own folder is accepted"),
        ({"location": ""}, "a file in the model's own folder is accepted"),
        ({"location": "*/_ORT_MEM_ADDR_/*"}, "which is not there"),
        ({"location": "none.bin"}, "which is not there"),
        ({"location": "link.bin"}, "a link out of the model's folder"),
        ({"location": "circle.bin"}, "cannot be read|not there"),
        ({"offset": 4}, "from 4 on, which ends at 36"),
        ({"offset": -4}, "from -4 on"),
        ({"offset": "four"}, "a place that is no number"),
        ({"length": 35}, "takes 36 bytes; .* is to hold 35"),
        ({"length": 10**15}, "is to hold 1000000000000000"),
    ],
    ids=str,
)
def test_weights_elsewhere_are_refused(outside, entries, reason):
    path = outside(**entries)
    (path.parent / "link.bin").symlink_to(path.parent.parent / "secret.bin")
    (path.parent / "circle.bin").symlink_to(path.parent / "circle.bin")
    with pytest.raises(ArtefactError, match=rf"m\.onnx is no usable \.onnx file: .*({reason})"):
        open_runner(path)


def bent_onnx(tmp_path, change) -> Path:
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto.FromString((CORPUS / "onnx" / "inside.onnx").read_bytes())
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "m.onnx"


def declare_100_gib(model):
    value = model.graph.value_info.add()
    value.name = "f"
    value.type.tensor_type.elem_type = 1
    for size in (1, 163840, 163840, 1):
        value.type.tensor_type.shape.dim.add().dim_value = size


def texts(model, *, elsewhere=False):
    entry = model.graph.initializer.add()
    entry.name, entry.data_type = "names", 8
    entry.string_data.extend([b"one", b"two"])
    if elsewhere:
        entry.data_location = 1


def sparse(model, *, as_attribute=False, size=1):
    """A sparse tensor of one value, stored by itself or with a node."""
    if as_attribute:
        attribute = model.graph.node[0].attribute.add()
        attribute.name, attribute.type = "sparse_value", 11
        entry = attribute.sparse_tensor
    else:
        entry = model.graph.sparse_initializer.add()
    entry.values.name, entry.values.data_type, entry.values.raw_data = "sparse", 1, bytes(4)
    entry.values.dims.append(size)
    entry.indices.data_type, entry.indices.raw_data = 7, bytes(8)
    entry.indices.dims.append(1)
    entry.dims.append(9)


def function(model):
    """A function with a constant of its own, of more than it holds."""
    entry = model.functions.add()
    entry.name, entry.domain = "f", "own"
    node = entry.node.add()
    node.op_type = "Constant"
    attribute = node.attribute.add()
    attribute.name, attribute.type = "value", 4
    attribute.t.data_type, attribute.t.raw_data = 1, bytes(4)
    attribute.t.dims.append(3)


def a_list(model):
    """A value that is no tensor."""
    value = model.graph.value_info.add()
    value.name = "list"
    value.type.sequence_type.elem_type.tensor_type.elem_type = 1


ONNX = {
    "texts elsewhere": (lambda m: texts(m, elsewhere=True), "'names' holds texts in another file"),
    "a sparse one": (lambda m: sparse(m, size=2), "'sparse' of shape .* and its data has 4 bytes"),
    "a node's sparse one": (lambda m: sparse(m, as_attribute=True, size=2), "'sparse' of shape"),
    "a function's constant": (function, "and its data has 4 bytes"),
    "100 GiB": (declare_100_gib, r"declares 100\.0 GiB"),
    "weights of 4 TiB": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**38), "and its data has 36 bytes"),
    "a negative size": (
        lambda m: m.graph.initializer[0].dims.__setitem__(0, -3),
        "none of its sizes may be negative",
    ),
    "an unknown type": (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "is of type 99"),
    "no graph": (lambda m: m.ClearField("graph"), "holds no graph"),
}


@pytest.mark.parametrize(("change", "reason"), ONNX.values(), ids=ONNX)
def test_onnx_files_that_lie(tmp_path, change, reason):
    with pytest.raises(ArtefactError, match=rf"m\.onnx is no usable \.onnx file: .*{reason}"):
        check_model(bent_onnx(tmp_path, change))


@pytest.mark.parametrize("change", [texts, sparse, lambda m: sparse(m, as_attribute=True), a_list])
def test_onnx_files_that_are_unusual_and_sound(tmp_path, change):
    check_model(bent_onnx(tmp_path, change))


def test_an_onnx_file_of_too_many_tensors(tmp_path, monkeypatch):
    path = bent_onnx(tmp_path, lambda model: [texts(model) for _ in range(3)])
    monkeypatch.setattr(onnx_checks, "_MAX_TENSORS", 3)
    with pytest.raises(ArtefactError, match="it holds more than 3 tensors"):
        check_model(path)


def test_inner_graphs_are_looked_into(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto.FromString((CORPUS / "onnx" / "outside.onnx").read_bytes())
    branch = next(node for node in model.graph.node if node.op_type == "If").attribute[0].g
    branch.initializer.add().CopyFrom(model.graph.initializer[0])
    branch.initializer[0].external_data[0].value = "/etc/passwd"
    del model.graph.initializer[:]
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="'/etc/passwd'"):
        check_model(tmp_path / "m.onnx")


def test_pipes_are_no_models(tmp_path):
    for name in ("a.tflite", "a.onnx"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ArtefactError):
            open_runner(tmp_path / name)
