"""What a page does: choosing models and sources, running them live, pictures from disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flet as ft

from evit_app.choices import Shelf, SourceChoice, SourceKind, open_source
from evit_app.frames import FrameSource, Orientation, SourceError
from evit_app.labels import LabelRule
from evit_app.live import LiveRun
from evit_app.own_camera import OwnCamera, camera_works
from evit_app.pipeline import Pipeline
from evit_app.screen import Screen
from evit_app.session import Answer, Session
from evit_app.texts import ENGLISH, LANGUAGES, Texts
from evit_edge.errors import DataError, EvitEdgeError

_SMOOTHING_S = 0.5
_VIDEOS = ["mp4", "avi", "mkv", "mov", "webm"]


class App:
    """What every page of one running program shares.

    Args:
        shelf: Opens the models; when the first page asks.
        sources: Sources of this machine.
        threads: Threads of the engine, until the page says otherwise.
    """

    def __init__(
        self, shelf: Callable[[], Shelf], sources: tuple[SourceChoice, ...] = (), threads: int = 1
    ) -> None:
        self._make_shelf, self._sources, self._threads = shelf, sources, threads
        self._shelf: Shelf | None = None

    async def start(self, page: ft.Page) -> None:
        """Fill a new page."""
        await self._show(page, ENGLISH)

    async def _show(self, page: ft.Page, texts: Texts) -> None:
        if self._shelf is None:
            try:
                self._shelf = self._make_shelf()
            except EvitEdgeError as exc:
                page.add(ft.SafeArea(ft.Text(str(exc), color=ft.Colors.ERROR, selectable=True)))
                return
        view = PageView(page, self._shelf, self._sources, texts, lambda code: self._translate(view, page, code))
        await view.show(self._threads)

    async def _translate(self, view: PageView, page: ft.Page, code: str) -> None:
        await view.stop()
        page.clean()
        await self._show(page, next(one for one in LANGUAGES if one.code == code))

    def close(self) -> None:
        """Throw away what was received. What runs ends with its page's connection."""
        if self._shelf is not None:
            self._shelf.close()


