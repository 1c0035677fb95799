"""Weight encodings: ours against coremltools' own decompression, bit by bit, and against loops in numpy."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from coreml_fuzz import OPSETS

from evit_converters.coreml.library import coremltools, internal
from evit_converters.quiet import quiet
from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml import Encoding, Evaluator, Precision, decoded_weights, read_package
from evit_edge.runtime.coreml.elements import Element, decode
from evit_edge.runtime.coreml.encodings import decode_constexpr
from evit_edge.runtime.coreml.program import Literal, NamedType, Operation, OtherType, TensorType

SEED = 31
BITS = {1: "uint1", 2: "uint2", 3: "uint3", 4: "uint4", 6: "uint6", 8: "uint8"}


@dataclass(frozen=True)
class Written:
    """A constant as coremltools writes it.

    Attributes:
        variable: Of coremltools.
        expected: float64, by loops; None where coremltools' own decompression is all there is.
    """

    variable: object
    expected: np.ndarray | None


class Writer:
    """Random constants in every encoding that an operation set has."""

    def __init__(self, mb, types, rng, dtype):
        self.mb, self.types, self.rng, self.dtype = mb, types, rng, dtype

    def shape(self, rank=None, low=1, high=6):
        return tuple(self.rng.integers(low, high + 1, rank or int(self.rng.integers(1, 5))).tolist())

    def real(self, shape):
        return self.rng.normal(size=shape).astype(self.dtype)

    def affine(self):
        shape = self.shape()
        axis = int(self.rng.integers(len(shape)))
        kind = self.rng.choice([np.int8, np.uint8])
        data = self.rng.integers(*((-128, 128) if kind == np.int8 else (0, 256)), shape).astype(kind)
        size = (shape[axis],) if self.rng.integers(2) else ()
        scale = np.abs(self.real(size)).astype(self.dtype)
        zero = self.rng.integers(0, 20, size).astype(kind)
        variable = self.mb.constexpr_affine_dequantize(
            quantized_data=data, zero_point=zero, scale=scale, axis=axis
        )
        expected = np.empty(shape)
        for place in np.ndindex(*shape):
            s, z = (v[place[axis]] if size else v for v in (scale, zero))
            expected[place] = float(s) * (int(data[place]) - int(z))
        return Written(variable, expected)

    def old_palette(self):
        bits = int(self.rng.choice([1, 2, 4, 6, 8]))
        shape = self.shape()
        table, indices = self.real(2**bits), self.rng.integers(0, 2**bits, shape)
        variable = self.mb.constexpr_lut_to_dense(
            lut=table, indices=_packed(indices, bits), shape=np.array(shape, np.uint32)
        )
        return Written(variable, table[indices].astype(np.float64))

    def old_sparse(self):
        shape = self.shape()
        mask = self.rng.integers(0, 2, shape)
        mask.flat[0] = 1
        kept = self.real(int(mask.sum()))
        variable = self.mb.constexpr_sparse_to_dense(
            nonzero_data=kept, mask=_packed(mask, 1), shape=np.array(shape, np.uint32)
        )
        return Written(variable, _filled(mask, kept))

    def cast(self):
        values = self.rng.normal(size=self.shape()).astype(np.float16)
        return Written(self.mb.constexpr_cast(source_val=values, output_dtype="fp32"), values.astype(np.float64))

    def blockwise(self, data=None):
        blocks = self.shape()
        shape = tuple(n * int(self.rng.integers(1, 4)) for n in blocks)
        kind = self.rng.choice(["int4", "uint4", "int8", "uint8"])
        low, high = {"int4": (-8, 8), "uint4": (0, 16), "int8": (-128, 128), "uint8": (0, 256)}[kind]
        data = self.rng.integers(low, high, shape)
        scale = np.abs(self.real(blocks))
        offset = self.rng.integers(low, high, blocks) if self.rng.integers(2) else None
        more = {} if offset is None else {"offset": self.whole(offset, kind)}
        variable = self.mb.constexpr_blockwise_shift_scale(data=self.whole(data, kind), scale=scale, **more)
        expected = np.empty(shape)
        for place in np.ndindex(*shape):
            block = tuple(p * b // n for p, b, n in zip(place, blocks, shape, strict=True))
            expected[place] = float(scale[block]) * (data[place] - (0 if offset is None else offset[block]))
        return Written(variable, expected)

    def whole(self, values, kind):
        return values.astype(self.types.nptype_from_builtin(self.types.string_to_builtin(kind)))

    def new_palette(self):
        bits = int(self.rng.choice(list(BITS)))
        groups = self.shape(int(self.rng.integers(1, 4)), 1, 3)
        shape = tuple(n * int(self.rng.integers(1, 4)) for n in groups)
        size = int(self.rng.choice([1, 1, 2, 3]))
        axis = int(self.rng.integers(len(shape)))
        table = self.real((*groups, 2**bits, size))
        indices = self.rng.integers(0, 2**bits, shape)
        more = {"vector_axis": axis} if size > 1 else {}
        variable = self.mb.constexpr_lut_to_dense(indices=self.whole(indices, BITS[bits]), lut=table, **more)
        return Written(variable, _looked_up(indices, table, groups, axis))

    def new_sparse(self):
        mask = self.rng.integers(0, 2, self.shape())
        mask.flat[0] = 1
        kept = self.real(int(mask.sum()))
        variable = self.mb.constexpr_sparse_to_dense(nonzero_data=kept, mask=self.whole(mask, "uint1"))
        return Written(variable, _filled(mask, kept))

    def sparse_palette(self):
        bits, groups = 2, self.shape(2, 1, 2)
        shape = tuple(n * int(self.rng.integers(1, 4)) for n in groups)
        mask = self.rng.integers(0, 2, shape)
        mask.flat[0] = 1
        size, axis = int(self.rng.choice([1, 2])), int(self.rng.integers(2))
        table, indices = self.real((*groups, 2**bits, size)), self.rng.integers(0, 2**bits, shape)
        more = {"vector_axis": axis} if size > 1 else {}
        wide, kept = self.mb.constexpr_lut_to_sparse(
            indices_mask=self.whole(mask, "uint1"),
            indices_nonzero_data=self.whole(indices[mask != 0], BITS[bits]),
            lut=table,
            **more,
        )
        variable = self.mb.constexpr_sparse_to_dense(nonzero_data=kept, mask=wide)
        return Written(variable, _looked_up(indices, table, groups, axis) * np.repeat(mask, size, axis))

    def sparse_blockwise(self):
        blocks = self.shape(2, 1, 3)
        shape = tuple(n * int(self.rng.integers(1, 4)) for n in blocks)
        mask, data = self.rng.integers(0, 2, shape), self.rng.integers(-128, 128, shape)
        mask.flat[0] = 1
        scale = np.abs(self.real(blocks))
        same, kept = self.mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=self.whole(mask, "uint1"), nonzero_data=data[mask != 0].astype(np.int8), scale=scale
        )
        variable = self.mb.constexpr_sparse_to_dense(nonzero_data=kept, mask=same)
        wide = np.kron(scale.astype(np.float64), np.ones(np.array(shape) // np.array(blocks)))
        return Written(variable, mask * data * wide)

    def palette_of_steps(self):
        """A table of whole numbers, then a scale: what joint compression writes."""
        table, indices = (
            self.rng.integers(-128, 128, (1, 1, 8, 1)).astype(np.int8),
            self.rng.integers(0, 8, (4, 6)),
        )
        steps = self.mb.constexpr_lut_to_dense(indices=self.whole(indices, "uint3"), lut=table)
        scale = np.abs(self.real((4, 1)))
        variable = self.mb.constexpr_blockwise_shift_scale(data=steps, scale=scale)
        return Written(variable, table.reshape(-1)[indices] * scale.astype(np.float64))


OLD = {"affine": Writer.affine, "palette": Writer.old_palette, "sparse": Writer.old_sparse}
NEW = {
    "affine": Writer.affine,
    "blockwise": Writer.blockwise,
    "palette": Writer.new_palette,
    "sparse": Writer.new_sparse,
    "sparse palette": Writer.sparse_palette,
    "sparse blockwise": Writer.sparse_blockwise,
    "palette of steps": Writer.palette_of_steps,
}


def _packed(values, bits):
    """Bytes filled from the lowest bit on, one value after the other."""
    ones = [(int(v) >> b) & 1 for v in values.reshape(-1) for b in range(bits)]
    ones += [0] * (-len(ones) % 8)
    return np.array(
        [sum(one << b for b, one in enumerate(ones[i : i + 8])) for i in range(0, len(ones), 8)], np.uint8
    )


def _filled(mask, kept):
    values = iter(kept)
    return np.array([float(next(values)) if bit else 0.0 for bit in mask.reshape(-1)]).reshape(mask.shape)


def _looked_up(indices, table, groups, axis):
    size = table.shape[-1]
    shape = [n * size if i == axis else n for i, n in enumerate(indices.shape)]
    expected = np.empty(shape)
    for place in np.ndindex(*indices.shape):
        group = tuple(p * g // n for p, g, n in zip(place, groups, indices.shape, strict=True))
        for lane in range(size):
            target = [p * size + lane if i == axis else p for i, p in enumerate(place)]
            expected[tuple(target)] = table[(*group, indices[place], lane)]
    return expected


def _write(opset, dtype, path, count):
    """A program that adds zero to each constant; the constants by name, with coremltools' own values."""
    ct, types = coremltools(), internal("converters.mil.mil.types")
    mil, mb = internal("converters.mil.mil"), internal("converters.mil").Builder
    rng = np.random.default_rng([SEED, int(opset[3:]), np.dtype(dtype).itemsize])
    encodings = OLD if opset in ("iOS16", "iOS17") else NEW
    if dtype == np.float32:
        encodings = encodings | {"cast": Writer.cast}
    with mil.Function({"x": mb.placeholder((1,))}, opset_version=ct.target[opset]) as function:
        writer, written, outputs = Writer(mb, types, rng, dtype), {}, []
        x = mb.cast(x=function.inputs["x"], dtype="fp16" if dtype == np.float16 else "fp32")
        for name, write in encodings.items():
            for i in range(count):
                one = write(writer)
                own = one.variable.op.materialized_val_inference()
                written[one.variable.name] = name, one.expected, own
                outputs.append(
                    mb.cast(x=mb.add(x=one.variable, y=x), dtype="fp32", name=f"out_{len(outputs)}_{i}")
                )
        function.set_outputs(outputs)
    program = mil.Program()
    program.add_function("main", function)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        pass_pipeline=ct.PassPipeline.EMPTY,
        minimum_deployment_target=ct.target[opset],
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(path))
    return written


