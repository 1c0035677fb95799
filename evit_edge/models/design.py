"""What may differ between networks of one variant: design decisions and pruned widths. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from evit_edge.errors import RequestError


class Ablation(StrEnum):
    """One design decision of EfficientViT undone, all others kept (arXiv 2305.07027, section 4.4)."""

    SWIN_BLOCK = "swin-block"
    MHSA = "mhsa"
    NO_CASCADE = "no-cascade"
    EQUAL_QKV = "equal-qkv"
    FFN_RATIO_4 = "ffn-ratio-4"
    NO_QUERY_DEPTHWISE = "no-query-depthwise"
    NO_TOKEN_INTERACTION = "no-token-interaction"  # noqa: S105 - no password

    @property
    def meaning(self) -> str:
        """In words."""
        return _MEANINGS[self]


_MEANINGS = {
    Ablation.SWIN_BLOCK: "one FFN behind each attention, not one on each side; a block more in the first stage",
    Ablation.MHSA: "every head sees all channels; no cascade",
    Ablation.NO_CASCADE: "a head's output is not added to the next head's split",
    Ablation.EQUAL_QKV: "query and key as wide as the value",
    Ablation.FFN_RATIO_4: "FFNs four times as wide as their input, not twice",
    Ablation.NO_QUERY_DEPTHWISE: "no depthwise convolution on the query",
    Ablation.NO_TOKEN_INTERACTION: "no depthwise convolution in front of the FFNs",
}


class HeadInput(StrEnum):
    """What a head of attention sees."""

    CASCADE = "cascade"  # its split of the channels, the head before added (equation 3)
    SPLIT = "split"  # its split (equation 2)
    FULL = "full"  # all channels


@dataclass(frozen=True)
class AttentionShape:
    """Everything that decides the shape of one attention.

    Attributes:
        dim: Channels in and out.
        window: Side of the window in tokens.
        head_input: What each head sees.
        keys: Channels of query and key, for each head.
        values: Channels of value, for each head; at most :attr:`split`.
        kernels: Side of the depthwise convolution on the query, for each head; empty: there is none.
        scale: Factor on the product of query and key.
    """

    dim: int
    window: int
    head_input: HeadInput
    keys: tuple[int, ...]
    values: tuple[int, ...]
    kernels: tuple[int, ...]
    scale: float

    @property
    def heads(self) -> int:
        """Number of heads."""
        return len(self.keys)

    @property
    def split(self) -> int:
        """Channels of one split."""
        return self.dim // self.heads

    @property
    def seen(self) -> int:
        """Channels that a head sees."""
        return self.dim if self.head_input is HeadInput.FULL else self.split


@dataclass(frozen=True)
class PartWidths:
    """Channels that pruning left of one attention or feed-forward network.

    Attributes:
        part: Where it stands, such as ``stages.0.blocks.0.mixer`` or ``stages.1.downsample.res1.1``.
        keys: Of query and key for each head, for an attention.
        values: Of value for each head, for an attention.
        hidden: Between the two layers, for a feed-forward network.
    """

    part: str
    keys: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    hidden: int = 0

    def __post_init__(self) -> None:
        """It is one of the two, and nothing is empty."""
        if bool(self.keys) == bool(self.hidden) or len(self.keys) != len(self.values):
            raise RequestError(f"{self} given; keys and values of an attention's heads, or hidden, are needed")
        if min((self.hidden,) if self.hidden else (*self.keys, *self.values)) < 1:
            raise RequestError(f"{self} given; at least 1 channel is needed")
