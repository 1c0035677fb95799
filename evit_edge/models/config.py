"""The table of EfficientViT variants and what a network needs to be built. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from evit_edge.errors import RequestError

MIN_IMAGE_SIZE = 128
MAX_IMAGE_SIZE = 512


class OutputKind(StrEnum):
    """What a deployed network answers with."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"


@dataclass(frozen=True)
class EfficientViTConfig:
    """Everything that decides the shape of an EfficientViT.

    Source: arXiv 2305.07027, section 3.2 and table 1 (C, L, H); kernel sizes from the released models.

    Attributes:
        name: Variant, ``efficientvit_m0`` to ``efficientvit_m5``.
        embed_dims: Channels C of the three stages.
        depths: Sandwich blocks L of the three stages.
        num_heads: Attention heads H of the three stages.
        kernel_sizes: Side of the depthwise convolution on each head's query (head i uses entry i).
        key_dim: Channels of query and key in each head.
        window_size: Side of the attention window in tokens.
        ffn_ratio: Hidden over outer channels in a feed-forward network.
        num_classes: Outputs of the classifier.
        image_size: Side of the square input in pixels, 128 to 512.
    """

    name: str
    embed_dims: tuple[int, int, int]
    depths: tuple[int, int, int]
    num_heads: tuple[int, int, int]
    kernel_sizes: tuple[int, ...]
    key_dim: int = 16
    window_size: int = 7
    ffn_ratio: int = 2
    num_classes: int = 1000
    image_size: int = 224

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        if not MIN_IMAGE_SIZE <= self.image_size <= MAX_IMAGE_SIZE:
            raise RequestError(
                f"image size {self.image_size} given; {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels are accepted"
            )
        if self.num_classes < 1:
            raise RequestError(f"{self.num_classes} classes given; at least 1 is needed")
        for dim, heads in zip(self.embed_dims, self.num_heads, strict=True):
            if dim % heads or heads > len(self.kernel_sizes):
                raise RequestError(
                    f"{dim} channels do not split over {heads} heads with {len(self.kernel_sizes)} query kernels"
                )

    def adapted(self, *, num_classes: int | None = None, image_size: int | None = None) -> EfficientViTConfig:
        """The same network for other classes or another input size."""
        return replace(
            self,
            num_classes=self.num_classes if num_classes is None else num_classes,
            image_size=self.image_size if image_size is None else image_size,
        )

    @property
    def resolutions(self) -> tuple[int, int, int]:
        """Tokens along one side of each stage: four strided convolutions, then two subsampling blocks."""
        side = self.image_size
        for _ in range(4):
            side = halved(side)
        return side, halved(side), halved(halved(side))


@dataclass(frozen=True)
class PaperFigures:
    """What the paper's table 2 states for a variant at 224 px; shown beside ours, never as ours."""

    parameters_m: float
    mflops: int
    top1_percent: float
    v100_images_per_s: int


def halved(side: int) -> int:
    """Output side of a 3x3 convolution of stride 2 and padding 1."""
    return (side - 1) // 2 + 1


VARIANTS: dict[str, EfficientViTConfig] = {
    config.name: config
    for config in (
        EfficientViTConfig("efficientvit_m0", (64, 128, 192), (1, 2, 3), (4, 4, 4), (5, 5, 5, 5)),
        EfficientViTConfig("efficientvit_m1", (128, 144, 192), (1, 2, 3), (2, 3, 3), (7, 5, 3, 3)),
        EfficientViTConfig("efficientvit_m2", (128, 192, 224), (1, 2, 3), (4, 3, 2), (7, 5, 3, 3)),
        EfficientViTConfig("efficientvit_m3", (128, 240, 320), (1, 2, 3), (4, 3, 4), (5, 5, 5, 5)),
        EfficientViTConfig("efficientvit_m4", (128, 256, 384), (1, 2, 3), (4, 4, 4), (7, 5, 3, 3)),
        EfficientViTConfig("efficientvit_m5", (192, 288, 384), (1, 3, 4), (3, 3, 4), (7, 5, 3, 3)),
    )
}

PAPER_FIGURES: dict[str, PaperFigures] = {
    "efficientvit_m0": PaperFigures(2.3, 79, 63.3, 27644),
    "efficientvit_m1": PaperFigures(3.0, 167, 68.4, 20093),
    "efficientvit_m2": PaperFigures(4.2, 201, 70.8, 18218),
    "efficientvit_m3": PaperFigures(6.9, 263, 73.4, 16644),
    "efficientvit_m4": PaperFigures(8.8, 299, 74.3, 15914),
    "efficientvit_m5": PaperFigures(12.4, 522, 77.1, 10621),
}


def variant(name: str) -> EfficientViTConfig:
    """Look a variant up by name; ``m0`` is short for ``efficientvit_m0``.

    Raises:
        RequestError: There is no such variant.
    """
    full = name if name.startswith("efficientvit_") else f"efficientvit_{name}"
    if full not in VARIANTS:
        raise RequestError(f"no model named {name!r}; known are {', '.join(VARIANTS)}")
    return VARIANTS[full]