@pytest.mark.parametrize("dtype", [np.float16, np.float32], ids=["float16", "float32"])
@pytest.mark.parametrize("opset", OPSETS[1:])
def test_every_encoding_bit_by_bit(opset, dtype, tmp_path):
    with quiet():
        written = _write(opset, dtype, tmp_path / "weights.mlpackage", count=12)
    package = read_package(tmp_path / "weights.mlpackage")

    decoded = {weight.name: weight for weight in decoded_weights(package)}

    assert decoded.keys() == written.keys()
    for name, (encoding, expected, own) in written.items():
        weight = decoded[name]
        assert np.array_equal(weight.value, expected), (encoding, name)
        assert np.array_equal(weight.value.astype(dtype), own), (encoding, name)
        assert np.broadcast_shapes(weight.half_step.shape, weight.value.shape) == weight.value.shape


def test_the_evaluator_computes_with_the_rounded_weight(tmp_path):
    with quiet():
        written = _write("iOS18", np.float16, tmp_path / "weights.mlpackage", count=2)
    package = read_package(tmp_path / "weights.mlpackage")

    outputs = Evaluator(package, Precision.DECLARED).run_tensors({"x": torch.zeros(1)})

    for output, (_, expected, _) in zip(outputs.values(), written.values(), strict=True):
        assert np.array_equal(output.numpy(), expected.astype(np.float16).astype(np.float32))


