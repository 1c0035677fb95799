"""The table of EfficientViT variants and what a network needs to be built. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from evit_edge.errors import RequestError
from evit_edge.models.design import Ablation, AttentionShape, HeadInput, PartWidths

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
        name: Variant, ``efficientvit_m0`` to ``efficientvit_m5``, with each ablation behind a ``+``.
        embed_dims: Channels C of the three stages.
        depths: Sandwich blocks L of the three stages.
        num_heads: Attention heads H of the three stages.
        kernel_sizes: Side of the depthwise convolution on each head's query (head i uses entry i).
        key_dim: Channels of query and key in each head.
        window_size: Side of the attention window in tokens.
        ffn_ratio: Hidden over outer channels in a feed-forward network.
        num_classes: Outputs of the classifier.
        image_size: Side of the square input in pixels, 128 to 512.
        ablations: Design decisions that are undone; see :meth:`ablated`.
        pruned: The parts that are narrower than the fields above say.
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
    ablations: tuple[Ablation, ...] = ()
    pruned: tuple[PartWidths, ...] = ()

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
        if {Ablation.MHSA, Ablation.NO_CASCADE} <= set(self.ablations):
            raise RequestError("mhsa and no-cascade given; heads that see all channels have no cascade: give one")
        self._check_pruned()

    def _check_pruned(self) -> None:
        full = {widths.part: widths for widths in replace(self, pruned=()).parts()} if self.pruned else {}
        for widths in self.pruned:
            whole = full.pop(widths.part, None)  # taken out: a part is named once
            if whole is None or len(whole.keys) != len(widths.keys):
                raise RequestError(f"{self.name} has no part like {widths}, or it is given twice")
            pairs = zip((*widths.keys, *widths.values), (*whole.keys, *whole.values), strict=True)
            if widths.hidden > whole.hidden or any(left > there for left, there in pairs):
                raise RequestError(f"{widths} given; {self.name} has {whole}, and pruning leaves no more")

    def adapted(self, *, num_classes: int | None = None, image_size: int | None = None) -> EfficientViTConfig:
        """The same network for other classes or another input size."""
        return replace(
            self,
            num_classes=self.num_classes if num_classes is None else num_classes,
            image_size=self.image_size if image_size is None else image_size,
        )

    def ablated(self, ablations: Iterable[Ablation]) -> EfficientViTConfig:
        """The same network with design decisions undone, besides those that are already.

        A Swin-like net has one block more in the first stage, to make up for its feed-forward networks.

        Raises:
            RequestError: They exclude each other, or the network is pruned.
        """
        chosen = {*self.ablations, *ablations}
        ordered = tuple(ablation for ablation in Ablation if ablation in chosen)
        if ordered == self.ablations:
            return self
        if self.pruned:
            raise RequestError(f"{self.name} is pruned; undo its design decisions first, then train and prune")
        base, depths = self.name.partition("+")[0], self.depths
        if Ablation.SWIN_BLOCK in chosen and self.sandwich:
            depths = (depths[0] + 1, depths[1], depths[2])
        return replace(self, name="+".join([base, *ordered]), depths=depths, ablations=ordered)

    @property
    def title(self) -> str:
        """Name for people: where it is pruned, it says so."""
        return f"{self.name}, pruned" if self.pruned else self.name

    @property
    def sandwich(self) -> bool:
        """A feed-forward network on both sides of each attention, not just behind it."""
        return Ablation.SWIN_BLOCK not in self.ablations

    @property
    def token_interaction(self) -> bool:
        """A depthwise convolution in front of each feed-forward network."""
        return Ablation.NO_TOKEN_INTERACTION not in self.ablations

    def attention(self, stage: int, part: str) -> AttentionShape:
        """The shape of the attention that stands at ``part``, in a stage (0 to 2)."""
        dim, heads = self.embed_dims[stage], self.num_heads[stage]
        key = dim // heads if Ablation.EQUAL_QKV in self.ablations else self.key_dim
        seen = {Ablation.MHSA: HeadInput.FULL, Ablation.NO_CASCADE: HeadInput.SPLIT}
        left = self._left(part)
        return AttentionShape(
            dim=dim,
            window=min(self.window_size, self.resolutions[stage]),
            head_input=next((seen[a] for a in self.ablations if a in seen), HeadInput.CASCADE),
            keys=left.keys if left else (key,) * heads,
            values=left.values if left else (dim // heads,) * heads,
            kernels=() if Ablation.NO_QUERY_DEPTHWISE in self.ablations else self.kernel_sizes[:heads],
            scale=key**-0.5,
        )

    def hidden(self, dim: int, part: str) -> int:
        """Hidden channels of the feed-forward network on ``dim`` channels that stands at ``part``."""
        left = self._left(part)
        ratio = 4 if Ablation.FFN_RATIO_4 in self.ablations else self.ffn_ratio
        return left.hidden if left else ratio * dim

    def _left(self, part: str) -> PartWidths | None:
        return next((widths for widths in self.pruned if widths.part == part), None)

    def parts(self) -> Iterator[PartWidths]:
        """Every attention and feed-forward network with its widths, in the order of execution."""
        for stage, dim in enumerate(self.embed_dims):
            if stage:
                for name, width in (("res1", self.embed_dims[stage - 1]), ("res2", dim)):
                    part = f"stages.{stage}.downsample.{name}.1"
                    yield PartWidths(part, hidden=self.hidden(width, part))
            for block in (f"stages.{stage}.blocks.{i}" for i in range(self.depths[stage])):
                if self.sandwich:
                    yield PartWidths(f"{block}.ffn0", hidden=self.hidden(dim, f"{block}.ffn0"))
                shape = self.attention(stage, f"{block}.mixer")
                yield PartWidths(f"{block}.mixer", keys=shape.keys, values=shape.values)
                yield PartWidths(f"{block}.ffn1", hidden=self.hidden(dim, f"{block}.ffn1"))

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


DEFAULT_VARIANT = "efficientvit_m0"
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
    """Look a variant up by name; ``m0`` is short for ``efficientvit_m0``, ``m0+mhsa`` is it with an ablation.

    Raises:
        RequestError: There is no such variant or ablation.
    """
    short, *ablations = name.split("+")
    full = short if short.startswith("efficientvit_") else f"efficientvit_{short}"
    if full not in VARIANTS:
        raise RequestError(f"no model named {name!r}; known are {', '.join(VARIANTS)}")
    return VARIANTS[full].ablated(parse_ablations(ablations))


def parse_ablations(names: Iterable[str]) -> tuple[Ablation, ...]:
    """Look ablations up by name.

    Raises:
        RequestError: There is no such ablation.
    """
    found = []
    for name in names:
        if name not in set(Ablation):
            raise RequestError(f"no ablation named {name!r}; known are {', '.join(Ablation)}")
        found.append(Ablation(name))
    return tuple(found)
