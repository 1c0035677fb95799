"""``evit-edge models``."""

from __future__ import annotations

from typing import Annotated

import typer

from evit_edge.cli.options import Json
from evit_edge.cli.terminal import print_json, print_table


def models(
    image_size: Annotated[int, typer.Option("--image-size", help="Side of the input, 128 to 512.")] = 224,
    classes: Annotated[int, typer.Option("--classes", min=1, help="Outputs of the classifier.")] = 1000,
    json: Json = False,
) -> None:
    """List the model family: parameters and MACs as counted, and what the paper states at 224 px."""
    from evit_edge.models.complexity import count
    from evit_edge.models.config import PAPER_FIGURES, VARIANTS

    sized = {name: config.adapted(num_classes=classes, image_size=image_size) for name, config in VARIANTS.items()}
    counted = {name: count(config) for name, config in sized.items()}
    if json:
        entries = [{"name": name, **vars(counted[name]), "paper": vars(PAPER_FIGURES[name])} for name in VARIANTS]
        print_json({"image_size": image_size, "classes": classes, "models": entries})
        return
    print_table(
        f"EfficientViT at {image_size} px with {classes} classes; on the right the paper's figures (224 px, 1000)",
        ("model", "parameters", "MMACs", "params M", "MFLOPs", "top-1 %", "V100 img/s"),
        [
            (
                name,
                f"{counted[name].parameters:,}",
                f"{counted[name].macs / 1e6:.1f}",
                str(PAPER_FIGURES[name].parameters_m),
                str(PAPER_FIGURES[name].mflops),
                str(PAPER_FIGURES[name].top1_percent),
                str(PAPER_FIGURES[name].v100_images_per_s),
            )
            for name in VARIANTS
        ],
    )