class _Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 16, 3)
        self.linear = torch.nn.Linear(16, 12)

    def forward(self, x):
        return self.linear(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(SEED)
    return _Net().eval()


def _compressed(net, opset, how, path):
    """Written with coremltools' own optimizer; and what its own decompression makes of that."""
    ct, optimize = coremltools(), internal("optimize.coreml")
    with quiet(), torch.no_grad():
        exported = torch.export.export(net, (torch.zeros(1, 3, 9, 9),)).run_decompositions({})
        model = ct.convert(
            exported,
            inputs=[ct.TensorType(name="x", shape=(1, 3, 9, 9))],
            convert_to="mlprogram",
            minimum_deployment_target=ct.target[opset],
            skip_model_load=True,
        )
        small = how(optimize, model)
        small.save(str(path))
        plain = optimize.decompress_weights(small)
        plain.save(str(path.with_name("plain.mlpackage")))
    return read_package(path), read_package(path.with_name("plain.mlpackage"))


def _config(optimize, kind, **fields):
    return optimize.OptimizationConfig(global_config=getattr(optimize, kind)(weight_threshold=0, **fields))


def _linear(**fields):
    return lambda o, m: o.linear_quantize_weights(m, _config(o, "OpLinearQuantizerConfig", **fields))


def _palettes(**fields):
    return lambda o, m: o.palettize_weights(m, _config(o, "OpPalettizerConfig", **fields))


def _pruned(o, m):
    return o.prune_weights(m, _config(o, "OpMagnitudePrunerConfig", target_sparsity=0.6))


def _pruned_int8(o, m):
    return o.linear_quantize_weights(_pruned(o, m), _config(o, "OpLinearQuantizerConfig"), joint_compression=True)


WAYS = {
    "int8 iOS16": ("iOS16", _linear(), Encoding.AFFINE),
    "uint8 zero point iOS16": ("iOS16", _linear(mode="linear", dtype="uint8"), Encoding.AFFINE),
    "int8 per tensor iOS17": ("iOS17", _linear(granularity="per_tensor"), Encoding.AFFINE),
    "palette8 iOS16": ("iOS16", _palettes(mode="uniform", nbits=8), Encoding.PALETTE),
    "palette4 iOS17": ("iOS17", _palettes(mode="uniform", nbits=4), Encoding.PALETTE),
    "palette6 iOS18": ("iOS18", _palettes(mode="uniform", nbits=6), Encoding.PALETTE),
    "pruned iOS16": ("iOS16", _pruned, Encoding.SPARSE),
    "pruned iOS18": ("iOS18", _pruned, Encoding.SPARSE),
    "int8 iOS18": ("iOS18", _linear(), Encoding.BLOCKWISE),
    "int4 blocks iOS18": (
        "iOS18",
        _linear(dtype="int4", granularity="per_block", block_size=4),
        Encoding.BLOCKWISE,
    ),
    "pruned int8 iOS18": ("iOS18", _pruned_int8, Encoding.SPARSE),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_coremltools_compresses(way, net, tmp_path):
    opset, how, encoding = WAYS[way]
    package, plain = _compressed(net, opset, how, tmp_path / "small.mlpackage")

    decoded = {weight.op_name: weight for weight in decoded_weights(package) if weight.value.ndim > 1}
    own = {weight.op_name: weight for weight in decoded_weights(plain) if weight.value.ndim > 1}

    assert encoding in {weight.encoding for weight in decoded.values()}
    sources = {(16, 3, 3, 3): net.conv.weight, (12, 16): net.linear.weight}
    for op_name, weight in decoded.items():
        assert np.array_equal(weight.value.astype(np.float16), own[op_name].value)
        source = sources[weight.value.shape].detach().numpy().astype(np.float16).astype(np.float64)
        # coremltools chooses steps and entries in float16 arithmetic and rounds scale and table to it.
        slack = 2**-9 * np.abs(source).max()
        assert (np.abs(weight.value - source) <= weight.half_step + slack).all()


def test_a_palette_of_few_values_is_read(net, tmp_path):
    """Tables that are longer than the weight has values: coremltools once wrote damaged ones."""
    few = _Net().eval()
    with torch.no_grad():
        for parameter in few.parameters():
            parameter.copy_(torch.tensor([0.5, -0.25, 2.0])[torch.randint(0, 3, parameter.shape)])
    package, plain = _compressed(few, "iOS16", _palettes(mode="uniform", nbits=8), tmp_path / "small.mlpackage")

    decoded = {weight.op_name: weight.value for weight in decoded_weights(package) if weight.value.ndim > 1}

    own = {weight.op_name: weight.value for weight in decoded_weights(plain) if weight.value.ndim > 1}
    assert decoded.keys() == own.keys()
    assert all(np.array_equal(decoded[name], own[name]) for name in own)


def test_an_encoding_that_contradicts_itself_is_named(net, tmp_path):
    from evit_edge.runtime.coreml.protobuf import message_classes

    _compressed(net, "iOS16", _linear(), tmp_path / "small.mlpackage")
    file = tmp_path / "small.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    model = message_classes().Model.FromString(file.read_bytes())
    block = model.mlProgram.functions["main"].block_specializations["CoreML6"]
    operation = next(op for op in block.operations if op.type == "constexpr_affine_dequantize")
    operation.attributes["axis"].immediateValue.tensor.ints.values[0] = 2
    file.write_bytes(model.SerializeToString())

    with pytest.raises(ArtefactError, match=r"constexpr_affine_dequantize '.*' cannot be decoded: \(16,\) values"):
        list(decoded_weights(read_package(tmp_path / "small.mlpackage")))


def _tensor(array):
    return Literal(TensorType(Element[array.dtype.name.upper()], array.shape), array)


def _stored(kind, made, **parameters):
    """A ``constexpr_`` operation as iOS 18 writes it: all parameters are inputs."""
    inputs = {key: (value,) for key, value in parameters.items()}
    return Operation(f"constexpr_{kind}", "w", inputs, (NamedType("w", made),), {})


FOUR = TensorType(Element.FLOAT32, (4,))
SCALE = _tensor(np.ones((1, 1), np.float32))
PALETTE = _tensor(np.zeros((1, 4, 1), np.float32))
CODES = _tensor(np.arange(4, dtype=np.uint8))
SHAPE = _tensor(np.array([4], np.uint32))
CONTRADICTIONS = {
    "unknown": (_stored("hashed", FOUR), r"the encoding constexpr_hashed 'w' is unknown; constexpr_affine_dequan"),
    "nothing to decode": (_stored("blockwise_shift_scale", FOUR, scale=SCALE), "it lacks 'data'"),
    "a list": (
        _stored("cast", OtherType("listType"), source_val=_tensor(np.zeros(4, np.float16))),
        "its output is no tensor",
    ),
    "another shape": (
        _stored("cast", FOUR, source_val=_tensor(np.zeros(3, np.float16))),
        r"the weight constexpr_cast 'w' decodes to \(3,\), declared float32 \(4\)",
    ),
    "blocks that do not divide": (
        _stored("blockwise_shift_scale", FOUR, data=CODES, scale=_tensor(np.ones(3, np.float32))),
        r"\(3,\) blocks do not divide \(4,\)",
    ),
    "blocks of other axes": (
        _stored("blockwise_shift_scale", FOUR, data=CODES, scale=SCALE),
        r"\(1, 1\) blocks do not divide \(4,\)",
    ),
    "a table of three": (
        _stored("lut_to_dense", FOUR, lut=_tensor(np.zeros(3, np.float32)), indices=CODES, shape=SHAPE),
        "its table has 3 entries; a power of two from 2 to 256 is needed",
    ),
    "too many indices": (
        _stored("lut_to_dense", FOUR, lut=_tensor(np.zeros(4, np.float32)), indices=CODES, shape=SHAPE),
        "it has 4 bytes of indices; 4 of 2 bits take another number",
    ),
    "an index beyond the table": (
        _stored("lut_to_dense", FOUR, lut=PALETTE, indices=_tensor(np.array([0, 1, 2, 4], np.uint8))),
        r"its indices \(4,\) do not fit its table \(1, 4, 1\)",
    ),
    "vectors without an axis": (
        _stored("lut_to_dense", FOUR, lut=_tensor(np.zeros((1, 4, 2), np.float32)), indices=CODES),
        "its table holds vectors and no vector_axis says how they lie",
    ),
    "too long a mask": (
        _stored("sparse_to_dense", FOUR, nonzero_data=_tensor(np.ones(1, np.float32)), mask=CODES, shape=SHAPE),
        "its mask has 4 bytes; 4 bits take another number",
    ),
    "another number of places": (
        _stored("sparse_to_dense", FOUR, nonzero_data=_tensor(np.ones(2, np.float32)), mask=CODES),
        "it keeps 2 values and its mask has 3 places",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_told_with_the_weights_name(name):
    operation, message = CONTRADICTIONS[name]

    with pytest.raises(ArtefactError, match=message) as caught:
        decode_constexpr(operation, {})

    assert operation.title in str(caught.value)


@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        (Element.FLOAT8E4M3FN, torch.float8_e4m3fn),
        (Element.FLOAT8E5M2, torch.float8_e5m2),
        (Element.BFLOAT16, torch.bfloat16),
    ],
    ids=str,
)
def test_small_floats_are_those_of_torch(element, dtype):
    """Every code there is."""
    codes = np.arange(2**element.bits, dtype=f"<u{element.bits // 8}")

    found = decode(codes.tobytes(), element, len(codes))

    expected = torch.from_numpy(codes.view(np.int16 if element.bits == 16 else np.uint8)).view(dtype).float()
    np.testing.assert_array_equal(found, expected.numpy())
    assert element.numpy == np.float32
