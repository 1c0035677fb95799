"""Starting and stopping what runs live on a page: sources, errors, reloads."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import flet as ft

from evit_app.choices import SourceChoice, SourceKind, open_source
from evit_app.frames import FrameSource, Orientation, SourceError
from evit_app.labels import LabelRule
from evit_app.live import LiveRun
from evit_app.own_camera import OwnCamera, camera_of, camera_works
from evit_app.pipeline import Pipeline
from evit_app.screen import Screen
from evit_app.session import Session
from evit_edge.errors import EvitEdgeError

_SMOOTHING_S = 0.5


class Running:
    """The live part of one page; at most one run at a time.

    Args:
        page: The page.
        screen: Its controls.
        sources: Sources of this machine; the page's own camera, where there can be one, comes before them.
    """

    def __init__(self, page: ft.Page, screen: Screen, sources: tuple[SourceChoice, ...]) -> None:
        self._page, self._screen, self._texts = page, screen, screen.texts
        own = [SourceChoice(SourceKind.OWN_CAMERA, "", "")] if camera_works(page) else []
        self._sources = [*own, *sources]
        self.sessions: list[Session] = []
        self._rule, self._orientation = LabelRule(smoothing_s=_SMOOTHING_S), Orientation()
        self._run: LiveRun | None = None
        self._task: asyncio.Task[None] | None = None
        self._camera: OwnCamera | None = None
        self._resume, self._leaving = False, asyncio.Lock()

    def bind(self) -> None:
        """Let the controls call this."""
        s = self._screen
        s.offer_sources(self._sources)
        s.start.on_click, s.pause.on_click, s.source.on_select = self._on_start, self._on_pause, self._on_source
        s.flip.on_click, s.mirror.on_click, s.turn.on_click = self._on_flip, self._on_mirror, self._on_turn
        s.smoothing.on_change, s.threshold.on_change = self._on_smoothing, self._on_threshold

    @property
    def is_on(self) -> bool:
        """Whether something runs."""
        return self._task is not None

    async def start(self, *, keep_error: bool = False) -> None:
        """Run the chosen source; what hinders it is told on the screen."""
        if self._task is not None or not self.sessions:
            return
        screen, told = self._screen, self._screen.error.visible
        choice = next((one for one in self._sources if one.key == screen.source.value), None)
        screen.forget()
        screen.error.visible = told and keep_error
        name = choice.name if choice is not None else ""
        screen.show_running(name)
        screen.status.value = self._texts.starting.format(name=name or self._texts.own_camera)
        self._page.update()
        self._task = asyncio.create_task(self._live(choice))

    async def stop(self) -> None:
        """End the run, if there is one, and let go of its source."""
        task = self._task
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if self._task is task:
            self._clear()

    async def play(self, choice: SourceChoice) -> None:
        """Add a source and run it."""
        self._sources.append(choice)
        self._screen.offer_sources(self._sources)
        self._screen.source.value = choice.key
        await self.stop()
        await self.start()

    async def snapshot(self) -> bytes | None:
        """The last frame as JPEG with its labels; None where there is none."""
        return None if self._run is None else await asyncio.to_thread(self._run.snapshot)

    async def _open(self, choice: SourceChoice) -> LiveRun:
        """Build a run on a source.

        Raises:
            EvitEdgeError: The source gives no pictures.
        """
        source: FrameSource
        if choice.kind is SourceKind.OWN_CAMERA:
            camera = self._camera = camera_of(self._page, self._texts)
            self._screen.camera_place.controls = camera.controls
            self._page.update()
            source, names = await camera.open(choice.where)
            self._name_cameras(names)
        else:
            source = await asyncio.to_thread(open_source, choice)
        runners = tuple(session.runner for session in self.sessions)
        pipeline = Pipeline(source, runners, rule=self._rule, orientation=self._orientation)
        rule = self.sessions[0].info.preprocessing
        return LiveRun(pipeline, rule, self._screen)

    def _name_cameras(self, names: list[str]) -> None:
        """A browser tells its cameras' names after one was allowed."""
        rest = [one for one in self._sources if one.kind is not SourceKind.OWN_CAMERA]
        first = SourceChoice(SourceKind.OWN_CAMERA, "", names[0] if names else "")
        own = [first, *(SourceChoice(SourceKind.OWN_CAMERA, name, name) for name in names[1:])]
        self._sources = [*own, *rest]
        self._screen.offer_sources(self._sources)

    async def _live(self, choice: SourceChoice | None) -> None:
        """Open and run a source until it is stopped; what ends it by itself is told."""
        try:
            if choice is None:
                raise SourceError(f"{self._texts.no_camera} {self._texts.offer}")
            self._run = run = await self._open(choice)
            self._screen.show_running(run.pipeline.source_name)
            self._page.update()
            await run.run()
        except EvitEdgeError as exc:
            self._screen.fail(str(exc))
            self._clear()
        except RuntimeError:  # Flet's answer when the page goes away in the middle of an update
            self._clear()

    def _clear(self) -> None:
        if self._camera is not None:
            self._camera.close()
        self._run = self._task = self._camera = None
        self._screen.camera_place.controls = []
        self._screen.show_running(None)
        with contextlib.suppress(RuntimeError):  # the page may be gone
            self._page.update()

    async def _on_start(self, _: ft.Event[ft.Button]) -> None:
        if self.is_on:
            await self.stop()
        else:
            await self.start()

    async def _on_pause(self, _: ft.Event[ft.Button]) -> None:
        if self._run is None:
            return
        pipeline = self._run.pipeline
        pipeline.paused = not pipeline.paused
        self._screen.show_paused(pipeline.paused)
        name = self._texts.live.format(name=pipeline.source_name)
        self._screen.status.value = self._texts.paused if pipeline.paused else name

    async def _on_source(self, _: ft.Event[ft.Dropdown]) -> None:
        if self.is_on:
            await self.stop()
            await self.start()

    async def _on_flip(self, _: ft.Event[ft.IconButton]) -> None:
        self._orient(replace(self._orientation, flipped=not self._orientation.flipped))

    async def _on_mirror(self, _: ft.Event[ft.IconButton]) -> None:
        self._orient(replace(self._orientation, mirrored=not self._orientation.mirrored))

    async def _on_turn(self, _: ft.Event[ft.IconButton]) -> None:
        self._orient(replace(self._orientation, quarter_turns=(self._orientation.quarter_turns + 1) % 4))

    def _orient(self, orientation: Orientation) -> None:
        self._orientation = orientation
        self._screen.flip.selected, self._screen.mirror.selected = orientation.flipped, orientation.mirrored
        if self._run is not None:
            self._run.pipeline.orientation = orientation

    async def _on_smoothing(self, _: ft.Event[ft.Switch]) -> None:
        self._label(replace(self._rule, smoothing_s=_SMOOTHING_S if self._screen.smoothing.value else None))

    async def _on_threshold(self, _: ft.Event[ft.Slider]) -> None:
        percent = float(self._screen.threshold.value or 0)
        self._screen.threshold_value.value = self._texts.threshold.format(value=round(percent))
        self._label(replace(self._rule, threshold=percent / 100))

    def _label(self, rule: LabelRule) -> None:
        self._rule = rule
        if self._run is not None:
            self._run.pipeline.rule = rule

    async def leave(self) -> None:
        """Stop, and remember whether to go on when the page comes back."""
        async with self._leaving:
            self._resume = self.is_on
            await self.stop()

    async def come_back(self) -> None:
        """Go on after a reload; Flet still holds the page for hidden, and would never draw again."""
        shown: Any = ft.AppLifecycleStateChangeEvent(
            name="app_lifecycle_state_change", control=self._page, state=ft.AppLifecycleState.RESUME
        )
        self._page.before_event(shown)
        async with (
            self._leaving
        ):  # a page may be back before its camera has ended, and that would still count as on
            if self._resume:
                self._resume = False
                await self.start()
