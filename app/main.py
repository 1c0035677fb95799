"""What ``flet build`` packages: the app with the model that lies in ``assets``."""

from __future__ import annotations

from pathlib import Path

import flet as ft

from evit_app.session import Session
from evit_app.view import App

MODEL = Path(__file__).resolve().parent / "assets" / "model.tflite"


def open_session() -> Session:
    """Load the packaged model; on the first page, which shows what is wrong with it, if anything is."""
    return Session.open(MODEL)


if __name__ == "__main__":
    ft.run(App(open_session).start)
