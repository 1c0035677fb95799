"""What a package says of itself: its image, its classes, its author; light to import."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from evit_converters.errors import InterfaceError

INPUT_NAME = "image"
LABEL_NAME = "classLabel"
LABELS_KEY = "labels"
PREVIEW_KEY = "com.apple.coreml.model.preview.type"


class OutputKind(StrEnum):
    """What a package answers with."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"


@dataclass(frozen=True)
class Interface:
    """Input, output and description of a package.

    Attributes:
        image_size: Side of the square RGB image in pixels.
        mean: Mean of R, G and B, of values scaled to 0..1.
        std: Standard deviation of R, G and B, of values scaled to 0..1, positive.
        labels: Names of the classes in the order of the network's output, or none. For probabilities no name may
            come twice.
        output_kind: Probabilities (a dictionary by label if there are labels) or logits (an array).
        name: Name of the model.
        description: What it is for, in a sentence.
        author: Who made it.
        license: Under which terms it may be used.
        version: Version of the model.
        user_defined: Further metadata for the file; keys of ``com.apple`` and ``labels`` are written here.
    """

    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    labels: Sequence[str] = ()
    output_kind: OutputKind = OutputKind.PROBABILITIES
    name: str = ""
    description: str = ""
    author: str = ""
    license: str = ""
    version: str = ""
    user_defined: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no package can say."""
        if self.image_size < 1:
            raise InterfaceError(f"an image of {self.image_size} pixels given; its side must be 1 or more")
        _check_normalisation(self.mean, self.std)
        _check_labels(self.labels, by_name=self.output_kind is OutputKind.PROBABILITIES)
        if reserved := sorted({LABELS_KEY, PREVIEW_KEY} & set(self.user_defined)):
            raise InterfaceError(f"user-defined metadata {reserved} given; these are written from the interface")

    @property
    def score_name(self) -> str:
        """Name of the output with the scores."""
        if self.output_kind is OutputKind.LOGITS:
            return "logits"
        return "classLabel_probs" if self.labels else "probabilities"


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    if len(mean) != 3 or len(std) != 3:
        raise InterfaceError(f"mean {tuple(mean)} and std {tuple(std)} given; three values each are needed")
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise InterfaceError(f"mean {tuple(mean)} and std {tuple(std)} given; finite, and std positive")


def _check_labels(labels: Sequence[str], *, by_name: bool) -> None:
    if "" in (label.strip() for label in labels):
        raise InterfaceError("an empty label given; each class needs a name")
    if by_name and (twice := [label for label, times in Counter(labels).items() if times > 1]):
        raise InterfaceError(
            f"{len(twice)} labels given more than once, the first is {twice[0]!r}; Core ML keeps probabilities "
            "by label: give each class a name of its own, or ask for logits"
        )
