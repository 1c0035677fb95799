"""Commands of packages that stand on this one: they name them as entry points, and are not imported from here."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from evit_edge.errors import MissingExtraError

GROUP = "evit_edge.commands"
_KNOWN = {"app": "The app: live camera classification. Not installed here."}


def add_plugins(program: typer.Typer) -> None:
    """Add what is installed; what is known and is not installed answers with the line that installs it."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    for name in sorted(found.keys() | _KNOWN.keys()):
        try:
            command = found[name].load()
        except (KeyError, ImportError):
            program.command(name, help=_KNOWN.get(name), context_settings=_ANYTHING)(_missing)
        else:
            program.command(name)(command)


_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


def _missing(context: typer.Context) -> None:
    name = context.info_name
    raise MissingExtraError(f"evit-edge {name} is not installed: pip install 'evit-edge[{name}]'")
