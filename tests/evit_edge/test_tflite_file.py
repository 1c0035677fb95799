import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_edge.errors import ArtefactError
from evit_edge.preprocessing import Preprocessing
from evit_edge.runtime import OutputKind, open_runner
from evit_edge.runtime.tflite_file import DESCRIPTION_NAME, read_tflite_file

flatbuffers = pytest.importorskip("flatbuffers")


def table(builder, *slots):
    """Write a table; each slot is (field number, "offset" | "byte", value)."""
    builder.StartObject(8)
    for number, kind, value in slots:
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
        else:
            builder.PrependInt8Slot(number, value, 0)
    return builder.EndObject()


def vector(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def metadata(mean, std, labels_name):
    """A ModelMetadata buffer (metadata_schema.fbs) with normalisation of the input and labels of the output."""
    b = flatbuffers.Builder(256)
    numbers = [b.CreateNumpyVector(np.array(values, np.float32)) for values in (mean, std)]
    options = table(b, (0, "offset", numbers[0]), (1, "offset", numbers[1]))
    unit = table(b, (0, "byte", 1), (1, "offset", options))
    image = table(b, (4, "offset", vector(b, [unit])))
    name = b.CreateString(labels_name)
    labels = table(b, (0, "offset", name), (2, "byte", 2))
    scores = table(b, (6, "offset", vector(b, [labels])))
    subgraph = table(b, (2, "offset", vector(b, [image])), (3, "offset", vector(b, [scores])))
    b.Finish(table(b, (3, "offset", vector(b, [subgraph]))), b"M001")
    return bytes(b.Output())


def with_metadata(model: bytes, content: bytes, members: dict[str, str]) -> bytes:
    """Put a metadata buffer into a model and append an archive."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    net = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    entry.name, entry.buffer = "TFLITE_METADATA", len(net.buffers)
    net.buffers.append(buffer)
    net.metadata = [*(net.metadata or []), entry]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(net.Pack(builder), b"TFL3")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return bytes(builder.Output()) + archive.getvalue()


@pytest.fixture
def described(colour_models, tmp_path):
    """Function: a float model with metadata; its archive holds two text files, so that metadata must name one."""

    def write(mean=(0.0,), std=(255.0,), named="classes.txt", **members):
        content = colour_models["float32-nchw-logits"].read_bytes()
        files = {"classes.txt": "rot\ngrün\nblau\n", "notes.txt": "nothing\n", **members}
        path = tmp_path / "described.tflite"
        path.write_bytes(with_metadata(content, metadata(mean, std, named), files))
        return path

    return write


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        pytest.param((0.0,), (255.0,), id="one value"),
        pytest.param((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), id="per channel"),
    ],
)
def test_metadata_normalises_the_input_and_names_the_classes(described, mean, std):
    runner = open_runner(described(mean, std))
    assert runner.info.labels == ("rot", "grün", "blau")
    grey = np.full((1, 32, 32, 3), 200, dtype=np.uint8)
    expected = 10 * (200 - np.broadcast_to(mean, 3)) / np.broadcast_to(std, 3)
    np.testing.assert_allclose(runner.run(grey)[0], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"named": "lost.txt"}, "lost.txt", id="labels missing"),
        pytest.param({"std": (0.0,)}, "divided by 0", id="std 0"),
        pytest.param({"mean": (1.0, 2.0)}, "2 values", id="two channels"),
        pytest.param({DESCRIPTION_NAME: "{"}, DESCRIPTION_NAME, id="no JSON"),
        pytest.param({DESCRIPTION_NAME: '{"output_kind": "votes"}'}, "votes", id="unknown output kind"),
        pytest.param({DESCRIPTION_NAME: '{"preprocessing": {"image_size": 0}}'}, DESCRIPTION_NAME, id="no rule"),
    ],
)
def test_contradictions_are_refused(described, changes, reason):
    path = described(**changes)
    with pytest.raises(ArtefactError) as caught:
        read_tflite_file(path)
    assert reason in str(caught.value)
    assert path.name in str(caught.value)


def test_the_projects_own_description(described):
    rule = Preprocessing(image_size=32, crop_fraction=0.5)
    fields = {"preprocessing": rule.to_json(), "aliases": {"a": "rot"}, "output_kind": "probabilities"}
    file = read_tflite_file(described(**{DESCRIPTION_NAME: json.dumps(fields)}))
    assert (file.preprocessing, file.aliases) == (rule, {"a": "rot"})
    assert file.output_kind is OutputKind.PROBABILITIES


def test_a_cut_archive_is_told(described):
    path = described()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ArtefactError, match="its end is missing"):
        read_tflite_file(path)


@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_is_told_or_harmless(colour_models, tmp_path_factory, changes):
    content = bytearray(colour_models["float32-nchw-logits"].read_bytes())
    for place, value in changes:
        content[int(place * len(content))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.tflite"
    path.write_bytes(content)
    try:
        file = read_tflite_file(path)
    except ArtefactError as exc:
        assert path.name in str(exc)  # noqa: PT017 - either outcome is right, silence is not
    else:
        assert file.output_kind in OutputKind
