"""``evit-edge analyze``: the measurements of the EfficientViT paper's section 2, and one of ours."""

from __future__ import annotations

import typer

from evit_edge.cli import (
    analyze_channels,
    analyze_heads,
    analyze_instructions,
    analyze_layout,
    analyze_runtime,
)

analyze_app = typer.Typer(
    name="analyze",
    no_args_is_help=True,
    help="What a network's design costs: section 2 of the EfficientViT paper, measured on any classifier; and "
    "what a .tflite executes.",
)
analyze_app.command("runtime")(analyze_runtime.runtime)
analyze_app.command("heads")(analyze_heads.heads)
analyze_app.command("layout")(analyze_layout.layout)
analyze_app.command("channels")(analyze_channels.channels)
analyze_app.command("instructions")(analyze_instructions.instructions)
