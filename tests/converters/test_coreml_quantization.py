"""Which weights are encoded, how well, for which targets; and where activations get their codes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from evit_converters import coreml
from evit_converters.coreml import DeploymentTarget, Program, Quantization, lowest_target
from evit_converters.coreml.modes import check_target
from evit_converters.errors import QuantizationError, TargetError
from evit_edge.runtime.coreml import (
    DecodedWeight,
    Encoding,
    Evaluator,
    Package,
    Precision,
    decoded_weights,
    read_package,
)

LARGE = {"p_module_expand_weight", "p_module_middle_weight"}  # 2560 and 5120 elements, of a conv and a linear


def saved(program: Program, folder: Path) -> Package:
    """The program as a reader finds it."""
    coreml.save(program, folder / "net.mlpackage")
    return read_package(folder / "net.mlpackage")


def by_name(package: Package) -> dict[str, DecodedWeight]:
    """The weights by their names in the float32 program."""
    endings = ("_quantized", "_palettized", "_to_fp16")
    weights = {}
    for weight in decoded_weights(package):
        name = weight.name
        for ending in endings:
            name = name.removesuffix(ending)
        weights[name] = weight
    return weights


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def ranges_of(program: Program, folder: Path) -> dict[str, tuple[float, float]]:
    """True minimum and maximum of the values that int8-full asks for."""
    names, ranges = set(coreml.activation_names(program)), {}

    def note(name: str, value: torch.Tensor) -> None:
        if name in names:
            ranges[name] = (float(value.min()), float(value.max()))

    Evaluator(saved(program, folder), Precision.FLOAT32).run(pictures(), note)
    return ranges


@pytest.mark.parametrize(
    ("quantization", "encoding"),
    [
        (Quantization.INT8, Encoding.AFFINE),
        (Quantization.PALETTE4, Encoding.PALETTE),
        (Quantization.PALETTE6, Encoding.PALETTE),
    ],
)
def test_large_weights_of_layers_are_encoded_and_nothing_else(
    quantization: Quantization, encoding: Encoding, float16_program: Program, tmp_path: Path
) -> None:
    source = by_name(saved(float16_program, tmp_path))
    encoded = by_name(saved(coreml.quantize(float16_program, quantization), tmp_path))
    assert set(encoded) == set(source)
    assert {name for name, weight in encoded.items() if weight.encoding is not Encoding.RAW} == LARGE
    assert source["b_module_bias"].value.size == 4096  # the attention biases are large enough, and no weight
    for name, weight in encoded.items():
        error = np.abs(weight.value - source[name].value)
        if name not in LARGE:
            assert np.all(error == 0)
        elif encoding is Encoding.AFFINE:
            assert np.all(error <= weight.half_step)
        else:  # a palette's outer entries lie within the values: the nearest entry is the promise
            entries = np.unique(weight.value)
            assert np.array_equal(error, np.abs(entries - source[name].value[..., None]).min(axis=-1))


@pytest.mark.parametrize(
    ("quantization", "limit"),
    [(Quantization.INT8, 0.01), (Quantization.PALETTE4, 0.12), (Quantization.PALETTE6, 0.03)],
)
def test_quantized_program_stays_near_the_float_one(
    quantization: Quantization, limit: float, float16_program: Program, tmp_path: Path
) -> None:
    expected = Evaluator(saved(float16_program, tmp_path), Precision.FLOAT64).run(pictures()).log()
    package = saved(coreml.quantize(float16_program, quantization), tmp_path)
    actual = Evaluator(package, Precision.FLOAT64).run(pictures()).log()
    assert 0 < (actual - expected).norm() < limit * expected.norm()
    assert "batch_norm" not in {operation.type for operation in package.function.block.operations}
    assert package.image == read_image(float16_program, tmp_path)
    assert package.user_defined["evit_edge"] == "{}"
    assert package.labels == tuple(float16_program.interface.labels)


def read_image(program: Program, folder: Path) -> object:
    return saved(program, folder).image


def test_ios18_has_an_encoding_of_its_own(
    plane_net: torch.nn.Module, float16_program: Program, tmp_path: Path
) -> None:
    program = coreml.export(plane_net, float16_program.interface, target=DeploymentTarget.IOS18)
    new = by_name(saved(coreml.quantize(program, Quantization.INT8), tmp_path))
    old = by_name(saved(coreml.quantize(float16_program, Quantization.INT8), tmp_path))
    for name in LARGE:
        assert new[name].encoding is Encoding.BLOCKWISE
        assert np.array_equal(new[name].value, old[name].value)


@pytest.mark.parametrize("quantization", [Quantization.INT8, Quantization.PALETTE4, Quantization.INT8_FULL])
def test_equal_arguments_give_equal_bytes(
    quantization: Quantization, float16_program: Program, tmp_path: Path
) -> None:
    ranges = None
    if quantization is Quantization.INT8_FULL:
        ranges = dict.fromkeys(coreml.activation_names(float16_program), (-1.0, 2.0))
    files = []
    for _ in range(2):
        package = saved(coreml.quantize(float16_program, quantization, ranges), tmp_path)
        files.append([f.read_bytes() for f in sorted(package.path.rglob("*")) if f.is_file()])
    assert files[0] == files[1]


@pytest.mark.parametrize("target", DeploymentTarget)
@pytest.mark.parametrize("quantization", Quantization)
def test_targets_run_what_they_run_and_refuse_the_rest(
    quantization: Quantization, target: DeploymentTarget
) -> None:
    lowest = {"none": 6, "fp16": 6, "int8": 7, "palette4": 7, "palette6": 7, "int8-full": 8}[quantization.value]
    assert lowest_target(quantization).specification_version == lowest
    if target.specification_version >= lowest:
        check_target(quantization, target)
        return
    with pytest.raises(TargetError, match=f"{quantization.value} given for {target.value}; it needs .*iOS18"):
        check_target(quantization, target)


@pytest.mark.parametrize(
    ("target", "quantization"),
    [(DeploymentTarget.IOS15, Quantization.INT8), (DeploymentTarget.IOS16, Quantization.INT8_FULL)],
)
def test_a_target_is_never_raised(
    target: DeploymentTarget, quantization: Quantization, float16_program: Program
) -> None:
    program = dataclasses.replace(float16_program, target=target)
    with pytest.raises(TargetError, match=target.value):
        coreml.quantize(program, quantization, {})


def test_programs_of_another_precision_or_quantized_already_are_refused(
    float16_program: Program, float32_program: Program
) -> None:
    assert coreml.quantize(float32_program, Quantization.NONE) is float32_program
    assert coreml.quantize(float16_program, Quantization.FP16) is float16_program
    with pytest.raises(QuantizationError, match="int8 given for a float32 program"):
        coreml.quantize(float32_program, Quantization.INT8)
    with pytest.raises(QuantizationError, match="none given for a float16 program"):
        coreml.quantize(float16_program, Quantization.NONE)
    int8 = coreml.quantize(float16_program, Quantization.INT8)
    with pytest.raises(QuantizationError, match="is int8 already"):
        coreml.quantize(int8, Quantization.PALETTE4)


def test_int8_full_takes_its_ranges_from_outside(float16_program: Program, tmp_path: Path) -> None:
    ranges = ranges_of(float16_program, tmp_path)
    assert set(ranges) == set(coreml.activation_names(float16_program))
    widest = max(ranges, key=lambda name: max(map(abs, ranges[name])))
    # coremltools' own calibration kept the range of the last sample: here 0..1 would be left of -50..90.
    wide = ranges | {widest: (-50.0, 90.0)}
    package = saved(coreml.quantize(float16_program, Quantization.INT8_FULL, wide), tmp_path)
    weights = by_name(package)
    layers = {name for name in weights if name.endswith("weight") or name.startswith("const")}
    assert {weights[n].encoding for n in layers if weights[n].value.ndim > 1} == {Encoding.AFFINE}
    assert weights["b_module_bias"].encoding is Encoding.RAW
    assert activation_scales(package)[widest] == float(np.float16(90 / 127))


def activation_scales(package: Package) -> dict[str, float]:
    """The scale of each value that is quantized, by its name."""
    operations = package.function.operations
    constants = {o.outputs[0].name: o.attributes["val"].value for o in operations if o.type == "const"}
    coded = [operation for operation in operations if operation.type == "quantize"]
    return {str(o.inputs["input"][0]): float(constants[str(o.inputs["scale"][0])]) for o in coded}


def test_int8_full_stays_near_the_float_program(float16_program: Program, tmp_path: Path) -> None:
    ranges = ranges_of(float16_program, tmp_path)
    expected = Evaluator(saved(float16_program, tmp_path), Precision.FLOAT64).run(pictures()).log()
    package = saved(coreml.quantize(float16_program, Quantization.INT8_FULL, ranges), tmp_path)
    actual = Evaluator(package, Precision.FLOAT64).run(pictures()).log()
    assert (actual - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: None, "none were given"),
        (lambda r: dict(list(r.items())[1:]), "missing for 1 of"),
        (lambda r: r | {"elsewhere": (0.0, 1.0)}, "'elsewhere'"),
        (lambda r: r | {next(iter(r)): (1.0, 0.0)}, "ascending bounds"),
        (lambda r: r | {next(iter(r)): (0.0, float("nan"))}, "ascending bounds"),
        (lambda r: r | {next(iter(r)): (0.0, 1e5)}, "65504"),
    ],
    ids=["none", "missing", "unknown", "upside down", "nan", "beyond float16"],
)
def test_impossible_ranges_are_refused(change: object, message: str, float16_program: Program) -> None:
    ranges = dict.fromkeys(coreml.activation_names(float16_program), (0.0, 1.0))
    with pytest.raises(QuantizationError, match=message):
        coreml.quantize(float16_program, Quantization.INT8_FULL, change(ranges))


@pytest.mark.parametrize("quantization", [Quantization.INT8, Quantization.INT8_FULL])
def test_exempted_weights_stay_float16(
    quantization: Quantization, float16_program: Program, tmp_path: Path
) -> None:
    program = dataclasses.replace(float16_program, target=lowest_target(quantization))
    ranges = ranges_of(program, tmp_path) if quantization is Quantization.INT8_FULL else None
    first, second = coreml.quantizable_weights(program)
    source = by_name(saved(program, tmp_path))
    found = by_name(saved(coreml.quantize(program, quantization, ranges, exempt=[first.name]), tmp_path))
    kept, encoded = (weight.name.removesuffix("_to_fp16") for weight in (first, second))
    assert found[kept].encoding is source[kept].encoding
    np.testing.assert_array_equal(found[kept].value, source[kept].value)
    assert found[encoded].encoding is Encoding.AFFINE
    np.testing.assert_allclose(found[encoded].value, second.rounded, rtol=2**-10)


def test_an_unknown_exemption_is_refused(float16_program: Program) -> None:
    with pytest.raises(QuantizationError, match="'nothing' is to be exempted"):
        coreml.quantize(float16_program, Quantization.INT8, exempt=["nothing"])
