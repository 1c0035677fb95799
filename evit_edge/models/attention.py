"""Cascaded group attention inside windows (section 3.1, equations 2 and 3). NCHW."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_edge.models.design import AttentionShape, HeadInput
from evit_edge.models.layers import ConvNorm


def relative_offset_index(window: int) -> Tensor:
    """Row of the bias table for each pair of tokens of a window.

    Biases are shared by pairs with the same absolute offset (dy, dx), numbered ``dy * window + dx``.

    Returns:
        int64 (window*window, window*window).
    """
    axis = torch.arange(window)
    offset = (axis[:, None] - axis[None, :]).abs()  # (w, w)
    index = offset[:, None, :, None] * window + offset[None, :, None, :]  # (w, w, w, w)
    return index.reshape(window * window, window * window)


class Placement(nn.Module):
    """Put the channels that pruning left of a head's output where they stood, zeros between them."""

    index: Tensor

    def __init__(self, width: int, split: int) -> None:
        super().__init__()
        self.split = split
        self.register_buffer("index", torch.arange(width))  # pruning writes others, ascending

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, w, w) to (B, split, w, w)."""
        placed = x.new_zeros(x.shape[0], self.split, *x.shape[2:])
        return placed.index_copy(1, self.index, x)  # (B, split, w, w)


class CascadedGroupAttention(nn.Module):
    """Each head attends over its own split of the channels, to which the head before adds its output.

    Equation 2: head j computes Attn(X_j Wq, X_j Wk, X_j Wv) on split X_j, and the heads are concatenated and
    projected. Equation 3: X'_j = X_j + head_(j-1). The query of each head passes a depthwise convolution. Ablated
    nets differ in what a head sees, in widths, and in that convolution.
    """

    attention_bias_idxs: Tensor

    def __init__(self, shape: AttentionShape) -> None:
        super().__init__()
        self.shape = shape
        self.qkvs = nn.ModuleList(ConvNorm(shape.seen, sum(self.parts(i))) for i in range(shape.heads))
        self.dws = nn.ModuleList(
            ConvNorm(key, key, kernel, groups=key)
            for key, kernel in zip(shape.keys, shape.kernels, strict=False)  # no kernels: no convolutions
        )
        self.proj = nn.Sequential(nn.ReLU(), ConvNorm(sum(shape.values), shape.dim, gamma=0.0))
        self.attention_biases = nn.Parameter(torch.zeros(shape.heads, shape.window**2))
        self.register_buffer("attention_bias_idxs", relative_offset_index(shape.window), persistent=False)
        cascade = shape.head_input is HeadInput.CASCADE
        self.placements = nn.ModuleList(
            nn.Identity() if value == shape.split else Placement(value, shape.split)
            for value in (shape.values[:-1] if cascade else ())
        )

    def parts(self, head: int) -> tuple[int, int, int]:
        """Channels of a head's query, key and value."""
        key = self.shape.keys[head]
        return key, key, self.shape.values[head]

    def head_inputs(self, x: Tensor, dim: int = 1) -> tuple[Tensor, ...]:
        """What each head sees of the input, the cascade left out.

        Args:
            x: Of any shape.
            dim: Its axis of channels.
        """
        heads = self.shape.heads
        return (x,) * heads if self.shape.head_input is HeadInput.FULL else x.chunk(heads, dim=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within one window; shape (B, C, w, w) in and out."""
        batch, _, height, width = x.shape
        bias = self.attention_biases[:, self.attention_bias_idxs]  # (heads, S, S), S = w*w
        outputs: list[Tensor] = []
        for i, feature in enumerate(self.head_inputs(x)):  # (B, seen, w, w)
            if i and self.placements:
                # Equation 3. A sum takes its first operand's memory layout: this order rounds as timm's does.
                feature = self.placements[i - 1](outputs[-1]) + feature  # noqa: PLW2901
            q, k, v = self.qkvs[i](feature).split(self.parts(i), dim=1)  # (B, dk or dv, w, w)
            if self.dws:
                q = self.dws[i](q)  # (B, dk, w, w)
            q = q.flatten(2) * self.shape.scale  # (B, dk, S)
            attention = q.transpose(1, 2) @ k.flatten(2) + bias[i]  # (B, S, S)
            attention = attention.softmax(dim=-1)
            output = v.flatten(2) @ attention.transpose(1, 2)  # (B, dv, S)
            outputs.append(output.reshape(batch, -1, height, width))  # (B, dv, w, w)
        return self.proj(torch.cat(outputs, dim=1))  # (B, C, w, w)


class WindowAttention(nn.Module):
    """Cut the plane into windows (zero-padded to a multiple), attend in each, put them together again."""

    def __init__(self, shape: AttentionShape) -> None:
        super().__init__()
        self.window = shape.window
        self.attn = CascadedGroupAttention(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        batch, channels, height, width = x.shape
        w = self.window
        if height == w and width == w:
            return self.attn(x)
        rows, columns = -(-height // w), -(-width // w)
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = F.pad(x, (0, 0, 0, columns * w - width, 0, rows * w - height))  # (B, rows*w, columns*w, C)
        x = x.reshape(batch, rows, w, columns, w, channels).transpose(2, 3)  # (B, rows, columns, w, w, C)
        x = self.attn(x.reshape(-1, w, w, channels).permute(0, 3, 1, 2))  # (B*rows*columns, C, w, w)
        x = x.permute(0, 2, 3, 1).reshape(batch, rows, columns, w, w, channels)  # (B, rows, columns, w, w, C)
        x = x.transpose(2, 3).reshape(batch, rows * w, columns * w, channels)  # (B, rows*w, columns*w, C)
        return x[:, :height, :width].permute(0, 3, 1, 2)  # (B, C, H, W)
