"""Cases of operations that work entry by entry."""

from __future__ import annotations

import math

import numpy as np
from coreml_fuzz import Case, Draw, Maker, case

_erf = np.vectorize(math.erf, otypes=[np.float64])

# Operation: reference, lower and upper end of its inputs.
UNARY = {
    "abs": (np.abs, -4, 4),
    "acos": (np.arccos, -1, 1),
    "asin": (np.arcsin, -1, 1),
    "atan": (np.arctan, -4, 4),
    "atanh": (np.arctanh, -0.95, 0.95),
    "ceil": (np.ceil, -4, 4),
    "cos": (np.cos, -4, 4),
    "cosh": (np.cosh, -4, 4),
    "erf": (_erf, -3, 3),
    "exp": (np.exp, -4, 4),
    "exp2": (np.exp2, -4, 4),
    "floor": (np.floor, -4, 4),
    "identity": (lambda x: x, -4, 4),
    "round": (np.round, -4, 4),
    "sign": (np.sign, -4, 4),
    "sin": (np.sin, -4, 4),
    "sinh": (np.sinh, -4, 4),
    "sqrt": (np.sqrt, 0, 4),
    "square": (np.square, -4, 4),
    "tan": (np.tan, -1.25, 1.25),
    "tanh": (np.tanh, -4, 4),
    "relu": (lambda x: np.where(x > 0, x, 0), -4, 4),
    "relu6": (lambda x: np.minimum(np.where(x > 0, x, 0), 6), -4, 12),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), -4, 4),
    "silu": (lambda x: x / (1 + np.exp(-x)), -4, 4),
    "softplus": (lambda x: np.log(1 + np.exp(x)), -4, 4),
    "softsign": (lambda x: x / (1 + np.abs(x)), -4, 4),
}

ALPHA = {
    "elu": lambda x, a: np.where(x > 0, x, a * (np.exp(x) - 1)),
    "leaky_relu": lambda x, a: np.where(x >= 0, x, a * x),
    "thresholded_relu": lambda x, a: np.where(x >= a, x, 0),
    "threshold": np.maximum,
}

ALPHA_BETA = {
    "clamped_relu": lambda x, a, b: np.where(x >= 0, np.minimum(b, x), np.minimum(b, a * x)),
    "linear_activation": lambda x, a, b: x * a + b,
    "scaled_tanh": lambda x, a, b: a * np.tanh(b * x),
    "sigmoid_hard": lambda x, a, b: np.minimum(np.maximum(a * x + b, 0), 1),
}

BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
}

LOGICAL = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}

EPSILON = {
    "inverse": lambda x, e: 1 / (x + e),
    "log": lambda x, e: np.log(x + e),
    "rsqrt": lambda x, e: 1 / np.sqrt(x + e),
}