class PageView:
    """One page.

    Args:
        page: Where the controls go.
        shelf: The models.
        sources: Sources of this machine.
        texts: The language.
        translate: Shows the page anew in another language, given its code.
    """

    def __init__(
        self,
        page: ft.Page,
        shelf: Shelf,
        sources: tuple[SourceChoice, ...],
        texts: Texts,
        translate: Callable[[str], Awaitable[None]],
    ) -> None:
        self._page, self._shelf, self._texts, self._translate = page, shelf, texts, translate
        self._screen = Screen(texts)
        self._picker = ft.FilePicker()
        self._sessions: list[Session] = []
        self._rule, self._orientation = LabelRule(smoothing_s=_SMOOTHING_S), Orientation()
        own = [SourceChoice(SourceKind.OWN_CAMERA, "", "")] if camera_works(page) else []
        self._sources = [*own, *sources]
        self._run: LiveRun | None = None
        self._task: asyncio.Task[None] | None = None
        self._switching = asyncio.Lock()  # one start or stop at a time
        self._resume = False

    async def show(self, threads: int) -> None:
        """Put the controls on the page, then load the model."""
        page, screen = self._page, self._screen
        page.title = self._texts.title
        page.scroll = ft.ScrollMode.AUTO
        _dress(page)
        page.on_disconnect, page.on_connect, page.on_close = self._on_disconnect, self._on_connect, self._on_close
        self._bind()
        screen.threads.value = str(threads)
        screen.offer_sources(self._sources)
        self._offer_models()
        screen.first_model.value = str(self._shelf.paths[0])
        page.add(screen.layout())
        await self._load()

    def _bind(self) -> None:
        s = self._screen
        s.start.on_click, s.pause.on_click, s.choose.on_click = self._on_start, self._on_pause, self._on_choose
        s.flip.on_click, s.mirror.on_click, s.turn.on_click = self._on_flip, self._on_mirror, self._on_turn
        s.snapshot.on_click, s.theme.on_click = self._on_snapshot, self._on_theme
        s.open_model.on_click, s.open_video.on_click = self._on_open_model, self._on_open_video
        s.source.on_select = self._on_source
        s.first_model.on_select = s.second_model.on_select = s.threads.on_select = self._on_model
        s.smoothing.on_change, s.threshold.on_change = self._on_smoothing, self._on_threshold
        s.language.on_select = self._on_language

    # -- models ----------------------------------------------------------------

    def _offer_models(self) -> None:
        self._screen.offer_models([(str(path), path.name) for path in self._shelf.paths])

    async def _load(self) -> None:
        """Open what is chosen; what was in use stays where that cannot be."""
        screen = self._screen
        threads = int(screen.threads.value or 1)
        wanted = [value for value in (screen.first_model.value, screen.second_model.value) if value]
        try:
            self._sessions = [await asyncio.to_thread(self._shelf.session, Path(path), threads) for path in wanted]
        except EvitEdgeError as exc:
            screen.fail(str(exc))
            if self._sessions:
                self._choose_again()
            else:
                screen.model.value = screen.status.value = ""
            self._page.update()
            return
        screen.error.visible = False
        screen.show_models(self._sessions)
        screen.start.disabled = screen.choose.disabled = False
        self._page.update()

    def _choose_again(self) -> None:
        """Let the lists say what is in use."""
        paths = [str(session.info.path) for session in self._sessions] + [""]
        self._screen.first_model.value, self._screen.second_model.value = paths[:2]
        self._screen.threads.value = str(self._sessions[0].info.threads)

    async def _on_model(self, _: ft.Event[ft.Dropdown]) -> None:
        await self._change_models()

    async def _change_models(self) -> None:
        running = self._run is not None
        await self.stop()
        await self._load()
        if running and self._sessions:
            await self._start()

    async def _on_open_model(self, _: ft.Event[ft.Button]) -> None:
        path = await self._receive(ft.FilePickerFileType.ANY, None)
        if path is None:
            return
        before = self._screen.first_model.value
        self._screen.first_model.value = str(path)
        await self._change_models()
        if self._sessions and self._sessions[0].info.path == path:
            self._shelf.put(path)
            self._offer_models()
        else:
            self._screen.first_model.value = before
        self._page.update()

    # -- live --------------------------------------------------------------------

    async def _on_start(self, _: ft.Event[ft.Button]) -> None:
        if self._run is not None:
            await self.stop()
        else:
            await self._start()

    async def _start(self) -> None:
        async with self._switching:
            if self._run is not None or not self._sessions:
                return
            screen = self._screen
            screen.forget()
            choice = next((one for one in self._sources if one.key == screen.source.value), None)
            screen.status.value = self._texts.starting.format(name=choice.name if choice else "")
            self._page.update()
            try:
                if choice is None:
                    raise SourceError(f"{self._texts.no_camera} {self._texts.offer}")
                self._run = await self._open(choice)
            except EvitEdgeError as exc:
                screen.show_running(None)
                screen.fail(str(exc))
                screen.camera_place.controls = []
                self._page.update()
                return
            screen.show_running(self._run.pipeline.source_name)
            self._page.update()
            self._task = asyncio.create_task(self._watch(self._run))

    async def _open(self, choice: SourceChoice) -> LiveRun:
        """Build a run on a source.

        Raises:
            EvitEdgeError: The source gives no pictures.
        """
        camera = None
        source: FrameSource
        if choice.kind is SourceKind.OWN_CAMERA:
            camera = OwnCamera(self._texts)
            self._screen.camera_place.controls = [camera.control]
            self._page.update()
            source, names = await camera.open(choice.where)
            self._name_cameras(names)
        else:
            source = await asyncio.to_thread(open_source, choice)
        runners = tuple(session.runner for session in self._sessions)
        pipeline = Pipeline(source, runners, rule=self._rule, orientation=self._orientation)
        rule = self._sessions[0].info.preprocessing
        return LiveRun(pipeline, rule, self._screen, camera.feed() if camera else None)

    def _name_cameras(self, names: list[str]) -> None:
        """A browser tells its cameras' names after one was allowed."""
        rest = [one for one in self._sources if one.kind is not SourceKind.OWN_CAMERA]
        first = SourceChoice(SourceKind.OWN_CAMERA, "", names[0] if names else "")
        own = [first, *(SourceChoice(SourceKind.OWN_CAMERA, name, name) for name in names[1:])]
        self._sources = [*own, *rest]
        self._screen.offer_sources(self._sources)

    async def _watch(self, run: LiveRun) -> None:
        """Let it run; what ends it by itself is told."""
        try:
            await run.run()
        except EvitEdgeError as exc:
            self._screen.fail(f"{exc}. {self._texts.offer}")
        except RuntimeError:  # Flet's answer when the page went away in the middle of an update
            return
        if self._run is run:
            self._clear_run()
            self._page.update()

    def _clear_run(self) -> None:
        self._run = self._task = None
        self._screen.camera_place.controls = []  # taking the control away lets go of the camera
        self._screen.show_running(None)

    async def stop(self) -> None:
        """End the run, if there is one, and let go of its source."""
        async with self._switching:
            task = self._task
            if task is None:
                return
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._clear_run()
            with contextlib.suppress(RuntimeError):  # the page may be gone
                self._page.update()

    async def _on_pause(self, _: ft.Event[ft.Button]) -> None:
        if self._run is None:
            return
        pipeline = self._run.pipeline
        pipeline.paused = not pipeline.paused
        self._screen.show_paused(pipeline.paused)
        name = self._texts.live.format(name=pipeline.source_name)
        self._screen.status.value = self._texts.paused if pipeline.paused else name

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

    async def _on_source(self, _: ft.Event[ft.Dropdown]) -> None:
        if self._run is not None:
            await self.stop()
            await self._start()

    async def _on_open_video(self, _: ft.Event[ft.Button]) -> None:
        path = await self._receive(ft.FilePickerFileType.CUSTOM, _VIDEOS)
        if path is None:
            return
        choice = SourceChoice(SourceKind.VIDEO, str(path), path.name)
        self._sources.append(choice)
        self._screen.offer_sources(self._sources)
        self._screen.source.value = choice.key
        await self.stop()
        await self._start()

    async def _on_snapshot(self, _: ft.Event[ft.IconButton]) -> None:
        run = self._run
        content = None if run is None else await asyncio.to_thread(run.snapshot)
        if content is None:
            return
        name = "evit-edge-snapshot.jpg"
        path = await self._picker.save_file(file_name=name, src_bytes=content)
        if self._page.web or path is not None:
            self._screen.status.value = self._texts.saved.format(name=path or name)

    # -- pictures and files --------------------------------------------------------

    async def _on_choose(self, _: ft.Event[ft.Button]) -> None:
        file = await self._pick(ft.FilePickerFileType.IMAGE, None)
        if file is None or not self._sessions:
            return
        await self.stop()
        screen = self._screen
        screen.forget()
        screen.choose.disabled = True
        screen.status.value = self._texts.classifying
        self._page.update()
        try:
            screen.show_answer(await asyncio.to_thread(_answer, self._sessions[0], file, self._sends_bytes))
        except EvitEdgeError as exc:
            screen.forget()
            screen.fail(str(exc))
        finally:
            screen.choose.disabled = False
            self._page.update()

    async def _pick(self, kind: ft.FilePickerFileType, extensions: list[str] | None) -> ft.FilePickerFile | None:
        picked = await self._picker.pick_files(
            file_type=kind, allowed_extensions=extensions, with_data=self._sends_bytes
        )
        return picked[0] if picked else None

    async def _receive(self, kind: ft.FilePickerFileType, extensions: list[str] | None) -> Path | None:
        """A file that the user picks, where it lies; one that arrives as bytes is kept until the program ends."""
        file = await self._pick(kind, extensions)
        if file is None:
            return None
        content: bytes | None = file.bytes
        if content is not None:
            return await asyncio.to_thread(self._shelf.receive, file.name, content)
        if file.path is not None and not self._sends_bytes:
            return Path(file.path)
        self._screen.fail(f"{file.name} did not arrive; choose it again")
        return None

    @property
    def _sends_bytes(self) -> bool:
        """Whether the picker has to hand over the content: a browser gives no path, and a phone one of no use."""
        return camera_works(self._page)

    # -- page ------------------------------------------------------------------------

    async def _on_theme(self, _: ft.Event[ft.IconButton]) -> None:
        dark = self._page.theme_mode is ft.ThemeMode.DARK or (
            self._page.theme_mode is not ft.ThemeMode.LIGHT
            and self._page.platform_brightness is ft.Brightness.DARK
        )
        self._page.theme_mode = ft.ThemeMode.LIGHT if dark else ft.ThemeMode.DARK
        self._page.update()

    async def _on_language(self, _: ft.Event[ft.Dropdown]) -> None:
        await self._translate(self._screen.language.value or ENGLISH.code)

    async def _on_disconnect(self, _: ft.Event[ft.Page]) -> None:
        """The tab was closed, or reloads: nobody is there to look, so nothing runs."""
        self._resume = self._run is not None
        await self.stop()

    async def _on_connect(self, _: ft.Event[ft.Page]) -> None:
        """After a reload Flet still holds the page for hidden, and would never draw again."""
        shown: Any = ft.AppLifecycleStateChangeEvent(
            name="app_lifecycle_state_change", control=self._page, state=ft.AppLifecycleState.RESUME
        )
        self._page.before_event(shown)
        if self._resume:
            self._resume = False
            await self._start()

    async def _on_close(self, _: ft.Event[ft.Page]) -> None:
        await self.stop()


def _dress(page: ft.Page) -> None:
    """Colours, and in a browser our own letters: Flet's have no Korean, and a browser would ask the network."""
    font = None
    if page.web:
        page.fonts, font = {"EvitSans": "fonts/EvitSans.ttf"}, "EvitSans"
    page.theme = ft.Theme(color_scheme_seed=ft.Colors.INDIGO, font_family=font)
    page.dark_theme = ft.Theme(color_scheme_seed=ft.Colors.INDIGO, font_family=font)


def _answer(session: Session, file: ft.FilePickerFile, by_content: bool) -> Answer:
    """Classify what was picked.

    With ``by_content``, a path is not followed: what looks like a browser could name any file of this machine.

    Raises:
        DataError: It did not arrive or cannot be read.
    """
    content: bytes | None = file.bytes
    if content is not None:
        return session.classify_bytes(content, file.name)
    if file.path is not None and not by_content:
        return session.classify(Path(file.path))
    raise DataError(f"{file.name} did not arrive; choose it again")
