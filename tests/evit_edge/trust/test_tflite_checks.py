"""What makes a .tflite dangerous is found in the file, before an interpreter gets it."""

import io
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from ai_edge_litert import schema_py_generated as schema

from evit_edge.errors import ArtefactError
from evit_edge.runtime.checks import Limits, check_model, flatbuffer
from evit_edge.runtime.checks.tflite import check_tflite, tflite_schema

ROOT = Path(__file__).resolve().parents[3]
LIMITS = Limits()


def bent(change) -> bytes:
    model = tiny.mean_model()
    change(model)
    return tiny.packed(model)


@pytest.mark.shared
def test_a_third_partys_model_passes(shared):
    check_model(shared / "models" / "mobilenet_v2_1.0_224_quant.tflite")


def test_the_schema_is_the_engines():
    """The tables that the check knows are those of the installed engine: a newer one must not go by unseen."""
    script = ROOT / "scripts" / "tflite_schema.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    kept = Path(flatbuffer.__file__).with_name("tflite_schema.txt").read_text(encoding="utf-8")
    assert made.stdout == kept


def graph(model):
    return model.subgraphs[0]


def tensor(model, number):
    return model.subgraphs[0].tensors[number]


def assign(target, **values):
    for name, value in values.items():
        assert hasattr(target, name)
        setattr(target, name, value)


def scales(count, points, axis):
    def change(model):
        q = tensor(model, 0).quantization
        q.scale, q.zeroPoint, q.quantizedDimension = [0.5] * count, [0] * points, axis

    return change


def two_levels(model):
    tiny.endless(model)
    assign(model.subgraphs[1].tensors[1], buffer=7)


def behind(offset, size):
    """The constant lies behind the FlatBuffer, at least by what the file says."""
    return lambda model: assign(model.buffers[1], data=None, offset=offset, size=size)


def by_blocks(scales_at, points_at, kind=schema.QuantizationDetails.BlockwiseQuantization):
    def change(model):
        details = schema.BlockwiseQuantizationT()
        details.scales, details.zeroPoints, details.blockSize = scales_at, points_at, 32
        assign(tensor(model, 0).quantization, details=details, detailsType=kind)

    return change


def signature(tensor_number, graph_number=0):
    def change(model):
        entry, pair = schema.SignatureDefT(), schema.TensorMapT()
        pair.name, pair.tensorIndex = "image", tensor_number
        entry.inputs, entry.outputs, entry.signatureKey, entry.subgraphIndex = [pair], [], "main", graph_number
        model.signatureDefs = [entry]

    return change


def metadata(buffer):
    def change(model):
        entry = schema.MetadataT()
        entry.name, entry.buffer = "min_runtime_version", buffer
        model.metadata = [entry]

    return change


def weights_elsewhere(model):
    group = schema.ExternalBufferGroupT()
    group.name = "weights.bin"
    model.externalBufferGroups = [group]


MEANINGLESS = {
    "weights in other files": (weights_elsewhere, "its weights are in other files"),
    "a buffer behind the end": (
        behind(200, 10**6),
        r"buffer 1 has 1000000 bytes from 200 on; the file ends at \d+",
    ),
    "a buffer behind, of another size": (behind(8, 12), "takes 8 bytes and its data has 12"),
    "block scales of no tensor": (by_blocks(9, 1), "names tensor 9; there are 3"),
    "block zero points of no tensor": (by_blocks(1, 9), "names tensor 9; there are 3"),
    "options behind the end": (
        lambda m: assign(graph(m).operators[0], largeCustomOptionsOffset=100, largeCustomOptionsSize=10**6),
        "operator 0 has options behind the file's end",
    ),
    "a signature of no graph": (signature(0, 3), "a signature names graph 3; there are 1"),
    "a signature of no tensor": (signature(3), "a signature names tensor 3; there are 3"),
    "metadata of no buffer": (metadata(2), "its metadata names buffer 2; there are 2"),
    "an input that is a constant": (tiny.constant_input, "writes to tensor 0, which is a constant"),
    "a result that is a constant": (lambda m: assign(graph(m).operators[0], outputs=[1]), "writes to tensor 1"),
    "no graph": (lambda m: assign(m, subgraphs=[]), "holds no graph"),
    "no such tensor read": (
        lambda m: assign(graph(m).operators[0], inputs=[0, 77]),
        "names tensor 77; there are 3",
    ),
    "a negative tensor read": (lambda m: assign(graph(m).operators[0], inputs=[0, -7]), "names tensor -7"),
    "no such tensor written": (lambda m: assign(graph(m).operators[0], outputs=[3]), "names tensor 3"),
    "a negative tensor written": (lambda m: assign(graph(m).operators[0], outputs=[-1]), "names tensor -1"),
    "no such intermediate": (lambda m: assign(graph(m).operators[0], intermediates=[9]), "names tensor 9"),
    "no such operator code": (
        lambda m: assign(graph(m).operators[0], opcodeIndex=4),
        "operator code 4; there are 1",
    ),
    "no such buffer": (lambda m: assign(tensor(m, 1), buffer=9), "names buffer 9; there are 2"),
    "no such input": (lambda m: assign(graph(m), inputs=[8]), "an input or output is tensor 8"),
    "no such output": (lambda m: assign(graph(m), outputs=[-3]), "an input or output is tensor -3"),
    "no such metadata": (lambda m: assign(m, metadataBuffer=[5]), "its metadata names buffer 5"),
    "an output that nothing makes": (lambda m: assign(graph(m), operators=[]), "reads tensor 2, which nothing"),
    "read before it is made": (lambda m: assign(graph(m).operators[0], inputs=[0, 2]), "reads tensor 2"),
    "data shorter than its shape": (
        lambda m: assign(tensor(m, 1), shape=[3]),
        "takes 12 bytes and its data has 8",
    ),
    "data longer than its shape": (lambda m: assign(tensor(m, 1), shape=[1]), "takes 4 bytes and its data has 8"),
    "a negative size": (lambda m: assign(tensor(m, 0), shape=[1, -32, 32, 3]), "none negative"),
    "nine sizes": (lambda m: assign(tensor(m, 0), shape=[1] * 9), "up to 8 sizes"),
    "an unknown type": (lambda m: assign(tensor(m, 0), type=77), "is of type 77"),
    "fewer scales than channels": (scales(2, 2, 3), "has 2 scales along axis 3"),
    "scales of no axis": (scales(3, 3, 4), "has 3 scales along axis 4"),
    "scales without zero points": (scales(3, 2, 3), "has 3 scales and 2 zero points"),
    "declared values of 100 GiB": (tiny.declares_100_gib, "declares 100.0 GiB .* the limit is 4.0 GiB"),
    "a graph that calls itself": (tiny.calls_itself, "graph 0 calls itself"),
    "no such graph called": (
        lambda m: (tiny.endless(m), assign(graph(m).operators[0].builtinOptions, condSubgraphIndex=8)),
        "calls graph 8; there are 3",
    ),
    "no such buffer in an inner graph": (two_levels, "graph 1: tensor 1 .* names buffer 7"),
}


