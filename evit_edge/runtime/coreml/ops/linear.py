"""Matrix products. Source: coremltools' definitions ``linear`` (iOS 15, 17) and ``transformers`` (iOS 18)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evit_edge.runtime.coreml.ops.registry import Call, op


@op("linear", parameters="x weight bias")
def linear(call: Call) -> Tensor:
    """The product x weight^T, plus bias: x (..., D), weight (D_out, D)."""
    return F.linear(call.tensor("x"), call.tensor("weight"), call.optional("bias"))


@op("matmul", parameters="x y transpose_x transpose_y")
def matmul(call: Call) -> Tensor:
    """Batched matrix product with broadcasting; vectors as in numpy."""
    x, y = call.tensor("x"), call.tensor("y")
    if call.flag("transpose_x", False) and x.ndim > 1:
        x = x.transpose(-1, -2)
    if call.flag("transpose_y", False) and y.ndim > 1:
        y = y.transpose(-1, -2)
    return torch.matmul(x, y)


@op("einsum", parameters="values equation")
def einsum(call: Call) -> Tensor:
    """The product ``nchw,nwhu->nchu``, or ``chw,whr->chr``, whatever its letters; axes of length 1 broadcast."""
    x, y = _pair(call)
    if _canonical(call.text("equation")) not in ("abcd,adce->abce", "abc,cbd->abd"):
        raise call.refusal(
            f"its equation is {call.text('equation')!r}; nchw,nwhu->nchu and chw,whr->chr are supported"
        )
    product = torch.matmul(x.transpose(-3, -2), y.transpose(-3, -2))  # (..., H, C, W) (..., H, W, U)
    return product.transpose(-3, -2)


@op("scaled_dot_product_attention", parameters="query key value attn_mask")
def scaled_dot_product_attention(call: Call) -> Tensor:
    """softmax(q k^T / sqrt(E) + mask) v: q (..., L, E), k (..., S, E), v (..., S, V)."""
    query, key, value = call.tensor("query"), call.tensor("key"), call.tensor("value")
    scores = torch.matmul(query, key.transpose(-1, -2)) * query.shape[-1] ** -0.5  # (..., L, S)
    mask = call.optional("attn_mask")
    if mask is not None:
        mask_is_choice = mask.dtype == torch.bool
        scores = scores.masked_fill(~mask, float("-inf")) if mask_is_choice else scores + mask
    return torch.matmul(torch.softmax(scores, -1), value)


def _pair(call: Call) -> tuple[Tensor, Tensor]:
    values = call.tensors("values")
    if len(values) != 2:
        raise call.refusal(f"it takes {len(values)} tensors; two are supported")
    return values[0], values[1]


def _canonical(equation: str) -> str:
    """With letters renamed a, b, c in the order of their first use."""
    names: dict[str, str] = {}
    kept = equation.replace(" ", "")
    return "".join(names.setdefault(c, chr(ord("a") + len(names))) if c.isalpha() else c for c in kept)
