"""``evit-edge doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from evit_edge.cli.options import Json
from evit_edge.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from evit_edge.diagnosis import Diagnosis


def doctor(json: Json = False) -> None:
    """Tell what is installed, what is missing, and what works on this machine."""
    from evit_edge.diagnosis import diagnose
    from evit_edge.strict_json import to_json

    found = diagnose()
    if json:
        print_json(to_json(found))
    else:
        _print(found)


def _print(found: Diagnosis) -> None:
    typer.echo(f"evit-edge {found.version}, Python {found.python}, {found.platform}, {found.cpus} CPUs")
    typer.echo(f"accelerators: {', '.join(found.accelerators) or 'none'}; adb: {found.adb or 'none'}")
    print_table(
        "What works here",
        ("task", "", "with"),
        [(c.name, "yes" if c.works else "no", c.detail) for c in found.capabilities],
        left=3,
    )
    print_table(
        "Optional parts",
        ("extra", "installed", "missing", "mend"),
        [
            (
                extra.name,
                ", ".join(f"{d} {v}" for d, v in extra.versions.items() if v) or "-",
                ", ".join(d for d, v in extra.versions.items() if not v) or "-",
                "-" if extra.complete else extra.install,
            )
            for extra in found.extras
        ],
        left=4,
    )
