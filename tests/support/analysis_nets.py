"""Networks whose analysis is known beforehand, as ``MODULE:FUNCTION`` takes them."""

import torch
from torch import Tensor, nn

from evit_edge.analysis.layout_nets import LayoutConfig, PlainTransformer


class Copies(nn.Module):
    """Copies its input again and again."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(8):
            x = x.clone()
        return x


def copies() -> nn.Module:
    return Copies()


def duplicated_head() -> nn.Module:
    """In every attention the second of three heads asks and answers as the first does."""
    torch.manual_seed(0)
    net = PlainTransformer(LayoutConfig(width=48, layers=4, attention_layers=2, image_size=64, num_classes=4))
    with torch.no_grad():
        for attention in (layer for layer in net.layers if hasattr(layer, "qkv")):
            attention.qkv.weight.normal_(0, 1)
            rows = attention.qkv.weight.view(3, 3, 16, 48)  # q, k, v; head; channel of it; channel
            biases = attention.qkv.bias.view(3, 3, 16)
            rows[:2, 1], biases[:2, 1] = rows[:2, 0], biases[:2, 0]
    return net


class Encoder(nn.Module):
    """PyTorch's own encoder layer, whose heads lie in the first dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 16, stride=16)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1)


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return Encoder()


class Weighing(nn.Module):
    """Attention of eight heads, whose weights are asked for, and of one."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 16, stride=16)
        self.many = nn.MultiheadAttention(32, 8, batch_first=True)
        self.single = nn.MultiheadAttention(32, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)  # (N, tokens, 32)
        for attention in (self.many, self.single):
            x, _ = attention(x, x, x)
        return x.mean(1)


def weighing() -> nn.Module:
    torch.manual_seed(0)
    return Weighing()


def number() -> int:
    return 7


def broken() -> nn.Module:
    raise ValueError("out of nets")
