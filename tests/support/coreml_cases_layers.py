"""Cases of layers: convolutions, poolings, normalisations, products, resizing, quantization.

The references are loops over windows and kernel entries in numpy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from coreml_fuzz import Case, Draw, case

Pads = list[tuple[int, int]]


def convolved(x: np.ndarray, w: np.ndarray, strides: list[int], dilations: list[int], groups: int) -> np.ndarray:
    """x (N, C, ...) already padded, w (C_out, C / groups, ...); one entry of the kernel after the other."""
    out = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, d, s in zip(x.shape[2:], w.shape[2:], dilations, strides, strict=True)
    ]
    xs = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    ws = w.reshape(groups, -1, *w.shape[1:])
    total = np.zeros((x.shape[0], groups, ws.shape[1], *out))
    for place in np.ndindex(*w.shape[2:]):
        part = tuple(
            slice(p * d, p * d + (o - 1) * s + 1, s)
            for p, d, o, s in zip(place, dilations, out, strides, strict=True)
        )
        total += np.einsum("ngc...,goc->ngo...", xs[(..., *part)], ws[(..., *place)])
    return total.reshape(x.shape[0], w.shape[0], *out)


def spread(x: np.ndarray, w: np.ndarray, strides: list[int], dilations: list[int], groups: int) -> np.ndarray:
    """The transposed convolution in full: x (N, C, ...), w (C, C_out / groups, ...)."""
    out = [
        (n - 1) * s + (k - 1) * d + 1
        for n, k, d, s in zip(x.shape[2:], w.shape[2:], dilations, strides, strict=True)
    ]
    xs = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    ws = w.reshape(groups, -1, *w.shape[1:])
    total = np.zeros((x.shape[0], groups, w.shape[1], *out))
    for place in np.ndindex(*w.shape[2:]):
        part = tuple(
            slice(p * d, p * d + (n - 1) * s + 1, s)
            for p, d, n, s in zip(place, dilations, x.shape[2:], strides, strict=True)
        )
        total[(..., *part)] += np.einsum("ngc...,gco->ngo...", xs, ws[(..., *place)])
    return total.reshape(x.shape[0], groups * w.shape[1], *out)


def same_pads(sizes: tuple[int, ...], extent: list[int], strides: list[int], *, lower: bool) -> Pads:
    """So that the result has size / stride entries, rounded up."""
    pads = []
    for n, k, s in zip(sizes, extent, strides, strict=True):
        total = max(0, (math.ceil(n / s) - 1) * s + k - n)
        less, more = total // 2, math.ceil(total / 2)
        pads.append((more, less) if lower else (less, more))
    return pads


def padding(draw: Draw, sizes: tuple[int, ...], extent: list[int], strides: list[int]) -> tuple[str, Pads]:
    """A padding type that the operation set has, and what it comes to."""
    kind = draw.of("valid", "custom", "same", *(("same_lower",) if draw.version >= 16 else ()))
    if kind == "valid":
        return kind, [(0, 0)] * len(sizes)
    if kind == "custom":
        return kind, [(draw.int(0, k - 1), draw.int(0, k - 1)) for k in extent]
    return kind, same_pads(sizes, extent, strides, lower=kind == "same_lower")


def stated(kind: str, pads: Pads) -> dict[str, Any]:
    extra = {"pad": np.array(pads, np.int32).reshape(-1)} if kind == "custom" else {}
    return {"pad_type": kind, **extra}


@case("conv", "conv", "conv")
def conv(draw: Draw) -> Case:
    axes, groups = draw.of(1, 2, 2, 3), draw.of(1, 1, 2, 3)
    c, o = groups * draw.int(1, 2), groups * draw.int(1, 2)
    sizes = draw.shape(axes, 5, 7)
    kernel, strides, dilations = (list(draw.shape(axes, 1, high)) for high in (3, 2, 2))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    kind, pads = padding(draw, sizes, extent, strides)
    x, w = draw.floats((draw.int(1, 2), c, *sizes), -1, 1), draw.floats((o, c // groups, *kernel), -1, 1)
    bias = draw.floats((o,), -1, 1) if draw.bool() else None
    expected = convolved(np.pad(x, [(0, 0), (0, 0), *pads]), w, strides, dilations, groups)
    if bias is not None:
        expected += bias.reshape(-1, *[1] * axes)
    more = stated(kind, pads) | ({} if bias is None else {"bias": draw.const(bias)})

    def build(mb: Any, v: Any) -> Any:
        return mb.conv(x=v, weight=draw.const(w), strides=strides, dilations=dilations, groups=groups, **more)

    return Case((x,), build, (expected,))


@case("conv_transpose", "conv_transpose")
def conv_transpose(draw: Draw) -> Case:
    axes, groups = draw.of(1, 2, 2, 3), draw.of(1, 1, 2)
    c, o = groups * draw.int(1, 2), draw.int(1, 2)
    sizes = draw.shape(axes, 3, 5)
    kernel, strides, dilations = (list(draw.shape(axes, low, high)) for low, high in ((2, 4), (1, 2), (1, 2)))
    x, w = draw.floats((draw.int(1, 2), c, *sizes), -1, 1), draw.floats((c, o, *kernel), -1, 1)
    bias = draw.floats((o * groups,), -1, 1) if draw.bool() else None
    full = spread(x, w, strides, dilations, groups)
    more: dict[str, Any] = {} if bias is None else {"bias": draw.const(bias)}
    if draw.bool():
        pads = [(draw.int(0, 1), draw.int(0, 1)) for _ in range(axes)]
        more |= stated("custom", pads)
        full = full[(..., *(slice(a, n - b) for (a, b), n in zip(pads, full.shape[2:], strict=True)))]
    if bias is not None:
        full = full + bias.reshape(-1, *[1] * axes)

    def build(mb: Any, v: Any) -> Any:
        return mb.conv_transpose(
            x=v, weight=draw.const(w), strides=strides, dilations=dilations, groups=groups, **more
        )

    return Case((x,), build, (full,))


@case("conv_transpose")
def conv_transpose_output_padding(draw: Draw) -> Case:
    """As torch's ``output_padding`` is written: more cut in front than behind, the shape stated."""
    stride, k, p = 2, draw.int(2, 4), draw.int(0, 1)
    x, w = draw.floats((1, 2, 4, 5), -1, 1), draw.floats((2, 3, k, k), -1, 1)
    full = spread(x, w, [stride] * 2, [1, 1], 1)
    behind = draw.int(0, p)
    kept = full[:, :, p : full.shape[2] - behind, p : full.shape[3] - behind]

    def build(mb: Any, v: Any) -> Any:
        return mb.conv_transpose(
            x=v,
            weight=draw.const(w),
            strides=[stride] * 2,
            pad_type="custom",
            pad=[p, behind] * 2,
            output_shape=np.array(kept.shape, np.int32),
        )

    return Case((x,), build, (kept,))


