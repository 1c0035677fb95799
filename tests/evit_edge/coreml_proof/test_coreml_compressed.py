"""Packages of fewer bits: honest ones pass, and damage to scales, codes, tables and ranges is named."""

from __future__ import annotations

import re

import numpy as np
import pytest

KINDS = ("int8", "palette4", "palette6", "int8-full")


@pytest.fixture
def package(tiny_package, tiny_ranges):
    """Function: a package of a kind."""
    return lambda kind: tiny_package(kind, tiny_ranges if kind == "int8-full" else None)


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_compressed_package_passes(package, proved, failed, tiny_ranges, kind):
    report = proved(package(kind), ranges=tiny_ranges)
    assert report.passed, failed(report)
    assert report.figures["graph_error"] < 1e-6 * report.figures["torch_float32_error"]
    quantized = {"activation codes", "activation ranges", "clipping"}
    assert ({gate.name for gate in report.gates} & quantized) == (quantized if kind == "int8-full" else set())
    assert "compression" in {gate.name for gate in report.gates}


def test_compression_is_not_taken_for_an_error_of_the_graph(package, proved):
    figures = proved(package("palette4")).figures
    assert figures["declared_error"] > 10 * figures["rounding_error"]
    assert figures["rounding_error"] < 2 * figures["torch_declared_error"]


def scaled_scale(package):
    scale = package.stored(package.of_type("constexpr_affine_dequantize")[0].attributes["scale"])
    scale[3] *= np.float16(1.25)


def flipped_code(package):
    codes = package.stored(package.of_type("constexpr_affine_dequantize")[0].attributes["quantized_data"], "i1")
    codes.reshape(-1)[100] ^= 0x20


def next_code(package):
    codes = package.stored(package.of_type("constexpr_affine_dequantize")[0].attributes["quantized_data"], "i1")
    codes.reshape(-1)[100] += 1


def corrupt_table(package):
    """What coremltools' k-means writes where there are fewer distinct values than entries: some far off."""
    table = package.stored(package.of_type("constexpr_lut_to_dense")[0].attributes["lut"])
    table.reshape(-1)[5] += 12


def other_index(package):
    indices = package.stored(package.of_type("constexpr_lut_to_dense")[0].attributes["indices"], "u1")
    indices.reshape(-1)[40] ^= 0x01


@pytest.mark.parametrize(
    ("kind", "fault", "diagnosis"),
    [
        pytest.param("int8", scaled_scale, r"channel 3 of 32 is the source's times 1\.2[45]", id="scale"),
        pytest.param("int8", flipped_code, "1 of 2048 elements differ", id="code flipped"),
        pytest.param("int8", next_code, "1 of 2048 elements differ", id="next code"),
        pytest.param("palette4", corrupt_table, r"\d+ of 2048 elements differ, .*; all are stored as", id="table"),
        pytest.param("palette4", other_index, "1 of 2048 elements differ", id="index"),
    ],
)
def test_a_damaged_code_is_named_with_its_weight(package, proved, failed, edited, kind, fault, diagnosis):
    faulty = edited(package(kind))
    fault(faulty)
    first = next(op for op in faulty.operations if op.type.startswith("constexpr_")).outputs[0].name
    found = failed(proved(faulty.save()))
    assert found["stored weights"].startswith(f"1 of {len(faulty.of_type('conv')) * 2 + 5}: {first} ")
    assert re.search(diagnosis, found["stored weights"])
    assert "graph" not in found


def scaled_activation(package):
    scale = package.parameter(package.of_type("quantize")[2], "scale")
    scale.bytes.values = (np.frombuffer(scale.bytes.values, "<f2") * np.float16(0.5)).tobytes()


def scaled_reading(package):
    scale = package.parameter(package.of_type("dequantize")[2], "scale")
    scale.bytes.values = (np.frombuffer(scale.bytes.values, "<f2") * np.float16(1.5)).tobytes()


@pytest.fixture
def failures(package, proved, failed, edited, tiny_ranges):
    """Function: what fails after a fault was put into the package of int8 activations."""

    def of(fault) -> dict[str, str]:
        faulty = edited(package("int8-full"))
        fault(faulty)
        return failed(proved(faulty.save(), ranges=tiny_ranges))

    return of


@pytest.mark.parametrize(
    ("fault", "gate", "culprit"),
    [
        pytest.param(scaled_activation, "activation ranges", "1 of 94: quantize 'quantize_", id="written"),
        pytest.param(scaled_reading, "activation codes", "conv 'conv2d_2_cast_fp16' takes values that", id="read"),
    ],
)
def test_a_wrong_scale_of_activations_is_named(failures, fault, gate, culprit):
    assert culprit in failures(fault)[gate]


def test_ranges_that_are_not_given_are_said_to_be_missing(package, proved):
    gates = {gate.name: gate for gate in proved(package("int8-full")).gates}
    assert gates["activation ranges"].status.value == "skipped"
    assert "no calibrated ranges given" in gates["activation ranges"].measured
    assert gates["clipping"].status.value == "passed"
