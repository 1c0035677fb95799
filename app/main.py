"""What ``flet build`` packages: the app with the models that lie in ``assets``."""

from __future__ import annotations

import os
from pathlib import Path

import flet as ft

from evit_app.application import App
from evit_app.choices import Shelf, models_at

# Flet unpacks assets elsewhere on some devices, and names the place.
ASSETS = Path(os.environ.get("FLET_ASSETS_DIR") or Path(__file__).resolve().parent / "assets")


def open_shelf() -> Shelf:
    """The packaged models; on the first page, which shows what is wrong with them, if anything is."""
    return Shelf(models_at((ASSETS,)))


if __name__ == "__main__":
    ft.run(App(open_shelf).start)
