"""Any image classifier behind the artefact's contract: uint8 NHWC in, normalisation and softmax inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from evit_converters.errors import ModuleError


class ImageClassifier(nn.Module):
    """A classifier on normalised NCHW images, made to take photos as they are.

    Args:
        module: Float (1, 3, H, W), normalised, to logits (1, classes).
        image_size: Height and width of the input in pixels.
        mean: Mean of R, G and B, of values scaled to 0..1.
        std: Standard deviation of R, G and B, of values scaled to 0..1, positive.
        softmax: Whether to answer with probabilities; else the logits.

    Input: uint8 (1, H, W, 3). Output: float32 (1, classes).

    Raises:
        ModuleError: ``mean`` or ``std`` are not three numbers, ``std`` is not positive, or the size is not.
    """

    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        module: nn.Module,
        *,
        image_size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        softmax: bool = True,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ModuleError(f"mean {mean} and std {std} given; three values each, std positive")
        if min(image_size) < 1:
            raise ModuleError(f"image size {image_size} given; positive numbers of pixels are needed")
        self.module = module
        self.softmax = softmax
        self.image_size = image_size
        # Whole rows of pixels: XNNPACK is slow at repeating an operand of three numbers.
        row = (image_size[1], 1)
        self.register_buffer(
            "offset", (255 * torch.tensor(mean, dtype=torch.float64)).float().repeat(row)
        )  # (W, 3)
        self.register_buffer("scale", (1 / (255 * torch.tensor(std, dtype=torch.float64))).float().repeat(row))
        self.train(module.training)

    @property
    def example(self) -> Tensor:
        """An input of the right shape and dtype, for the exporter."""
        return torch.zeros(1, *self.image_size, 3, dtype=torch.uint8)

    def forward(self, image: Tensor) -> Tensor:
        """Photo uint8 (1, H, W, 3) to float32 (1, classes)."""
        x = (image.float() - self.offset) * self.scale  # (1, H, W, 3)
        logits: Tensor = self.module(x.permute(0, 3, 1, 2))  # (1, classes)
        return logits.softmax(-1) if self.softmax else logits  # (1, classes)