@pytest.mark.parametrize(("change", "reason"), MEANINGLESS.values(), ids=MEANINGLESS)
def test_numbers_that_mean_nothing_are_refused(change, reason):
    with pytest.raises(ArtefactError, match=reason):
        check_tflite(bent(change), LIMITS)


def texts(model):
    """Texts have no size of their own: what is stored counts."""
    assign(tensor(model, 1), type=schema.TensorType.STRING)


SOUND = {
    "a loop": tiny.endless,
    "a buffer behind the FlatBuffer": behind(8, 8),
    "scales by blocks": by_blocks(1, 1),
    "scales by blocks without zero points": by_blocks(1, -1),
    "details of another kind": by_blocks(9, 9, schema.QuantizationDetails.NONE),
    "options behind the FlatBuffer": lambda m: assign(
        graph(m).operators[0], largeCustomOptionsOffset=8, largeCustomOptionsSize=8
    ),
    "a signature": signature(2),
    "metadata": metadata(1),
    "texts": texts,
}


@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND)
def test_what_is_unusual_and_sound_passes(change):
    check_tflite(bent(change), LIMITS)


@pytest.mark.parametrize("content", [b"", bytes(7)])
def test_less_than_eight_bytes_are_no_flatbuffer(content):
    with pytest.raises(ArtefactError, match=f"^{len(content)} bytes are no flatbuffer"):
        flatbuffer.verify(content, tflite_schema(), "Model")


def test_tables_beyond_number_are_given_up(monkeypatch):
    monkeypatch.setattr(flatbuffer, "MAX_TABLES", 5)
    with pytest.raises(ArtefactError, match="it unfolds to more than 5 tables"):
        check_tflite(bent(lambda _: None), LIMITS)


def test_empty_constants_are_fine():
    def empty(model):
        graph(model).tensors.append(tiny.tensor("none", (0,), tiny.schema.TensorType.INT32))
        graph(model).operators[0].inputs = [0, 1]
        graph(model).operators.append(tiny.operator(0, [0, 3], [2]))

    check_tflite(bent(empty), LIMITS)


def test_memory_is_what_lives_at_once():
    """A chain of values counts two at a time: the one that is read and the one that is written."""

    def chain(model):
        one = model.subgraphs[0]
        wide = (1, 1024, 1024, 64)  # 64 MiB
        one.tensors += [tiny.tensor(f"{i}", wide, tiny.schema.TensorType.UINT8) for i in range(20)]
        one.operators = [tiny.operator(0, [i - 1 if i > 3 else 0, 1], [i]) for i in range(3, 23)]
        one.operators.append(tiny.operator(0, [22, 1], [2]))

    check_tflite(bent(chain), Limits(memory_bytes=2**28))

    def all_at_the_end(model):
        chain(model)
        model.subgraphs[0].operators[-1].inputs = list(range(3, 23))

    with pytest.raises(ArtefactError, match=r"declares 1\.\d GiB"):
        check_tflite(bent(all_at_the_end), Limits(memory_bytes=2**28))