@case("max_pool", "avg_pool", "l2_pool", "max_pool", "avg_pool")
def pool(draw: Draw) -> Case:
    op = draw.of("max_pool", "avg_pool", "l2_pool")
    axes = draw.of(1, 2, 2) if op == "l2_pool" else draw.of(1, 2, 2, 3)
    sizes = draw.shape(axes, 5, 8)
    kernel = list(draw.shape(axes, 2, 3))
    strides = [draw.int(1, k) for k in kernel]
    kind, pads = padding(draw, sizes, kernel, strides)
    ceil = op != "l2_pool" and axes < 3 and kind in ("valid", "custom") and draw.bool()
    if ceil:
        pads = [(min(a, k // 2), min(a, k // 2)) for (a, _), k in zip(pads, kernel, strict=True)]
    exclude = draw.bool()
    x = draw.floats((draw.int(1, 2), draw.int(1, 3), *sizes))
    expected = pooled(x, op, kernel, strides, pads, ceil=ceil, exclude=exclude)
    more = stated(kind, pads) | ({"exclude_padding_from_average": exclude} if op == "avg_pool" else {})
    if op != "l2_pool":
        more["ceil_mode"] = ceil
    return Case(
        (x,), lambda mb, v: getattr(mb, op)(x=v, kernel_sizes=kernel, strides=strides, **more), (expected,)
    )


def pooled(
    x: np.ndarray, op: str, kernel: list[int], strides: list[int], pads: Pads, *, ceil: bool, exclude: bool
) -> np.ndarray:
    """Window by window, with torch's rules for what hangs over."""
    out = []
    for n, k, s, (a, b) in zip(x.shape[2:], kernel, strides, pads, strict=True):
        length = (math.ceil if ceil else math.floor)((n + a + b - k) / s) + 1
        out.append(length - 1 if ceil and (length - 1) * s >= n + a else length)
    result = np.zeros((*x.shape[:2], *out))
    for place in np.ndindex(*out):
        starts = [p * s - a for p, s, (a, _) in zip(place, strides, pads, strict=True)]
        inside = tuple(slice(max(0, f), max(0, f + k)) for f, k in zip(starts, kernel, strict=True))
        # Padding counts as zeros in the average, but what lies behind the padding does not.
        padded = [min(f + k, n + b) - f for f, k, n, (_, b) in zip(starts, kernel, x.shape[2:], pads, strict=True)]
        window = x[(..., *inside)].reshape(*x.shape[:2], -1)
        if op == "max_pool":
            result[(..., *place)] = window.max(-1)
        elif op == "avg_pool":
            result[(..., *place)] = window.sum(-1) / (window.shape[-1] if exclude else math.prod(padded))
        else:
            result[(..., *place)] = np.sqrt((window * window).sum(-1))
    return result


@case("batch_norm", "instance_norm")
def channel_norm(draw: Draw) -> Case:
    axes, affine = draw.int(1, 2), draw.bool()
    shape = (draw.int(1, 2), draw.int(1, 3), *draw.shape(axes, 2, 5))
    wide = (1, shape[1], *[1] * axes)
    x, epsilon = draw.floats(shape), draw.number(0.0625, 0.25)
    gamma, beta = draw.floats(shape[1:2]), draw.floats(shape[1:2])
    more = {"gamma": draw.const(gamma), "beta": draw.const(beta)} if affine else {}
    if draw.bool():
        mean, variance = draw.floats(shape[1:2]), draw.floats(shape[1:2], 0.25, 4)
        op, more = "batch_norm", more | {"mean": draw.const(mean), "variance": draw.const(variance)}
        mean, variance = mean.reshape(wide), variance.reshape(wide)
    else:
        op, over = "instance_norm", tuple(range(2, len(shape)))
        mean, variance = x.mean(over, keepdims=True), x.var(over, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + epsilon)
    if affine:
        expected = expected * gamma.reshape(wide) + beta.reshape(wide)
    return Case((x,), lambda mb, v: getattr(mb, op)(x=v, epsilon=draw.const(epsilon), **more), (expected,))


@case("layer_norm")
def layer_norm(draw: Draw) -> Case:
    x, epsilon = draw.floats(draw.shape(draw.int(1, 4), 2, 5)), draw.number(0.0625, 0.25)
    axes = list(range(draw.int(0, x.ndim - 1), x.ndim)) if draw.bool() else [draw.int(0, x.ndim - 1)]
    gamma, beta = (draw.floats(tuple(x.shape[i] for i in axes)) for _ in range(2))
    wide = [x.shape[i] if i in axes else 1 for i in range(x.ndim)]
    mean, variance = x.mean(tuple(axes), keepdims=True), x.var(tuple(axes), keepdims=True)
    expected = (x - mean) / np.sqrt(variance + epsilon)
    more: dict[str, Any] = {}
    if draw.bool():
        expected = expected * gamma.reshape(wide) + beta.reshape(wide)
        more = {"gamma": draw.const(gamma), "beta": draw.const(beta)}
    stated_axes = [axis - x.ndim for axis in axes] if draw.bool() else axes
    return Case(
        (x,), lambda mb, v: mb.layer_norm(x=v, axes=stated_axes, epsilon=draw.const(epsilon), **more), (expected,)
    )


@case("l2_norm")
def l2_norm(draw: Draw) -> Case:
    x, epsilon = draw.floats(draw.shape(draw.int(3, 5), 1, 4)), draw.number(0.0625, 0.25)
    expected = np.empty_like(x)
    for place in np.ndindex(*x.shape[:-3]):
        expected[place] = x[place] / math.sqrt((x[place] ** 2).sum() + epsilon)
    return Case((x,), lambda mb, v: mb.l2_norm(x=v, epsilon=draw.const(epsilon)), (expected,))


@case("local_response_norm")
def local_response_norm(draw: Draw) -> Case:
    x, size = draw.floats(draw.shape(4, 2, 5)), draw.of(1, 3, 5)
    alpha, beta, k = draw.number(0.25, 1), draw.number(0.25, 1), draw.number(1, 2)
    expected = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - size // 2) : c + size // 2 + 1]
        expected[:, c] = x[:, c] / (k + alpha / size * (near**2).sum(1)) ** beta

    def build(mb: Any, v: Any) -> Any:
        return mb.local_response_norm(
            x=v, size=size, alpha=draw.const(alpha), beta=draw.const(beta), k=draw.const(k)
        )

    return Case((x,), build, (expected,))


@case("linear")
def linear(draw: Draw) -> Case:
    x = draw.floats(draw.shape(draw.int(1, 3)), -1, 1)
    w, bias = draw.floats((draw.int(1, 5), x.shape[-1]), -1, 1), None
    expected = np.einsum("...i,oi->...o", x, w)
    if draw.bool():
        bias = draw.floats(w.shape[:1], -1, 1)
        expected = expected + bias
    more = {} if bias is None else {"bias": draw.const(bias)}
    return Case((x,), lambda mb, v: mb.linear(x=v, weight=draw.const(w), **more), (expected,))


@case("matmul", "matmul")
def matmul(draw: Draw) -> Case:
    lead, (m, k, n) = draw.shape(draw.int(0, 3), 1, 3), draw.shape(3)
    other = tuple(1 if draw.int(0, 2) == 0 else size for size in lead[draw.int(0, len(lead)) :])
    flip_x, flip_y = draw.bool(), draw.bool()
    x, y = draw.floats((*lead, m, k), -1, 1), draw.floats((*other, k, n), -1, 1)
    expected = np.einsum("...mk,...kn->...mn", x, y)
    x, y = (x.swapaxes(-1, -2) if flip_x else x), (y.swapaxes(-1, -2) if flip_y else y)
    how = {"transpose_x": flip_x, "transpose_y": flip_y}
    if draw.bool():
        return Case((x,), lambda mb, v: mb.matmul(x=v, y=draw.const(y), **how), (expected,))
    return Case((x, y), lambda mb, v, w: mb.matmul(x=v, y=w, **how), (expected,))


@case("einsum")
def einsum(draw: Draw) -> Case:
    b, c, h, w, u = draw.shape(5)
    one, two = (1 if draw.int(0, 2) == 0 else h for _ in range(2))
    x, y = draw.floats((b, c, one, w), -1, 1), draw.floats((b, w, two, u), -1, 1)
    equation = draw.of("nchw,nwhu->nchu", "abcd,adce->abce")
    if draw.bool():
        x, y, equation = x[0], y[0], draw.of("chw,whr->chr", "abc,cbd->abd")
    high = max(one, two)
    wide_x, wide_y = (np.repeat(v, high, -2) if v.shape[-2] == 1 else v for v in (x, y))
    expected = np.einsum(equation, wide_x, wide_y)
    return Case((x, y), lambda mb, v, t: mb.einsum(values=(v, t), equation=equation), (expected,))


@case("scaled_dot_product_attention", "scaled_dot_product_attention")
def attention(draw: Draw) -> Case | None:
    if draw.version < 18:
        return None
    lead, (n, s, e, f) = draw.shape(draw.int(1, 2), 1, 3), draw.shape(4)
    query, key, value = (draw.floats((*lead, *rest), -1, 1) for rest in ((n, e), (s, e), (s, f)))
    scores = np.einsum("...le,...se->...ls", query, key) / math.sqrt(e)
    kind, given = draw.of("none", "real", "choice"), [query, key, value]
    if kind == "real":
        given.append(draw.floats((n, s), -1, 1))
        scores = scores + given[-1]
    elif kind == "choice":
        keep = draw.ints((n, s), 0, 1).astype(bool)
        keep[:, 0] = True
        given.append(keep)
        scores = np.where(keep, scores, -np.inf)
    powers = np.exp(scores)
    expected = np.einsum("...ls,...sf->...lf", powers / powers.sum(-1, keepdims=True), value)

    def build(mb: Any, q: Any, k: Any, v: Any, *mask: Any) -> Any:
        more = {"attn_mask": mask[0]} if mask else {}
        return mb.scaled_dot_product_attention(query=q, key=k, value=v, **more)

    return Case(tuple(given), build, (expected,), repeats=kind == "choice")


def grid(old: int, new: int, mode: str) -> np.ndarray:
    """Where each output entry lies on the input's axis, as the definition of ``resize_bilinear`` writes it."""
    i = np.arange(new)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if new == 1:
            return np.array([(old - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        spots = i * (old - 1) / (new - 1)
    elif mode == "DEFAULT":
        spots = i * (old - old / new) / max(1, new - 1)
    elif mode == "OFFSET_CORNERS":
        delta = max(1, old - 1) / new
        spots = 0.5 * delta + i * delta
    else:
        spacing = old / new
        spots = i * spacing + 0.5 * spacing - 0.5
    return np.minimum(old - 1, np.maximum(0, spots))


def interpolated(x: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    for axis, new in ((-2, size[0]), (-1, size[1])):
        old, lines = x.shape[axis], np.moveaxis(x, axis, 0)
        spots = grid(old, new, mode)
        made = [np.interp(spots, np.arange(old), line) for line in lines.reshape(old, -1).T]
        x = np.moveaxis(np.stack(made, -1).reshape(new, *lines.shape[1:]), 0, axis)
    return x


@case("resize_bilinear", "resize_bilinear")
def resize_bilinear(draw: Draw) -> Case:
    x, size = draw.floats(draw.shape(draw.int(3, 4), 1, 5)), (draw.int(1, 7), draw.int(1, 7))
    mode = draw.of("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")

    def build(mb: Any, v: Any) -> Any:
        return mb.resize_bilinear(x=v, target_size_height=size[0], target_size_width=size[1], sampling_mode=mode)

    return Case((x,), build, (interpolated(x, size, mode),))


@case("upsample_bilinear")
def upsample_bilinear(draw: Draw) -> Case:
    x, factors = draw.floats(draw.shape(4, 1, 4)), (draw.int(1, 3), draw.int(1, 3))
    size = x.shape[2] * factors[0], x.shape[3] * factors[1]
    align = draw.bool()
    half = not align and (draw.version < 16 or draw.bool())
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half else "DEFAULT"
    how = {"align_corners": align} | ({"half_pixel_centers": half} if draw.version >= 16 else {})

    def build(mb: Any, v: Any) -> Any:
        return mb.upsample_bilinear(x=v, scale_factor_height=factors[0], scale_factor_width=factors[1], **how)

    return Case((x,), build, (interpolated(x, size, mode),))


@case("upsample_nearest_neighbor", "resize_nearest_neighbor")
def nearest(draw: Draw) -> Case:
    x, factors = draw.floats(draw.shape(4, 1, 4)), (draw.int(1, 3), draw.int(1, 3))
    expected = x.repeat(factors[0], 2).repeat(factors[1], 3)
    if draw.bool():
        how = {"scale_factor_height": factors[0], "scale_factor_width": factors[1]}
        return Case((x,), lambda mb, v: mb.upsample_nearest_neighbor(x=v, **how), (expected,))
    height, width = expected.shape[2:]
    return Case(
        (x,),
        lambda mb, v: mb.resize_nearest_neighbor(x=v, target_size_height=height, target_size_width=width),
        (expected,),
    )


@case("resize")
def resize(draw: Draw) -> Case | None:
    if draw.version < 17:
        return None
    x, dims = draw.floats(draw.shape(4, 1, 5)), draw.int(1, 2)
    size = [draw.int(0, 6) for _ in range(dims)]  # 0 keeps a size
    full = tuple(new or old for new, old in zip(([0] * (2 - dims)) + size, x.shape[2:], strict=True))
    mode = draw.of("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")
    expected = interpolated(x, (full[0], full[1]), mode)
    if dims == 1:  # the other axis is not touched, whatever its sampling would do
        expected = np.stack(
            [interpolated(row[..., None, :], (1, full[1]), mode)[..., 0, :] for row in np.moveaxis(x, 2, 0)], 2
        )

    def build(mb: Any, v: Any) -> Any:
        return mb.resize(
            x=v,
            shape=np.array(size, np.int32),
            resized_dims=np.uint32(dims),
            interpolation_mode="LINEAR",
            sampling_mode=mode,
        )

    return Case((x,), build, (expected,))


@case("quantize", "dequantize")
def quantization(draw: Draw) -> Case | None:
    """There and back: what lies between are whole numbers of 8 bits."""
    if draw.version < 17:
        return None
    x, name = draw.floats(draw.shape(4, 1, 4), -8, 8), draw.of("int8", "uint8")
    low, high, kind = (-128, 127, np.int8) if name == "int8" else (0, 255, np.uint8)
    per_channel, axis = draw.bool(), draw.int(0, 3)
    size = (x.shape[axis],) if per_channel else ()
    scale = 2.0 ** draw.ints(size, -4, -2)
    zero = draw.ints(size, low + 100, high - 100)
    wide = [-1 if i == axis else 1 for i in range(4)] if per_channel else []
    steps = np.clip(np.round(x / scale.reshape(wide)) + zero.reshape(wide), low, high)
    expected = (steps - zero.reshape(wide)) * scale.reshape(wide)
    how: dict[str, Any] = {"scale": draw.const(scale), "zero_point": zero.astype(kind)[()]}
    how |= {"axis": axis} if per_channel else {}

    def build(mb: Any, v: Any) -> Any:
        quantized = mb.quantize(input=v, output_dtype=name, **how)
        return mb.cast(x=quantized, dtype="int32"), mb.dequantize(input=quantized, **how)

    return Case((x,), build, (steps.astype(np.int32), expected))
