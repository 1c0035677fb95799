"""``evit-edge models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_edge.cli.options import Json
from evit_edge.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from evit_edge.models.config import EfficientViTConfig


def models(
    image_size: Annotated[int, typer.Option("--image-size", help="Side of the input, 128 to 512.")] = 224,
    classes: Annotated[int, typer.Option("--classes", min=1, help="Outputs of the classifier.")] = 1000,
    ablations: Annotated[
        str | None, typer.Option("--ablations", help="Model whose ablations to list instead, such as m4.")
    ] = None,
    json: Json = False,
) -> None:
    """List the model family, or one model's ablations: parameters and MACs as counted, and the paper's figures."""
    from evit_edge.models.config import VARIANTS, variant

    bases = VARIANTS.values() if ablations is None else (variant(ablations),)
    sized = [config.adapted(num_classes=classes, image_size=image_size) for config in bases]
    entries = family(sized) if ablations is None else ablated(sized[0])
    if json:
        print_json({"image_size": image_size, "classes": classes, "models": entries})
    elif ablations is None:
        _print_family(entries, image_size, classes)
    else:
        _print_ablations(entries, image_size, classes)


def family(configs: list[EfficientViTConfig]) -> list[dict[str, Any]]:
    """What each variant costs, as JSON objects."""
    from evit_edge.models.complexity import count
    from evit_edge.models.config import PAPER_FIGURES

    return [{"name": c.name, **vars(count(c)), "paper": vars(PAPER_FIGURES[c.name])} for c in configs]


def ablated(config: EfficientViTConfig) -> list[dict[str, Any]]:
    """What a network and each of its ablations cost, as JSON objects."""
    from evit_edge.models.complexity import count
    from evit_edge.models.design import Ablation

    whole: dict[str, Any] = {"name": config.name, "ablation": None, "meaning": ""}
    return [{**whole, **vars(count(config))}] + [
        {
            "name": other.name,
            "ablation": ablation.value,
            "meaning": ablation.meaning,
            **vars(count(other)),
        }
        for ablation in Ablation
        for other in (config.ablated([ablation]),)
    ]


def _print_family(entries: list[dict[str, Any]], image_size: int, classes: int) -> None:
    print_table(
        f"EfficientViT at {image_size} px with {classes} classes; on the right the paper's figures (224 px, 1000)",
        ("model", "parameters", "MMACs", "params M", "MFLOPs", "top-1 %", "V100 img/s"),
        [
            (
                entry["name"],
                f"{entry['parameters']:,}",
                f"{entry['macs'] / 1e6:.1f}",
                *(str(figure) for figure in entry["paper"].values()),
            )
            for entry in entries
        ],
    )


def _print_ablations(entries: list[dict[str, Any]], image_size: int, classes: int) -> None:
    rows = [
        (
            entry["ablation"] or entry["name"],
            entry["meaning"],
            f"{entry['parameters']:,}",
            f"{entry['macs'] / 1e6:.1f}",
        )
        for entry in entries
    ]
    print_table(
        f"{entries[0]['name']} at {image_size} px with {classes} classes, one design decision undone "
        "(train --ablate NAME)",
        ("ablation", "", "parameters", "MMACs"),
        rows,
        left=2,
    )
