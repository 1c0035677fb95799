"""Single operations, random shapes and attributes, converted by coremltools, saved, evaluated: thousands."""

from dataclasses import replace

import coreml_cases_layers  # noqa: F401  importing the cases registers them
import coreml_cases_picking  # noqa: F401
import coreml_cases_pointwise  # noqa: F401
import coreml_cases_shapes  # noqa: F401
import numpy as np
import pytest
import torch
from coreml_fuzz import OPSETS, Case, Drawn, check_program, differs, draw_cases, write_program
from coreml_modules import MENDED, Branch, Branches, branches

from evit_converters.coreml.library import coremltools
from evit_converters.quiet import quiet
from evit_edge.runtime.coreml import Evaluator, Precision, read_package
from evit_edge.runtime.coreml.ops import OPERATIONS, Call, Implementation

SEED = 20260
VARIANTS = 4
AT_LEAST = 500  # cases in one program; four operation sets in two types make eight programs


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Cases and their package, by operation set and type."""
    made = {}

    def get(opset, dtype, variants=VARIANTS):
        key = (opset, dtype, variants)
        if key not in made:
            drawn = draw_cases(opset, dtype, variants, SEED)
            folder = tmp_path_factory.mktemp("fuzz")
            made[key] = drawn, write_program(drawn, opset, dtype, folder / "cases.mlpackage")
        return made[key]

    return get


@pytest.mark.parametrize("precision", [Precision.FLOAT64, Precision.FLOAT32])
@pytest.mark.parametrize("opset", OPSETS)
def test_float32_programs(opset, precision, programs):
    drawn, package = programs(opset, np.float32)

    report = check_program(drawn, package, precision)

    assert report.failures == []
    assert report.cases >= AT_LEAST
    assert package.opset == opset


@pytest.mark.parametrize("opset", OPSETS)
def test_float16_programs_in_declared_precision(opset, programs):
    drawn, package = programs(opset, np.float16)

    report = check_program(drawn, package, Precision.DECLARED)

    assert report.failures == []
    assert report.cases >= AT_LEAST


def test_every_operation_is_among_the_cases(programs):
    _, package = programs("iOS18", np.float32)

    seen = {operation.type for operation in package.function.operations}

    assert set(OPERATIONS) - seen == {"classify"}  # only coremltools' classifiers have it: test_coreml_packages


def _wrong(implementation):
    def function(call: Call):
        results = implementation.function(call)
        results = results if isinstance(results, tuple) else (results,)
        wrong = tuple(~r if r.dtype == torch.bool else r + (0.01 if r.is_floating_point() else 1) for r in results)
        return wrong if len(wrong) > 1 else wrong[0]

    return Implementation(function, implementation.parameters, implementation.batching, implementation.moves)


def test_every_case_fails_when_its_operation_is_wrong(programs, monkeypatch):
    drawn, package = programs("iOS18", np.float32, 1)
    for name in set(OPERATIONS) - {"cast", "identity"}:  # which stand behind every case
        monkeypatch.setitem(OPERATIONS, name, _wrong(OPERATIONS[name]))

    failed = {
        failure.split(" output ")[0] for failure in check_program(drawn, package, Precision.FLOAT32).failures
    }

    assert {one.title for one in drawn} - failed == {one.title for one in drawn if one.op in ("cast", "identity")}


@pytest.mark.parametrize("name", ["cast", "identity"])
def test_wrong_casts_and_identities_are_seen(name, programs, monkeypatch):
    drawn, package = programs("iOS18", np.float32, 1)
    monkeypatch.setitem(OPERATIONS, name, _wrong(OPERATIONS[name]))

    failed = {
        failure.split(" output ")[0] for failure in check_program(drawn, package, Precision.FLOAT32).failures
    }

    assert {one.title for one in drawn if one.op == name} <= failed


def test_operations_on_text_or_of_wrong_sizes_are_no_cases():
    """The comparison itself: shape, one value, infinity and NaN are all seen."""
    right = np.array([1.0, np.inf, 3.0])
    for wrong in ([1.0, np.inf], [1.0, np.inf, 3.1], [1.0, 2.0, 3.0], [np.nan, np.inf, 3.0]):
        assert differs(torch.tensor(wrong, dtype=torch.float64), right, Precision.DECLARED)
    assert differs(torch.from_numpy(right), right, Precision.FLOAT64) is None


@pytest.mark.parametrize("opset", OPSETS)
def test_torch_modules(opset, tmp_path):
    """Through torch.export, with coremltools' own passes, against torch in float64."""
    rng = np.random.default_rng([SEED, int(opset[3:])])
    made = branches(rng, opset)
    inputs = [torch.from_numpy(rng.normal(size=branch.shape)) for branch in made]
    module = Branches(made).eval()
    package = _exported(module, inputs, opset, tmp_path / "modules.mlpackage")
    with torch.no_grad():
        expected = module.double()(*inputs)

    outputs = Evaluator(package, Precision.FLOAT64).run_tensors({f"x{i}": x for i, x in enumerate(inputs)})

    wrong = {}
    for branch, wanted, output in zip(made, expected, package.outputs, strict=True):
        problem = differs(outputs[output.name], wanted.double().numpy(), Precision.FLOAT32)
        if problem is not None:
            wrong[branch.title] = problem
    assert wrong == {}
    assert len(made) >= 100


