"""Single operations, random shapes and attributes, converted by coremltools, saved, evaluated: thousands."""

import coreml_cases_layers  # noqa: F401  importing the cases registers them
import coreml_cases_picking  # noqa: F401
import coreml_cases_pointwise  # noqa: F401
import coreml_cases_shapes  # noqa: F401
import numpy as np
import pytest
import torch
from coreml_fuzz import OPSETS, Case, Drawn, check_program, differs, draw_cases, write_program
from coreml_modules import DEFECTS, Branch, Branches, branches

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


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_of_coremltools_show(defect, tmp_path):
    """The evaluator computes what the file says, so a conversion that changes the sense of a layer is seen."""
    layer, made_of_it = DEFECTS[defect]
    x = torch.linspace(0.5, 3, 12, dtype=torch.float64).reshape(1, 12)
    package = _exported(
        Branches([Branch(defect, layer, (1, 12))]).eval(), [x], "iOS16", tmp_path / "one.mlpackage"
    )

    output = Evaluator(package, Precision.FLOAT64).run_tensors({"x0": x})[package.outputs[0].name]

    assert differs(output, layer(x).numpy(), Precision.FLOAT32) is not None
    assert differs(output, made_of_it(x).numpy(), Precision.FLOAT32) is None


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