SOUND = tiny.packed(tiny.mean_model())


def with_word(place: int, value: int) -> bytes:
    return SOUND[:place] + struct.pack("<I", value) + SOUND[place + 4 :]


@pytest.mark.parametrize("value", [0, 1, 6, 2**31, 2**32 - 1, len(SOUND), len(SOUND) - 2])
def test_a_root_that_leads_nowhere(value):
    with pytest.raises(ArtefactError):
        check_tflite(with_word(0, value), LIMITS)


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"\x08\0\0\0TFL3", b"\x08\0\0\0TFL2" + bytes(60), bytes(5000)], ids=len
)
def test_what_is_hardly_a_file(content):
    with pytest.raises(ArtefactError):
        check_tflite(content, LIMITS)


@pytest.mark.parametrize("size", range(0, len(SOUND), 16))
def test_every_shorter_file_is_refused(size):
    with pytest.raises(ArtefactError):
        check_tflite(SOUND[:size], LIMITS)


def test_every_word_set_to_extremes_is_refused_or_still_sound():
    """No exception but the one, whatever a word becomes."""
    outcomes = set()
    for place in range(0, len(SOUND) - 4, 4):
        for value in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(SOUND)):
            try:
                check_tflite(with_word(place, value), LIMITS)
                outcomes.add("sound")
            except ArtefactError as exc:
                outcomes.add(re.sub(r"\d+|'.*?'", "N", str(exc))[:30])
    assert "sound" in outcomes
    assert len(outcomes) > 15


def offsets(builder, start, entries):
    start(builder, len(entries))
    for entry in entries:
        builder.PrependUOffsetTRelative(entry)
    return builder.EndVector()


def unfolding(tensors: int, graphs: int) -> bytes:
    """A vector of graphs that all are the same graph, with a vector of tensors that all are the same tensor."""
    schema = tiny.schema
    builder = tiny.flatbuffers.Builder(1024)
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    shared = offsets(builder, schema.SubGraphStartTensorsVector, [tensor] * tensors)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, shared)
    one = schema.SubGraphEnd(builder)
    many = offsets(builder, schema.ModelStartSubgraphsVector, [one] * graphs)
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, many)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_file_that_unfolds_without_end_is_given_up():
    small = unfolding(tensors=3000, graphs=3000)
    assert len(small) < 25_000
    with pytest.raises(ArtefactError, match="unfolds to more than 200,000 tables"):
        check_tflite(small, LIMITS)


def test_strings_end_with_a_zero():
    at = SOUND.index(b"scores") + len(b"scores")
    with pytest.raises(ArtefactError, match="does not end with a zero byte"):
        check_tflite(SOUND[:at] + b"!" + SOUND[at + 1 :], LIMITS)


def with_archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return SOUND + stream.getvalue()


def test_an_archive_that_unpacks_to_gigabytes_is_refused():
    check_tflite(with_archive({"labels.txt": b"a\nb\nc"}), LIMITS)
    with pytest.raises(ArtefactError, match=r"the archive at its end unpacks to 80\.0 MiB; at most 64\.0 MiB"):
        check_tflite(with_archive({"labels.txt": bytes(80 * 2**20)}), LIMITS)


def test_an_archive_of_too_many_members_is_refused():
    with pytest.raises(ArtefactError, match="10001 members"):
        check_tflite(with_archive({f"{i}": b"" for i in range(10_001)}), LIMITS)


def test_a_damaged_archive_is_refused():
    content = with_archive({"labels.txt": b"a\nb\nc"})
    start = content.index(b"PK\x01\x02")
    with pytest.raises(ArtefactError, match="the archive at its end is damaged"):
        check_tflite(content[:start] + b"XX" + content[start + 2 :], LIMITS)


RUN = """
import sys
import numpy as np
from pathlib import Path
from evit_edge.runtime.engines import open_interpreter
_, interpreter = open_interpreter(Path(sys.argv[1]), 1)
entrance = interpreter.get_input_details()[0]
interpreter.set_tensor(entrance["index"], np.ones(entrance["shape"], entrance["dtype"]))
interpreter.invoke()
"""


def test_what_is_refused_would_have_killed_the_interpreter(tmp_path):
    path = tiny.write_tflite(tmp_path / "constant.tflite", tiny.constant_input)
    died = subprocess.run([sys.executable, "-c", RUN, path], capture_output=True, check=False).returncode
    with pytest.raises(ArtefactError, match=r"constant\.tflite is no usable \.tflite file: the graph writes to"):
        check_model(path)
    if died >= 0:
        pytest.skip("the installed interpreter defends itself")
    assert died == -11


def test_the_schema_reads_as_written():
    schema = tflite_schema()
    assert schema.tables["Tensor"][:4] == ("[4]", "1", "4", "string")
    assert schema.unions["BuiltinOptions"][1] == "Conv2DOptions"
    assert not np.any([name.startswith("=") for name in schema.tables])