def _array(*shape, low=0.0625):
    return np.linspace(low, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


REQUIRED = {
    "conv": {"weight": _array(4, 4, 3, 3)},
    "conv_transpose": {"weight": _array(4, 2, 3, 3)},
    "max_pool": {"kernel_sizes": [2, 3], "pad_type": "valid"},
    "avg_pool": {"kernel_sizes": [2, 3], "pad_type": "custom", "pad": [1, 1, 1, 1]},
    "l2_pool": {"kernel_sizes": [2, 3], "pad_type": "valid"},
    "batch_norm": {"mean": _array(4), "variance": _array(4)},
    "instance_norm": {},
    "layer_norm": {"axes": [1, 3]},
    "l2_norm": {},
    "local_response_norm": {"size": 3},
    "linear": {"weight": _array(5, 6)},
    "matmul": {"y": _array(1, 4, 6, 2)},
    "softmax": {},
    "gelu": {},
    "inverse": {},
    "log": {},
    "rsqrt": {},
    "reduce_sum": {},
    "reduce_argmax": {},
    "reduce_argmin": {},
    "cumsum": {},
    "argsort": {},
    "topk": {},
    "gather": {"indices": np.array([0], np.int32)},
    "gather_along_axis": {"indices": np.zeros((2, 4, 6, 6), np.int32)},
    "gather_nd": {"indices": np.array([[0, 1], [0, 3]], np.int32)},
    "band_part": {},
    "fill_like": {},
    "pad": {"pad": [1, 0, 0, 2]},
    "flatten2d": {},
    "reverse": {},
    "squeeze": {},
    "slice_by_index": {"begin": [0, 1, 0, 2], "end": [1, 3, 5, 6]},
    "sliding_windows": {"axis": 2, "size": 3},
    "resize_bilinear": {"target_size_height": 3},
    "upsample_bilinear": {"scale_factor_height": 2},
    "upsample_nearest_neighbor": {"scale_factor_width": 2},
    "resize": {"shape": np.array([3, 4], np.int32), "resized_dims": np.uint32(2)},
    "scatter": {"indices": np.array([0], np.int32), "updates": _array(1, 4, 6, 6)},
    "scatter_along_axis": {"indices": np.zeros((1, 4, 6, 6), np.int32), "updates": _array(1, 4, 6, 6)},
    "scatter_nd": {"indices": np.array([[0, 1]], np.int32), "updates": _array(1, 6, 6)},
}
RENAMED = {"fill_like": "ref_tensor", "scatter": "data", "scatter_along_axis": "data", "scatter_nd": "data"}


def _bare(package):
    """The same without the parameters that REQUIRED does not name; and how many those are."""
    operations, left_out = [], 0
    for operation in package.function.operations:
        kept = {RENAMED.get(operation.type, "x"), *REQUIRED.get(operation.type, operation.inputs)}
        left_out += len(set(operation.inputs) - kept)
        inputs = {key: bound for key, bound in operation.inputs.items() if key in kept}
        operations.append(replace(operation, inputs=inputs))
    block = replace(package.function.block, operations=tuple(operations))
    return replace(package, function=replace(package.function, block=block)), left_out


def test_parameters_that_a_file_leaves_out_have_their_defaults(tmp_path):
    """coremltools writes every default into the file; other writers need not. Both must mean the same."""
    x = _array(1, 4, 6, 6).astype(np.float64) / 1000  # small, so that an epsilon counts
    drawn = []
    for name, required in REQUIRED.items():
        given = {RENAMED.get(name, "x"): None} | required

        def build(mb, v, name=name, given=given):
            return getattr(mb, name)(**{key: v if value is None else value for key, value in given.items()})

        drawn.append(Drawn(name, name, Case((x,), build, (None,))))
    package = write_program(drawn, "iOS18", np.float32, tmp_path / "full.mlpackage")
    bare, left_out = _bare(package)
    inputs = {f"i_{i}_0": torch.from_numpy(x) for i in range(len(drawn))}

    full, short = (Evaluator(each, Precision.FLOAT64).run_tensors(inputs) for each in (package, bare))

    # An epsilon in the file is float32; the one that is left out is not rounded.
    torch.testing.assert_close(full, short, rtol=1e-6, atol=0)
    assert left_out >= 60


@pytest.mark.parametrize("name", MENDED)
def test_what_coremltools_gets_wrong_is_mended(name, tmp_path):
    layer = MENDED[name]
    x = torch.linspace(0.5, 3, 12, dtype=torch.float64).reshape(1, 12)
    package = _exported(Branches([Branch(name, layer, (1, 12))]).eval(), [x], "iOS16", tmp_path / "one.mlpackage")

    output = Evaluator(package, Precision.FLOAT64).run_tensors({"x0": x})[package.outputs[0].name]

    torch.testing.assert_close(output, layer(x), rtol=1e-6, atol=0)


def _exported(module, inputs, opset, path):
    ct = coremltools()
    single = tuple(x.float() for x in inputs)
    with quiet(), torch.no_grad():
        program = torch.export.export(module.float(), single).run_decompositions({})
        model = ct.convert(
            program,
            inputs=[ct.TensorType(name=f"x{i}", shape=tuple(x.shape)) for i, x in enumerate(single)],
            convert_to="mlprogram",
            minimum_deployment_target=ct.target[opset],
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
        model.save(str(path))
    return read_package(path)


def test_a_case_is_named_when_the_builder_and_the_reference_differ(tmp_path):
    x = np.array([1.0, 2.0])
    drawn = [Drawn("relu/0/0", "relu", Case((x,), lambda mb, v: mb.relu(x=v), (np.array([1.0, 2.5]),)))]
    package = write_program(drawn, "iOS15", np.float32, tmp_path / "one.mlpackage")

    assert check_program(drawn, package, Precision.FLOAT32).failures == [
        "relu/0/0 output 0: np.float64(2.0) instead of np.float64(2.5) at (1,), 1 of 2"
    ]
