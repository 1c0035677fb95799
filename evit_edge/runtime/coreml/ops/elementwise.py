"""Operations on each entry: arithmetic, comparisons, rounding, casts.

Source: coremltools' definitions ``elementwise_unary``, ``elementwise_binary`` (iOS 15, 17) and
``control_flow.select``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Batching, Call, op

_CASTS = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp64": torch.float64,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
_UNARY_EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    "round": torch.round,  # halves to the even neighbour
    "sign": torch.sign,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "pow": torch.pow,
    "mod": torch.remainder,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}


def _register_simple() -> None:
    for table, moves in ((_UNARY, False), (_UNARY_EXACT, True)):
        for name, compute in table.items():
            op(name, parameters="x", batching=Batching.POINTWISE, moves=moves)(_unary(compute))
    for name, combine in _BINARY.items():
        op(name, parameters="x y", batching=Batching.POINTWISE)(_binary(combine))


def _unary(compute: Callable[[Tensor], Tensor]) -> Callable[[Call], Tensor]:
    return lambda call: compute(call.tensor("x"))


def _binary(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Tensor]:
    return lambda call: combine(call.tensor("x"), call.tensor("y"))


_register_simple()


@op("real_div", parameters="x y", batching=Batching.POINTWISE)
def real_div(call: Call) -> Tensor:
    """Real numbers, divided."""
    x, y = call.tensor("x"), call.tensor("y")
    if not x.is_floating_point():
        raise call.refusal("it divides whole numbers, and its definition leaves open how the result is rounded")
    return torch.true_divide(x, y)


@op("floor_div", parameters="x y", batching=Batching.POINTWISE)
def floor_div(call: Call) -> Tensor:
    """The largest whole number that is no larger than x / y."""
    return torch.floor_divide(call.tensor("x"), call.tensor("y"))


@op("inverse", parameters="x epsilon", batching=Batching.POINTWISE)
def inverse(call: Call) -> Tensor:
    """1 / (x + epsilon)."""
    return torch.reciprocal(call.tensor("x") + call.number("epsilon", 1e-4))


@op("log", parameters="x epsilon", batching=Batching.POINTWISE)
def log(call: Call) -> Tensor:
    """ln(x + epsilon)."""
    return torch.log(call.tensor("x") + call.number("epsilon", 1e-45))


@op("rsqrt", parameters="x epsilon", batching=Batching.POINTWISE)
def rsqrt(call: Call) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(call.tensor("x") + call.number("epsilon", 1e-12))


@op("clip", parameters="x alpha beta", batching=Batching.POINTWISE)
def clip(call: Call) -> Tensor:
    """The input limited to alpha..beta."""
    return torch.clamp(call.tensor("x"), call.number("alpha"), call.number("beta"))


@op("threshold", parameters="x alpha", batching=Batching.POINTWISE)
def threshold(call: Call) -> Tensor:
    """The larger of x and alpha."""
    return torch.clamp(call.tensor("x"), min=call.number("alpha"))


@op("cast", parameters="x dtype", batching=Batching.POINTWISE)
def cast(call: Call) -> Tensor:
    """Another element type; to a whole number by dropping the fraction.

    Between floats nothing happens here: the evaluator rounds to the declared type, or not, as its precision says.
    """
    x, name = call.tensor("x"), call.text("dtype")
    if name == "uint16":  # torch's own uint16 knows next to no operations
        return x.to(torch.int32)
    if name not in _CASTS:
        raise call.refusal(f"it casts to {name!r}; {', '.join(_CASTS)}, uint16 are supported")
    target = _CASTS[name]
    if target.is_floating_point:
        return x if x.is_floating_point() else x.to(torch.float64)
    return x.to(target)


@op("select", parameters="cond a b", batching=Batching.POINTWISE, moves=True)
def select(call: Call) -> Tensor:
    """A where the condition holds, else b."""
    return torch.where(call.tensor("cond").to(torch.bool), call.tensor("a"), call.tensor("b"))
