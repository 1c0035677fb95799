"""Padding types of convolutions and poolings.

Source: coremltools' ``conv``, ``avg_pool`` and ``_utils.aggregated_pad``.
"""

from __future__ import annotations

from evit_edge.runtime.coreml.ops.registry import Call

TYPES = ("valid", "same", "same_lower", "custom")


def before_and_after(
    call: Call, sizes: tuple[int, ...], kernel: list[int], strides: list[int], default: str | None
) -> list[tuple[int, int]]:
    """Entries to add on both sides of each spatial axis.

    Args:
        call: With ``pad_type`` and, for ``custom``, ``pad``.
        sizes: Of the input's spatial axes.
        kernel: Extent of the window, dilation included.
        strides: Of the window.
        default: Padding type where the file gives none; None where it must.
    """
    kind = call.text("pad_type", default).lower()
    if kind not in TYPES:
        raise call.refusal(f"its pad_type is {kind!r}; {', '.join(TYPES)} are supported")
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        pad = call.ints("pad", [0] * (2 * len(sizes)))
        if len(pad) != 2 * len(sizes):
            raise call.refusal(f"its pad has {len(pad)} entries; {2 * len(sizes)} are needed")
        return list(zip(pad[::2], pad[1::2], strict=True))
    totals = [
        max(0, (-(-size // stride) - 1) * stride + extent - size)
        for size, extent, stride in zip(sizes, kernel, strides, strict=True)
    ]
    # An odd entry goes behind for "same" and in front for "same_lower".
    return [(t // 2, t - t // 2) if kind == "same" else (t - t // 2, t // 2) for t in totals]


def for_torch(pads: list[tuple[int, int]]) -> list[int]:
    """The same in the order of ``torch.nn.functional.pad``: last axis first."""
    return [entry for pair in reversed(pads) for entry in pair]