def broadcastable(draw: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes: one of them shorter, or with axes of length 1."""
    full = draw.shape(draw.int(1, 5))
    cut = full[draw.int(0, len(full) - 1) :] if draw.bool() else full
    other = tuple(1 if draw.int(0, 3) == 0 else n for n in cut)
    return (full, other) if draw.bool() else (other, full)


def _unary(op: str) -> Maker:
    reference, low, high = UNARY[op]

    def make(draw: Draw) -> Case:
        x = draw.floats(draw.shape(), low, high)
        return Case((x,), lambda mb, v: getattr(mb, op)(x=v), (reference(x),))

    return make


def _alpha(op: str) -> Maker:
    def make(draw: Draw) -> Case:
        x, a = draw.floats(draw.shape()), draw.number(0.125, 2)
        return Case((x,), lambda mb, v: getattr(mb, op)(x=v, alpha=draw.const(a)), (ALPHA[op](x, a),))

    return make


def _alpha_beta(op: str) -> Maker:
    def make(draw: Draw) -> Case:
        x, a, b = draw.floats(draw.shape()), draw.number(0.125, 1), draw.number(0.125, 3)
        expected = ALPHA_BETA[op](x, a, b)
        return Case((x,), lambda mb, v: getattr(mb, op)(x=v, alpha=draw.const(a), beta=draw.const(b)), (expected,))

    return make


def _epsilon(op: str) -> Maker:
    def make(draw: Draw) -> Case:
        x, e = draw.floats(draw.shape(), 0.25, 4), draw.number(0.125, 1)
        return Case((x,), lambda mb, v: getattr(mb, op)(x=v, epsilon=draw.const(e)), (EPSILON[op](x, e),))

    return make


def _binary(op: str) -> Maker:
    def make(draw: Draw) -> Case:
        a, b = broadcastable(draw)
        if draw.int(0, 2) == 0:
            x, y = draw.ints(a, -3, 3), draw.ints(b, -3, 3)
        else:  # few different values, so that some are equal
            x, y = (np.round(draw.floats(shape)) / 2 for shape in (a, b))
        return Case((x, y), lambda mb, v, w: getattr(mb, op)(x=v, y=w), (BINARY[op](x, y),))

    return make


def _logical(op: str) -> Maker:
    def make(draw: Draw) -> Case:
        x, y = (draw.ints(shape, 0, 1).astype(bool) for shape in broadcastable(draw))
        return Case((x, y), lambda mb, v, w: getattr(mb, op)(x=v, y=w), (LOGICAL[op](x, y),))

    return make


def _register() -> None:
    for table, maker in (
        (UNARY, _unary),
        (ALPHA, _alpha),
        (ALPHA_BETA, _alpha_beta),
        (EPSILON, _epsilon),
        (BINARY, _binary),
        (LOGICAL, _logical),
    ):
        for op in table:
            case(op)(maker(op))


_register()


@case("add", "mul", "sub", "maximum")
def with_constant(draw: Draw) -> Case:
    """A second operand of a constant, as biases and scales are."""
    a, b = broadcastable(draw)
    x, y = draw.floats(a), draw.floats(b)
    op = draw.of("add", "mul", "sub", "maximum")
    return Case((x,), lambda mb, v: getattr(mb, op)(x=v, y=draw.const(y)), (BINARY[op](x, y),))


@case("real_div", "floor_div", "mod")
def division(draw: Draw) -> Case:
    a, b = broadcastable(draw)
    x, y = draw.floats(a), draw.floats(b, 0.25, 4) * draw.of(1, -1)
    op = draw.of("real_div", "floor_div", "mod")
    reference = {"real_div": x / y, "floor_div": np.floor(x / y), "mod": x - np.floor(x / y) * y}[op]
    return Case((x, y), lambda mb, v, w: getattr(mb, op)(x=v, y=w), (reference,))


@case("floor_div", "mod")
def whole_division(draw: Draw) -> Case:
    a, b = broadcastable(draw)
    x, y = draw.ints(a, -20, 20), draw.ints(b, 1, 6) * draw.of(1, -1)
    op = draw.of("floor_div", "mod")
    return Case((x, y), lambda mb, v, w: getattr(mb, op)(x=v, y=w), (x // y if op == "floor_div" else x % y,))


@case("pow")
def power(draw: Draw) -> Case:
    a, b = broadcastable(draw)
    if draw.bool():
        x, y = draw.floats(a, 0.25, 3), draw.floats(b, -2, 2)
    else:
        x, y = draw.floats(a), draw.ints(b, 0, 3).astype(np.float64)
    return Case((x, y), lambda mb, v, w: mb.pow(x=v, y=w), (x**y,))


@case("logical_not")
def logical_not(draw: Draw) -> Case:
    x = draw.ints(draw.shape(), 0, 1).astype(bool)
    return Case((x,), lambda mb, v: mb.logical_not(x=v), (~x,))


@case("select")
def select(draw: Draw) -> Case:
    shape = draw.shape()
    condition = draw.ints(shape, 0, 1).astype(bool)
    a, b = draw.floats(shape), draw.floats(shape)
    return Case((condition, a, b), lambda mb, c, v, w: mb.select(cond=c, a=v, b=w), (np.where(condition, a, b),))


@case("clip")
def clip(draw: Draw) -> Case:
    x, low = draw.floats(draw.shape()), draw.number(-3, 0)
    high = low + draw.number(0.25, 3)
    return Case(
        (x,), lambda mb, v: mb.clip(x=v, alpha=draw.const(low), beta=draw.const(high)), (np.clip(x, low, high),)
    )


@case("cast")
def cast(draw: Draw) -> Case:
    x = draw.floats(draw.shape(), -16, 16)
    names = {"int32": np.int32, "bool": bool, "fp16": np.float16, "fp32": np.float32}
    if draw.version >= 17:
        names |= {"int8": np.int8, "int16": np.int16}
    name = draw.of(*names)
    return Case((x,), lambda mb, v: mb.cast(x=v, dtype=name), (x.astype(names[name]),))


@case("cast")
def unsigned_cast(draw: Draw) -> Case | None:
    if draw.version < 17:
        return None
    x, name = draw.ints(draw.shape(), 0, 255), draw.of("uint8", "uint16", "fp32", "fp16")
    return Case(
        (x,), lambda mb, v: mb.cast(x=v, dtype=name), (x.astype(np.float64 if name[0] == "f" else np.int32),)
    )


@case("gelu")
def gelu(draw: Draw) -> Case:
    x, mode = draw.floats(draw.shape()), draw.of("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
    expected = {
        "EXACT": 0.5 * x * (1 + _erf(x / np.sqrt(2))),
        "TANH_APPROXIMATION": 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "SIGMOID_APPROXIMATION": x / (1 + np.exp(-1.702 * x)),
    }
    return Case((x,), lambda mb, v: mb.gelu(x=v, mode=mode), (expected[mode],))


@case("softmax")
def softmax(draw: Draw) -> Case:
    x = draw.floats(draw.shape())
    axis = draw.axis(x.ndim)
    powers = np.exp(x - x.max(axis, keepdims=True))
    return Case((x,), lambda mb, v: mb.softmax(x=v, axis=axis), (powers / powers.sum(axis, keepdims=True),))


@case("prelu", "softplus_parametric")
def per_channel(draw: Draw) -> Case:
    shape = draw.shape(4)
    x, a, b = draw.floats(shape), draw.floats(shape[1:2], 0.125, 2), draw.floats(shape[1:2], 0.125, 1)
    wide = a[None, :, None, None], b[None, :, None, None]
    if draw.bool():
        expected = np.where(x > 0, x, x * wide[0])
        return Case((x,), lambda mb, v: mb.prelu(x=v, alpha=draw.const(a)), (expected,))
    expected = wide[0] * np.log(1 + np.exp(wide[1] * x))
    return Case(
        (x,), lambda mb, v: mb.softplus_parametric(x=v, alpha=draw.const(a), beta=draw.const(b)), (expected,)
    )
