"""The small parts of the screen. Parts that change with every frame are made once and filled again and again."""

from __future__ import annotations

import flet as ft

from evit_app.labels import Reading
from evit_app.session import Replay, ReplayStatus
from evit_app.texts import Texts
from evit_edge.classification import Prediction

BARS = 5

_COLOURS = {
    ReplayStatus.SAME: (ft.Colors.GREEN_100, ft.Colors.GREEN_900),
    ReplayStatus.DIFFERENT: (ft.Colors.RED_700, ft.Colors.WHITE),
    ReplayStatus.UNCHECKED: (ft.Colors.AMBER_100, ft.Colors.BROWN_900),
}


class Bar:
    """A class as a name, a score and a bar."""

    def __init__(self) -> None:
        self._name = ft.Text(expand=True, weight=ft.FontWeight.W_500, no_wrap=True)
        self._score = ft.Text()
        self._bar = ft.ProgressBar(value=0, bar_height=10)
        words = ft.Row([self._name, self._score], alignment=ft.MainAxisAlignment.SPACE_BETWEEN)
        self.control = ft.Column([words, self._bar], spacing=2, visible=False)

    def fill(self, prediction: Prediction | None, texts: Texts) -> None:
        """Show a class, or nothing."""
        self.control.visible = prediction is not None
        if prediction is None:
            return
        # Float32 softmax may exceed 1 by a rounding error, and the bar refuses that.
        share = min(max(prediction.probability, 0.0), 1.0)
        self._name.value, self._score.value = prediction.label, texts.percent(prediction.probability)
        self._bar.value = share
        self._bar.semantics_label, self._bar.semantics_value = prediction.label, share


class Answers:
    """What one model says: its name, the best label in large, the best few as bars.

    Args:
        texts: The language.
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._model = ft.Text(weight=ft.FontWeight.BOLD, visible=False)
        self._best = ft.Text(size=24, no_wrap=True)
        self._shown: tuple[object, ...] | None = None
        self._bars = [Bar() for _ in range(BARS)]
        self.control = ft.Column(
            [self._model, self._best, *(bar.control for bar in self._bars)], spacing=8, col={"xs": 12}
        )

    def name(self, model: str) -> None:
        """Show whose answers these are; nothing if empty."""
        self._model.value, self._model.visible = model, bool(model)

    def fill(self, predictions: tuple[Prediction, ...], sure: bool = True) -> None:
        """Show predictions, best first."""
        self._shown = None
        best = predictions[0].label if predictions else ""
        self._best.value = best if sure else self._texts.not_sure
        for i, bar in enumerate(self._bars):
            bar.fill(predictions[i] if i < len(predictions) else None, self._texts)

    def fill_live(self, reading: Reading) -> None:
        """Show a frame's reading, at once; drawing what already stands there would cost milliseconds."""
        shown = (reading.sure, *((p.class_id, round(p.probability, 3)) for p in reading.predictions))
        if shown != self._shown:
            self.fill(reading.predictions, reading.sure)
            self._shown = shown
            self.control.update()


class RateTile:
    """One of the four rates, with its name so that none is taken for another."""

    def __init__(self, name: str, texts: Texts) -> None:
        self._texts = texts
        self._value = ft.Text(texts.no_rate, size=20, weight=ft.FontWeight.BOLD)
        words = ft.Column([ft.Text(name, size=12), self._value], spacing=0)
        self.control = ft.Container(
            words, padding=8, border_radius=8, bgcolor=ft.Colors.SURFACE_CONTAINER_HIGHEST, col={"xs": 6, "sm": 3}
        )

    def fill(self, per_second: float | None) -> None:
        """Show a rate."""
        self._value.value = self._texts.rate(per_second)


def replay_banner(replay: Replay, texts: Texts) -> ft.Container:
    """Whether this device gives the reference's answer."""
    background, foreground = _COLOURS[replay.status]
    text = ft.Text(texts.replay(replay.status, replay.detail), color=foreground)
    return ft.Container(text, bgcolor=background, padding=10, border_radius=8)
