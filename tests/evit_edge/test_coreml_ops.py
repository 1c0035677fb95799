"""Calls that no definition allows, or that it leaves open: refused by the operation's name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml import Evaluator
from evit_edge.runtime.coreml.elements import Element
from evit_edge.runtime.coreml.ops import OPERATIONS
from evit_edge.runtime.coreml.ops.registry import op
from evit_edge.runtime.coreml.package import Package
from evit_edge.runtime.coreml.program import (
    Block,
    Function,
    Literal,
    NamedType,
    Operation,
    OtherType,
    TensorType,
)

PATH = Path("one.mlpackage")
ELEMENTS = {"f": Element.FLOAT32, "i": Element.INT32, "b": Element.BOOL, "U": Element.STRING, "O": Element.STRING}


def literal(value):
    array = np.asarray(value)
    array = array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))
    return Literal(TensorType(ELEMENTS[array.dtype.kind], array.shape), array)


def one(kind, x, made=None, /, **arguments):
    """A program of one operation on ``x``; tuples are variadic, X stands for the input."""
    inputs = {
        key: tuple(
            "x" if each is X else literal(each) for each in (value if isinstance(value, tuple) else (value,))
        )
        for key, value in arguments.items()
    }
    declared = made or TensorType(Element.FLOAT32, (None,) * np.ndim(x))
    operation = Operation(kind, "it", inputs, (NamedType("y", declared),), {})
    given = NamedType("x", TensorType(ELEMENTS[np.asarray(x).dtype.kind], np.shape(x)))
    function = Function("main", "CoreML8", (given,), Block((), ("y",), (operation,)))
    return Package(PATH, 9, function, None, (), None, None, {}, {})


def answer(package, x, count=None):
    """The result for ``x``, or for so many of it."""
    tensor = torch.from_numpy(np.asarray(x))
    batch = tensor if count is None else torch.stack([tensor] * count)
    return Evaluator(package).run_tensors({"x": batch}, batched=count is not None)["y"].numpy()


X = object()
ROW = np.arange(6, dtype=np.float32)
PLANE = np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6)
WHOLE = np.arange(6, dtype=np.int32)
KERNEL = np.ones((1, 1, 3, 3), np.float32)
POOL = {"x": X, "kernel_sizes": [2, 2], "pad_type": "valid"}
SLICE = {"x": X, "begin": [1], "end": [3]}

REFUSED = {
    "conv of two axes": ("conv", PLANE[0, 0], {"x": X, "weight": KERNEL}, "its input has 2 axes; 3 to 5"),
    "conv with an unknown padding": (
        "conv",
        PLANE,
        {"x": X, "weight": KERNEL, "pad_type": "half"},
        "its pad_type is 'half'; valid, same, same_lower, custom are supported",
    ),
    "conv with a short padding": (
        "conv",
        PLANE,
        {"x": X, "weight": KERNEL, "pad_type": "custom", "pad": [1, 1]},
        "its pad has 2 entries; 4 are needed",
    ),
    "conv_transpose with an unknown padding": (
        "conv_transpose",
        PLANE,
        {"x": X, "weight": KERNEL, "pad_type": "half"},
        "its parameter 'pad_type' is 'half'; valid, same, custom are supported",
    ),
    "conv of two inputs": (
        "conv",
        PLANE,
        {"x": (X, X), "weight": KERNEL},
        "its parameter 'x' has 2 values; one is needed",
    ),
    "conv by text": ("conv", PLANE, {"x": X, "weight": "ones"}, "its parameter 'weight' is text; numbers"),
    "conv in several groups": (
        "conv",
        PLANE,
        {"x": X, "weight": KERNEL, "groups": [1, 1]},
        "its parameter 'groups' has 2 entries; one number",
    ),
    "division of whole numbers": ("real_div", WHOLE, {"x": X, "y": [2]}, "it divides whole numbers"),
    "cast to an unknown type": ("cast", ROW, {"x": X, "dtype": "int3"}, "it casts to 'int3'; .*, uint16 are"),
    "cast to a number": ("cast", ROW, {"x": X, "dtype": 3}, "its parameter 'dtype' must be one string"),
    "unequal parts": (
        "split",
        ROW,
        {"x": X, "axis": 0, "num_splits": 4},
        "an axis of 6 does not split into 4 equal parts",
    ),
    "no parts": ("split", ROW, {"x": X, "axis": 0, "num_splits": 0}, "an axis of 6 does not split into 0 equal"),
    "reflection of everything": (
        "pad",
        ROW,
        {"x": X, "pad": [6, 0], "mode": "reflect"},
        "it reflects 6 entries of an axis of 6; fewer",
    ),
    "range without a step": ("range_1d", ROW[0], {"start": X, "end": 3.0, "step": 0.0}, "its step is 0"),
    "another equation": (
        "einsum",
        PLANE,
        {"values": (X, X), "equation": "nchw,nchw->nchw"},
        "its equation is 'nchw,nchw->nchw'; nchw,nwhu->nchu and",
    ),
    "equation of three": (
        "einsum",
        PLANE,
        {"values": (X, X, X), "equation": "nchw,nwhu->nchu"},
        "it takes 3 tensors; two are supported",
    ),
    "window of other axes": (
        "max_pool",
        PLANE,
        POOL | {"kernel_sizes": [2, 2, 2]},
        r"its window \[2, 2, 2\] with strides \[1, 1\] does not fit an input of 4 axes",
    ),
    "window in the padding": (
        "avg_pool",
        PLANE,
        POOL | {"pad_type": "custom", "pad": [2, 2, 2, 2], "exclude_padding_from_average": True},
        "one of its windows lies outside the input",
    ),
    "aligned and half": (
        "upsample_bilinear",
        PLANE,
        {"x": X, "align_corners": True, "half_pixel_centers": True},
        "it asks for aligned corners and half-pixel centres at once",
    ),
    "resize of three axes": (
        "resize",
        PLANE,
        {"x": X, "resized_dims": 3, "shape": [1, 4, 6]},
        "it resizes 3 axes; 1 and 2 are supported",
    ),
    "nearest in an open mode": (
        "resize",
        PLANE,
        {
            "x": X,
            "resized_dims": 2,
            "shape": [6, 9],
            "interpolation_mode": "NEAREST_NEIGHBOR",
            "sampling_mode": "ALIGN_CORNERS",
        },
        "leaves open which neighbour is the nearest for sampling mode ALIGN_CORNERS",
    ),
    "unknown mode": (
        "resize_bilinear",
        PLANE,
        {"x": X, "sampling_mode": "BEST"},
        "its parameter 'sampling_mode' is 'BEST'; STRICT_ALIGN_CORNERS, .* are supported",
    ),
    "part beyond the end": (
        "slice_by_size",
        ROW,
        {"x": X, "begin": [4], "size": [3]},
        "it takes 3 entries from 4 on of an axis of 6",
    ),
    "bounds of other axes": (
        "slice_by_index",
        ROW,
        SLICE | {"end": [3, 3]},
        "its bounds do not have one entry for each of 1 axes",
    ),
    "entry beyond the end": (
        "slice_by_index",
        ROW,
        SLICE | {"begin": [6], "squeeze_mask": [True]},
        "it takes entry 6 of an axis of 6",
    ),
}


@pytest.mark.parametrize("count", [None, 2], ids=["one", "batch"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_defined_is_refused(name, count):
    kind, x, arguments, message = REFUSED[name]
    package = one(kind, x, **arguments)

    with pytest.raises(ArtefactError, match=message) as caught:
        answer(package, x, count)

    assert str(caught.value).startswith(f"{PATH}: the operation {kind} 'it' cannot be evaluated: ")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (TensorType(Element.INT16, (6,)), "it quantizes to int16; int8, uint8 are supported"),
        (OtherType("listType"), "its output is declared to be no tensor"),
    ],
    ids=["two bytes", "a list"],
)
def test_codes_of_another_type_are_refused(made, message):
    package = one("quantize", ROW, made, input=X, scale=np.float32(0.5), output_dtype="int16")

    with pytest.raises(ArtefactError, match=message):
        answer(package, ROW)


@pytest.mark.parametrize("count", [None, 2], ids=["one", "batch"])
@pytest.mark.parametrize(
    ("kind", "arguments", "wanted"),
    [
        (
            "resize",
            {"x": X, "resized_dims": 2, "shape": [8, 0], "interpolation_mode": "NEAREST_NEIGHBOR"},
            PLANE.repeat(2, 2),
        ),
        (
            "resize",
            {
                "x": X,
                "resized_dims": 1,
                "shape": [12],
                "interpolation_mode": "NEAREST_NEIGHBOR",
                "sampling_mode": "UNALIGN_CORNERS",
            },
            PLANE.repeat(2, 3),
        ),
        (
            "conv_transpose",
            {"x": X, "weight": KERNEL, "pad_type": "same", "strides": [1, 1]},
            torch.nn.functional.conv_transpose2d(
                torch.from_numpy(PLANE), torch.from_numpy(KERNEL), padding=1
            ).numpy(),
        ),
        ("reduce_sum", {"x": X, "axes": np.zeros(0, np.int32)}, PLANE),
        ("gather", {"x": X, "indices": [[0]], "axis": 2, "batch_dims": -1}, PLANE[:, :, :1]),
    ],
    ids=["nearest", "nearest by a whole factor", "transposed to the same size", "no axes", "batch from the end"],
)
def test_seldom_ways_of_an_operation(kind, arguments, wanted, count):
    found = answer(one(kind, PLANE, **arguments), PLANE, count)

    np.testing.assert_array_equal(found, wanted if count is None else np.stack([wanted] * count))


def test_constants_alone_are_computed_once():
    package = one("add", ROW, TensorType(Element.FLOAT32, ()), x=1.5, y=2.0)
    seen = []

    found = Evaluator(package).run_tensors({"x": torch.from_numpy(ROW)}, lambda name, _: seen.append(name))

    assert (found["y"].item(), seen) == (3.5, [])


def test_an_operation_is_registered_once():
    before = OPERATIONS["relu"]

    with pytest.raises(ValueError, match="operation relu is registered twice"):
        op("relu", parameters="x")(before.function)

    assert OPERATIONS["relu"] is before
