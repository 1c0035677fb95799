"""Write the small sound models that mutation starts from: ``python tests/fuzz/seeds.py`` renews tests/fuzz/corpus.

Each reader has a folder. A package is one file here: its three files behind each other, as
:func:`packed_package` lays them.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).with_name("corpus")
PARTS = ("Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin")


def packed_package(folder: Path) -> bytes:
    """The files of a package as one: each behind its length."""
    contents = [(folder / part).read_bytes() for part in PARTS]
    return b"".join(struct.pack("<I", len(content)) + content for content in contents)


def unpack_package(content: bytes, folder: Path) -> Path:
    """Lay a package down; whatever the lengths say, something is written."""
    package = folder / "mutated.mlpackage"
    for part in PARTS:
        size = struct.unpack("<I", content[:4])[0] if len(content) >= 4 else 0
        file = package / part
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content[4 : 4 + size])
        content = content[4 + size :]
    return package


def tflite() -> dict[str, bytes]:
    """One operator, a loop, and an operator with a large window."""
    import tiny_models as tiny

    found = {}
    for name, bend in (("mean", lambda _: None), ("loop", tiny.endless), ("window", tiny.wild_radius)):
        with tempfile.TemporaryDirectory() as folder:
            found[f"{name}.tflite"] = tiny.write_tflite(Path(folder) / "a.tflite", bend).read_bytes()
    return found


def onnx() -> dict[str, bytes]:
    """A classifier with weights inside, and one with an inner graph and weights in another file."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    picture = helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 8, 8, 3))
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))
    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"], axis=-1),
    ]
    opset = [helper.make_opsetid("", 17)]

    def model(nodes: list, weights: TensorProto) -> bytes:
        graph = helper.make_graph(nodes, "g", [picture], [scores], [weights])
        made = helper.make_model(graph, opset_imports=opset, ir_version=8)
        helper.set_model_props(made, {"labels": '["red", "green", "blue"]'})
        return bytes(made.SerializeToString())

    outside = TensorProto()
    outside.CopyFrom(weights)
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "36")):
        entry = outside.external_data.add()
        entry.key, entry.value = key, value
    passed = helper.make_graph(
        [helper.make_node("Identity", ["l"], ["o"])],
        "inner",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, (1, 3))],
    )
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    branch = helper.make_node("If", ["c"], ["b"], then_branch=passed, else_branch=passed)
    inner = [*nodes[:3], condition, branch, helper.make_node("Softmax", ["b"], ["y"], axis=-1)]
    return {"inside.onnx": model(nodes, weights), "outside.onnx": model(inner, outside)}


def packages() -> dict[str, bytes]:
    """A classifier in float16."""
    import torch

    from evit_converters.coreml import DeploymentTarget, Interface, export, save
    from evit_converters.coreml.modes import ComputePrecision

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 4, 3, 2, 1)
            self.head = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.stem(x)).mean((2, 3)))

    torch.manual_seed(0)
    side, mean, std = 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    interface = Interface(image_size=side, mean=mean, std=std, labels=("a", "b", "c"), name="net", author="nobody")
    made = export(Net().eval(), interface, precision=ComputePrecision.FLOAT16, target=DeploymentTarget.IOS16)
    with tempfile.TemporaryDirectory() as folder:
        save(made, Path(folder) / "a.mlpackage")
        return {"float16.package": packed_package(Path(folder) / "a.mlpackage")}


def checkpoints() -> dict[str, bytes]:
    """Tables of tensors: safetensors with this project's metadata, both kinds of pickle; and another pickle."""
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    state = {
        "head.linear.weight": torch.randn(3, 4),
        "stages.0.blocks.0.dw0.m.conv.weight": torch.randn(2, 1, 3, 3),
    }
    metadata = {"format": "evit-edge/1", "model": "efficientvit_m0", "num_classes": "3", "image_size": "128"}
    metadata |= {"preprocessing": "{}", "labels": "null", "aliases": "{}", "name": "n"}
    found = {"table.safetensors": save(state, metadata)}
    for name, options in (("zip.pth", {}), ("old.pth", {"_use_new_zipfile_serialization": False})):
        stream = io.BytesIO()
        torch.save({"model": state}, stream, **options)
        found[name] = stream.getvalue()
    found["plain.pth"] = pickle.dumps({"model": [1.0, 2.0]}, protocol=2)
    return found


READERS = {"tflite": tflite, "onnx": onnx, "package": packages, "checkpoint": checkpoints}


def main() -> None:
    """Write them all."""
    sys.path[:0] = [str(ROOT / part) for part in ("", "converters", "calibration", "app", "tests/support")]
    for reader, make in READERS.items():
        folder = CORPUS / reader
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in make().items():
            (folder / name).write_bytes(content)
            print(f"{folder.name}/{name}: {len(content)} bytes")


if __name__ == "__main__":
    main()
