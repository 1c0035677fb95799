"""What a run leaves behind besides weights: a line of JSON per epoch and a picture of the curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evit_edge.errors import require
from evit_edge.files import replacing


def read_records(path: Path, before_epoch: int) -> list[dict[str, Any]]:
    """The lines of the epochs before ``before_epoch``; what a killed run wrote after its state is dropped."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(text)
        except json.JSONDecodeError:
            break  # the line that the kill cut short
        lines.append(record)
    return [record for record in lines if record["epoch"] < before_epoch]


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Replace the file with these lines."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def draw_curves(path: Path, records: list[dict[str, Any]]) -> None:
    """Loss, accuracy and learning rate over the epochs, as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure", extra="train")
    figure = figure_module.Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [record["epoch"] + 1 for record in records]
    left.plot(epochs, [record["loss"] for record in records], color="#b03060")
    left.set(xlabel="epoch", ylabel="training loss", title="Loss (with mixing and smoothing)")
    for key, colour in (("val_top1", "#1f5fa8"), ("val_top5", "#7fb2e5")):
        right.plot(epochs, [100 * record[key] for record in records], color=colour, label=key.replace("_", " "))
    best = max(records, key=lambda record: record["val_top1"])
    right.axhline(100 * best["val_top1"], color="#999999", linewidth=0.8, linestyle="--")
    title = f"Best top-1 {100 * best['val_top1']:.1f} % in epoch {best['epoch'] + 1}"
    right.set(xlabel="epoch", ylabel="%", title=title)
    right.legend(loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
