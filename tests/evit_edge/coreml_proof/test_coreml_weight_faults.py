"""Damaged weights: each is caught, by name, and told what has become of it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from evit_edge.runtime.coreml import read_package

pytest.importorskip("torch")

from evit_edge.verification.coreml.case import Case


def flipped_byte(package) -> None:
    package.array("p_module_layers_4_weight_to_fp16").view(np.uint8).reshape(-1)[289] ^= 0x40


def flipped_lowest_bit(package) -> None:
    package.array("p_module_layers_4_weight_to_fp16").view(np.uint8).reshape(-1)[288] ^= 0x01


def wrong_bias(package) -> None:
    package.array("p_module_layers_8_expand_bias_to_fp16")[:] += np.float16(0.25)


def one_bias(package) -> None:
    package.array("p_module_layers_8_expand_bias_to_fp16")[7] = 3


def corrupt_attention_bias(package) -> None:
    table = package.array("b_module_layers_9_heads_1_bias_to_fp16")
    table[..., 3, 5] = -table[..., 3, 5] - 1


def scaled_weight(package) -> None:
    package.array("p_module_layers_9_proj_weight_to_fp16")[:] *= np.float16(1.125)


def scaled_channel(package) -> None:
    package.array("p_module_layers_8_expand_weight_to_fp16")[17] *= np.float16(1.5)


def transposed_square(package) -> None:
    weight = package.array("p_module_layers_9_proj_weight_to_fp16")
    weight[:] = weight.swapaxes(0, 1).copy()


def swapped_colours(package) -> None:
    weight = package.array("p_module_layers_0_weight_to_fp16")
    weight[:] = weight[:, ::-1].copy()


def not_a_number(package) -> None:
    package.array("p_module_layers_9_proj_weight_to_fp16")[2, 3] = np.nan


@pytest.mark.parametrize(
    ("fault", "weight", "diagnosis"),
    [
        pytest.param(flipped_byte, "layers_4_weight", "1 of 288 elements differ", id="byte flipped"),
        pytest.param(flipped_lowest_bit, "layers_4_weight", "1 of 288 elements differ", id="lowest bit flipped"),
        pytest.param(wrong_bias, "layers_8_expand_bias", "it is the source's plus 0.25", id="bias shifted"),
        pytest.param(
            one_bias, "layers_8_expand_bias", r"1 of 32 elements differ, the first at \(7,\)", id="one bias"
        ),
        pytest.param(
            corrupt_attention_bias,
            "layers_9_heads_1_bias",
            r"1 of 2401 elements differ, the first at \(0, 0, 3, 5\)",
            id="attention bias",
        ),
        pytest.param(scaled_weight, "layers_9_proj_weight", "the source's times 1.12", id="weight scaled"),
        pytest.param(
            scaled_channel, "layers_8_expand_weight", r"channel 17 of 32 is the source's times 1\.(5|49)", id="row"
        ),
        pytest.param(transposed_square, "layers_9_proj_weight", "the source's transposed", id="square transposed"),
        pytest.param(swapped_colours, "layers_0_weight", "R and B are swapped", id="weights of red and blue"),
        pytest.param(not_a_number, "layers_9_proj_weight", "NaN or infinity", id="not a number"),
    ],
)
def test_a_wrong_weight_is_named(tiny_package, proved, failed, edited, fault, weight, diagnosis):
    package = edited(tiny_package("fp16"))
    fault(package)
    report = proved(package.save())
    found = failed(report)["stored weights"]
    assert found.startswith(f"1 of {len(package.of_type('conv')) * 2 + 5}: ")
    assert f"_{weight}" in found
    assert re.search(diagnosis, found)
    assert "graph" not in failed(report), "with the source's weights in place, the program is right"


@pytest.mark.parametrize("kind", ["fp16", "int8", "palette4"])
def test_every_flipped_bit_of_a_stored_value_is_found(tiny_package, tiny_network, pictures, edited, kind):
    """But for the lowest bits of a scale or of a table's entry: they change weights by less than rounding."""
    package = edited(tiny_package(kind))
    stored = [value for op in package.operations for value in op.attributes.values()]
    blobs = [package.stored(v, "u1").reshape(-1) for v in stored if v.WhichOneof("value") == "blobFileValue"]
    rng = np.random.default_rng(0)
    missed = []
    for blob in rng.choice(np.array(blobs, dtype=object), 24):
        place, bit = int(rng.integers(blob.size)), int(rng.integers(8))
        blob[place] ^= 1 << bit
        package.save()
        case = Case(read_package(package.path), pictures[:1], tiny_network)
        if all(entry.passed for entry in case.compared):
            missed.append((blob.size, place % 2, bit))
        blob[place] ^= 1 << bit
    shared = {"fp16": 0, "int8": 128, "palette4": 32}[kind]  # bytes of a weight's scales or table
    assert all(size <= shared and low == 0 and bit < 6 for size, low, bit in missed), missed
