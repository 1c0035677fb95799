"""Cascaded group attention inside windows (section 3.1, equations 2 and 3). NCHW."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class CascadedGroupAttention(nn.Module):
    """Each head attends over its own split of the channels, to which the head before adds its output.

    Equation 2: head j computes Attn(X_j Wq, X_j Wk, X_j Wv) on split X_j, and the heads are concatenated and
    projected. Equation 3: X'_j = X_j + head_(j-1). The query of each head passes a depthwise convolution.
    """

    attention_bias_idxs: Tensor

    def __init__(self, dim: int, key_dim: int, num_heads: int, window: int, kernel_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.key_dim = key_dim
        self.value_dim = dim // num_heads
        self.window = window
        self.scale = key_dim**-0.5
        self.qkvs = nn.ModuleList(ConvNorm(self.value_dim, 2 * key_dim + self.value_dim) for _ in range(num_heads))
        self.dws = nn.ModuleList(
            ConvNorm(key_dim, key_dim, kernel_sizes[i], groups=key_dim) for i in range(num_heads)
        )
        self.proj = nn.Sequential(nn.ReLU(), ConvNorm(dim, dim, gamma=0.0))
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window * window))
        self.register_buffer("attention_bias_idxs", relative_offset_index(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within one window; shape (B, C, w, w) in and out."""
        batch, _, height, width = x.shape
        bias = self.attention_biases[:, self.attention_bias_idxs]  # (heads, S, S), S = w*w
        outputs: list[Tensor] = []
        for i, split in enumerate(x.chunk(len(self.qkvs), dim=1)):
            # Equation 3. A sum takes its first operand's memory layout: this order rounds as timm's does.
            feature = split if i == 0 else outputs[-1] + split  # (B, dv, w, w)
            q, k, v = self.qkvs[i](feature).split((self.key_dim, self.key_dim, self.value_dim), dim=1)
            q = self.dws[i](q).flatten(2) * self.scale  # (B, dk, S)
            attention = q.transpose(1, 2) @ k.flatten(2) + bias[i]  # (B, S, S)
            attention = attention.softmax(dim=-1)
            output = v.flatten(2) @ attention.transpose(1, 2)  # (B, dv, S)
            outputs.append(output.reshape(batch, self.value_dim, height, width))  # (B, dv, w, w)
        return self.proj(torch.cat(outputs, dim=1))  # (B, C, w, w)


class WindowAttention(nn.Module):
    """Cut the plane into windows (zero-padded to a multiple), attend in each, put them together again."""

    def __init__(
        self,
        dim: int,
        key_dim: int,
        num_heads: int,
        resolution: int,
        window_size: int,
        kernels: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.window = min(window_size, resolution)
        self.attn = CascadedGroupAttention(dim, key_dim, num_heads, self.window, kernels)

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
