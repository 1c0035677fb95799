"""The screen of one page: its controls, and what fills them. What they do when used is the view's."""

from __future__ import annotations

import os
import statistics
from collections import deque

import flet as ft

from evit_app.choices import SourceChoice
from evit_app.controls import Answers, RateTile, replay_banner
from evit_app.pictures import chart_png
from evit_app.pipeline import Figures, LabelledFrame
from evit_app.session import Answer, Session, ThisDevice
from evit_app.texts import LANGUAGES, Texts

_CHART = (300, 60)
_CHART_COLOUR = (103, 130, 220)  # legible on light and on dark
_CHART_POINTS = 30  # one a second

Breakpoints = dict[str | ft.ResponsiveRowBreakpoint, int | float]
_HALF: Breakpoints = {"xs": 12, "md": 6}
_QUARTER: Breakpoints = {"xs": 12, "sm": 6, "md": 3}


class Screen:
    """One page's controls.

    Args:
        texts: The language.
    """

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self._build_buttons()
        self._build_choices()
        self.model = ft.Text(texts.loading)
        self.replay = ft.Column()
        self.status = ft.Text(texts.nothing_chosen)
        # Never selectable: a browser hides selectable text from screen readers.
        self.error = ft.Text(color=ft.Colors.ERROR, visible=False)
        self.still = ft.Image(src="", fit=ft.BoxFit.CONTAIN, visible=False, gapless_playback=True)
        self.live = ft.RawImage(fit=ft.BoxFit.CONTAIN, visible=False)
        self.camera_place = ft.Row(width=1, height=1)
        self.first, self.second = Answers(texts), Answers(texts)
        self.second.control.visible = False
        names = (texts.rate_camera, texts.rate_inference, texts.rate_end_to_end, texts.rate_display)
        self._rates = [RateTile(name, texts) for name in names]
        self.stages = ft.Text()
        self._dropped, self._verdict = ft.Text(), ft.Text()
        self._comparison = ft.Text(weight=ft.FontWeight.BOLD, visible=False)
        self._chart = ft.Image(src=chart_png((), _CHART, _CHART_COLOUR), height=_CHART[1], gapless_playback=True)
        self._caption = ft.Text(size=12)
        self._latencies: deque[float] = deque(maxlen=_CHART_POINTS)
        self._recent: list[float] = []
        self._figures = ft.Column(
            [
                ft.ResponsiveRow([tile.control for tile in self._rates], spacing=8, run_spacing=8),
                self._verdict,
                self.stages,
                self._dropped,
                ft.Column([self._caption, self._chart], spacing=0),
            ],
            spacing=8,
        )

    def _build_buttons(self) -> None:
        texts = self.texts
        self.start = ft.Button(texts.start, icon=ft.Icons.PLAY_ARROW, disabled=True, autofocus=True)
        self.pause = ft.Button(texts.pause, icon=ft.Icons.PAUSE, disabled=True)
        self.choose = ft.Button(texts.choose, icon=ft.Icons.IMAGE_OUTLINED, disabled=True)
        self.flip = ft.IconButton(ft.Icons.SWAP_VERT, tooltip=texts.flip)
        self.mirror = ft.IconButton(ft.Icons.SWAP_HORIZ, tooltip=texts.mirror)
        self.turn = ft.IconButton(ft.Icons.ROTATE_RIGHT, tooltip=texts.turn)
        self.snapshot = ft.IconButton(ft.Icons.CAMERA_ALT_OUTLINED, tooltip=texts.snapshot, disabled=True)
        self.theme = ft.IconButton(ft.Icons.BRIGHTNESS_6, tooltip=texts.theme)
        self.open_model = ft.Button(texts.open_model, icon=ft.Icons.FOLDER_OPEN)
        self.open_video = ft.Button(texts.open_video, icon=ft.Icons.VIDEO_FILE_OUTLINED)

    def _build_choices(self) -> None:
        texts = self.texts
        self.language = ft.Dropdown(
            label=texts.language_choice,
            value=texts.code,
            width=150,
            options=[ft.DropdownOption(key=one.code, text=one.language) for one in LANGUAGES],
        )
        self.source = ft.Dropdown(label=texts.source, expand=True)
        self.first_model = ft.Dropdown(label=texts.model_choice, expand=True)
        self.second_model = ft.Dropdown(label=texts.compare, expand=True)
        counts = sorted({1, 2, 4, os.cpu_count() or 1})
        self.threads = ft.Dropdown(
            label=texts.threads,
            value="1",
            expand=True,
            options=[ft.DropdownOption(key=str(n), text=str(n)) for n in counts],
        )
        self.smoothing = ft.Switch(label=texts.smoothing, value=True)
        self.threshold = ft.Slider(min=0, max=100, divisions=20, value=30, label=texts.threshold)
        self.threshold_value = ft.Text(texts.threshold.format(value=30))

    def layout(self, measure: ft.Control, measured: ft.Control) -> ft.Control:
        """Everything in its place: beside each other where there is room, below each other on a phone.

        Args:
            measure: Begins a benchmark.
            measured: What comes of it.
        """
        title = ft.Text(self.texts.title, size=22, weight=ft.FontWeight.BOLD, expand=True)
        icons = [self.flip, self.mirror, self.turn, self.snapshot]
        buttons = [self.start, self.pause, *(ft.MergeSemantics(icon) for icon in icons), measure]
        picture = ft.Container(
            ft.Stack([self.still, self.live, self.camera_place], fit=ft.StackFit.EXPAND),
            aspect_ratio=4 / 3,
            bgcolor=ft.Colors.SURFACE_CONTAINER_HIGHEST,
            border_radius=8,
            clip_behavior=ft.ClipBehavior.HARD_EDGE,
        )
        seen = ft.Semantics(content=picture, label=self.texts.live_picture, image=True)
        told = ft.Semantics(content=ft.Column([self.error]), live_region=True)
        left = ft.Column([seen, ft.Row(list(buttons), wrap=True), self.status, told], col=_HALF)
        answers = ft.ResponsiveRow([self.first.control, self.second.control])
        right = ft.Column([answers, self._comparison, self._figures], col=_HALF)
        lists = [self.source, self.first_model, self.second_model, self.threads]
        choices = ft.ResponsiveRow([_named(one, _QUARTER) for one in lists])
        threshold = ft.Semantics(content=self.threshold, label=self.texts.threshold_choice)
        rule = ft.Row([self.smoothing, self.threshold_value, threshold], wrap=True)
        opening = ft.Row([self.choose, self.open_video, self.open_model], wrap=True)
        head = ft.Row([title, _named(self.language), ft.MergeSemantics(self.theme)], margin=ft.Margin.only(top=8))
        return ft.SafeArea(
            ft.Column(
                [head, self.model, self.replay, ft.ResponsiveRow([left, right]), measured, choices, opening, rule],
                spacing=12,
            )
        )

    def show_models(self, sessions: list[Session], device: ThisDevice) -> None:
        """Name the models in use, what runs them, and whether they answer as the reference does."""
        lines = [self.texts.device(device)]
        for session in sessions:
            info = session.info
            runtime = f"{info.runtime} {info.runtime_version}"
            lines.append(self.texts.model(info.path.name, runtime, info.threads, info.image_size))
        self.model.value = "\n".join(lines)
        self.replay.controls = [replay_banner(session.replay, self.texts) for session in sessions]
        two = len(sessions) > 1
        for answers, session in zip((self.first, self.second), sessions, strict=False):
            answers.name(session.info.path.name if two else "")
            answers.control.col = {"xs": 12, "sm": 6} if two else {"xs": 12}
        self.second.control.visible = self._comparison.visible = two
        self._comparison.value = ""

    def offer_sources(self, choices: list[SourceChoice]) -> None:
        """Fill the list of sources; the first is chosen where what was chosen is not among them."""
        self.source.options = [
            ft.DropdownOption(key=choice.key, text=choice.name or self.texts.own_camera) for choice in choices
        ]
        if choices and self.source.value not in [choice.key for choice in choices]:
            self.source.value = choices[0].key

    def offer_models(self, names: list[tuple[str, str]]) -> None:
        """Fill both lists of models: pairs of key and name."""
        options = [ft.DropdownOption(key=key, text=name) for key, name in names]
        self.first_model.options = options
        nothing = ft.DropdownOption(key="", text=self.texts.no_comparison)
        self.second_model.options = [nothing, *(ft.DropdownOption(key=key, text=name) for key, name in names)]
        self.second_model.value = self.second_model.value or ""

    def show_answer(self, answer: Answer) -> None:
        """A picture from disk and what the model makes of it."""
        result = answer.classification
        self.status.value = answer.name
        self.still.src = answer.preview
        self.still.semantics_label = self.texts.picture(answer.name)
        self.still.visible, self.live.visible = True, False
        self.first.fill(result.predictions)
        self.second.fill(())
        self.stages.value = self.texts.times(result.decode_s, result.preprocess_s, result.inference_s)

    def show_running(self, name: str | None) -> None:
        """Buttons and picture while a source of that name runs; None while none does."""
        on = name is not None
        self.start.content = self.texts.stop if on else self.texts.start
        self.start.icon = ft.Icons.STOP if on else ft.Icons.PLAY_ARROW
        self.pause.disabled = self.snapshot.disabled = not on
        self.show_paused(False)
        self.status.value = self.texts.live.format(name=name) if on else self.texts.stopped
        if on:
            self.live.visible, self.still.visible = True, False

    def show_paused(self, paused: bool) -> None:
        """What the pause button says."""
        self.pause.content = self.texts.resume if paused else self.texts.pause
        self.pause.icon = ft.Icons.PLAY_ARROW if paused else ft.Icons.PAUSE

    async def show_frame(self, jpeg: bytes, labelled: LabelledFrame) -> None:
        """A live frame with its labels; returns when the screen has shown the picture."""
        for answers, reading in zip((self.first, self.second), labelled.readings, strict=False):
            answers.fill_live(reading)
        self._recent.append(labelled.stages.inference_s)
        await self.live.render_encoded(jpeg)

    def show_figures(self, figures: Figures) -> None:
        """The four rates, where the time goes, and whether it stays so; once a second is enough."""
        rates = figures.rates
        values = (rates.camera, rates.inference, rates.end_to_end, rates.display)
        for tile, value in zip(self._rates, values, strict=True):
            tile.fill(value)
        self._verdict.value = self.texts.verdict(figures.steadiness)
        self._dropped.value = self.texts.dropped(figures.dropped, figures.captured)
        if figures.stages is not None:
            self.stages.value = self.texts.stages(figures.stages, figures.display_s)
        if self._recent:
            self._latencies.append(statistics.median(self._recent))
            self._recent = []
            self._chart.src = chart_png(self._latencies, _CHART, _CHART_COLOUR)
            self._caption.value = self.texts.latency_chart(statistics.median(self._latencies))
            self._chart.semantics_label = self._caption.value
        self._figures.update()
        if figures.comparison is not None:
            self._comparison.value = self.texts.comparison(figures.comparison)
            self._comparison.update()

    def fail(self, message: str) -> None:
        """Say what went wrong."""
        self.error.value, self.error.visible = message, True

    def forget(self) -> None:
        """Take errors and answers away: an old answer below a new error would be read as the new picture's."""
        self.error.visible = False
        self.status.value = self.stages.value = ""
        self.still.visible = self.live.visible = False
        self.first.fill(())
        self.second.fill(())


def _named(choice: ft.Dropdown, col: Breakpoints | None = None) -> ft.Control:
    """A list that a screen reader can name: Flet's own says nothing."""
    named = ft.Semantics(content=choice, label=str(choice.label))
    return ft.Container(ft.MergeSemantics(named), col=col or 12)
