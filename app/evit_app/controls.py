"""The small parts of the screen."""

from __future__ import annotations

import flet as ft

from evit_app.session import Replay, ReplayStatus
from evit_app.texts import Texts
from evit_edge.classification import Prediction

_COLOURS = {
    ReplayStatus.SAME: (ft.Colors.GREEN_100, ft.Colors.GREEN_900),
    ReplayStatus.DIFFERENT: (ft.Colors.RED_700, ft.Colors.WHITE),
    ReplayStatus.UNCHECKED: (ft.Colors.AMBER_100, ft.Colors.BROWN_900),
}


def label_bar(prediction: Prediction, texts: Texts) -> ft.Column:
    """A class as a name, a score and a bar."""
    score = texts.percent(prediction.probability)
    words = ft.Row(
        [ft.Text(prediction.label, expand=True, weight=ft.FontWeight.W_500), ft.Text(score)],
        alignment=ft.MainAxisAlignment.SPACE_BETWEEN,
    )
    # Float32 softmax may exceed 1 by a rounding error, and the bar refuses that.
    share = min(max(prediction.probability, 0.0), 1.0)
    bar = ft.ProgressBar(value=share, bar_height=10, semantics_label=prediction.label, semantics_value=share)
    return ft.Column([words, bar], spacing=2)


def replay_banner(replay: Replay, texts: Texts) -> ft.Container:
    """Whether this device gives the reference's answer."""
    background, foreground = _COLOURS[replay.status]
    text = ft.Text(texts.replay(replay.status, replay.detail), color=foreground, selectable=True)
    return ft.Container(text, bgcolor=background, padding=10, border_radius=8)
