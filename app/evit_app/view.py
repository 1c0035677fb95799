"""What one page does: choosing models, pictures and videos from disk, language, theme."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import flet as ft

from evit_app.benchmark_panel import BenchmarkPanel
from evit_app.choices import Shelf, SourceChoice, SourceKind
from evit_app.own_camera import camera_works
from evit_app.running import Running
from evit_app.screen import Screen
from evit_app.session import Answer, Session, this_device
from evit_app.texts import ENGLISH, Texts
from evit_edge.errors import DataError, EvitEdgeError

_VIDEOS = ["mp4", "avi", "mkv", "mov", "webm"]


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
        self.live = Running(page, self._screen, sources)
        self._picker = ft.FilePicker()
        self.benchmark = BenchmarkPanel(texts, self._save)

    async def show(self, threads: int) -> None:
        """Put the controls on the page, then load the model."""
        page, screen = self._page, self._screen
        page.title = self._texts.title
        page.scroll = ft.ScrollMode.AUTO
        _dress(page)
        self.live.bind()
        self._bind()
        screen.threads.value = str(threads)
        self._offer_models()
        screen.first_model.value = str(self._shelf.paths[0])
        page.add(screen.layout(self.benchmark.begin, self.benchmark.control))
        await self._load()

    async def stop(self) -> None:
        """End what runs."""
        await self.benchmark.cancel()
        await self.live.stop()

    def _bind(self) -> None:
        s = self._screen
        s.choose.on_click, s.snapshot.on_click, s.theme.on_click = (
            self._on_choose,
            self._on_snapshot,
            self._on_theme,
        )
        s.open_model.on_click, s.open_video.on_click = self._on_open_model, self._on_open_video
        s.first_model.on_select = s.second_model.on_select = s.threads.on_select = self._on_model
        s.language.on_select = self._on_language
        self.benchmark.begin.on_click = self._on_benchmark
        page = self._page
        page.on_disconnect, page.on_connect, page.on_close = self._on_disconnect, self._on_connect, self._on_close

    # -- models ----------------------------------------------------------------

    def _offer_models(self) -> None:
        self._screen.offer_models([(str(path), path.name) for path in self._shelf.paths])

    async def _load(self) -> None:
        """Open what is chosen; what was in use stays where that cannot be."""
        screen, live = self._screen, self.live
        threads = int(screen.threads.value or 1)
        wanted = [value for value in (screen.first_model.value, screen.second_model.value) if value]
        try:
            live.sessions = [await asyncio.to_thread(self._shelf.session, Path(path), threads) for path in wanted]
        except EvitEdgeError as exc:
            screen.fail(str(exc))
            if live.sessions:
                self._choose_again()
            else:
                screen.model.value = screen.status.value = ""
            self._page.update()
            return
        screen.error.visible = False
        screen.show_models(live.sessions, await asyncio.to_thread(this_device))
        screen.start.disabled = screen.choose.disabled = self.benchmark.begin.disabled = False
        self._page.update()

    def _choose_again(self) -> None:
        """Let the lists say what is in use."""
        sessions = self.live.sessions
        paths = [*(str(session.info.path) for session in sessions), ""]
        self._screen.first_model.value, self._screen.second_model.value = paths[:2]
        self._screen.threads.value = str(sessions[0].info.threads)

    async def _on_model(self, _: ft.Event[ft.Dropdown]) -> None:
        await self._change_models()

    async def _change_models(self) -> None:
        running = self.live.is_on
        await self.live.stop()
        await self._load()
        if running or self.live.is_on:  # started while models were opened, it would run those of before
            await self.live.stop()
            await self.live.start(keep_error=True)

    async def _on_open_model(self, _: ft.Event[ft.Button]) -> None:
        path = await self._receive(ft.FilePickerFileType.ANY, None)
        if path is None:
            return
        self._screen.first_model.value = str(path)
        await self._change_models()
        if any(session.info.path == path for session in self.live.sessions):
            self._shelf.put(path)
            self._offer_models()
        self._page.update()

    # -- pictures and files --------------------------------------------------------

    async def _on_choose(self, _: ft.Event[ft.Button]) -> None:
        file = await self._pick(ft.FilePickerFileType.IMAGE, None)
        if file is None or not self.live.sessions:
            return
        await self.live.stop()
        screen = self._screen
        screen.forget()
        screen.choose.disabled = True
        screen.status.value = self._texts.classifying
        self._page.update()
        try:
            screen.show_answer(await asyncio.to_thread(_answer, self.live.sessions[0], file, self._sends_bytes))
        except EvitEdgeError as exc:
            screen.forget()
            screen.fail(str(exc))
        finally:
            screen.choose.disabled = False
            self._page.update()

    async def _on_open_video(self, _: ft.Event[ft.Button]) -> None:
        path = await self._receive(ft.FilePickerFileType.CUSTOM, _VIDEOS)
        if path is not None:
            await self.live.play(SourceChoice(SourceKind.VIDEO, str(path), path.name))

    async def _on_snapshot(self, _: ft.Event[ft.IconButton]) -> None:
        content = await self.live.snapshot()
        if content is None:
            return
        await self._save("evit-edge-snapshot.jpg", content)

    async def _save(self, name: str, content: bytes) -> None:
        """Hand a file to the user."""
        path = await self._picker.save_file(file_name=name, src_bytes=content)
        if self._page.web or path is not None:
            self._screen.status.value = self._texts.saved.format(name=path or name)
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

    # -- benchmark ---------------------------------------------------------------------

    async def _on_benchmark(self, _: ft.Event[ft.Button]) -> None:
        """Measure what is chosen, alone; a camera that ran goes on afterwards."""
        if self.benchmark.is_on or not self.live.sessions:
            return
        running, complete = self.live.is_on, False
        self._hold(True)
        await self.live.stop()
        self._screen.error.visible = False
        try:
            complete = await self.benchmark.measure(self.live.sessions)
        except EvitEdgeError as exc:
            self._screen.fail(str(exc))
        finally:
            self._hold(False)
        if running and complete:
            await self.live.start(keep_error=True)

    def _hold(self, held: bool) -> None:
        """Nothing else is to be begun while something is measured."""
        s = self._screen
        lists = (s.source, s.first_model, s.second_model, s.threads)
        for control in (s.start, s.choose, s.open_model, s.open_video, self.benchmark.begin, *lists):
            control.disabled = held
        with contextlib.suppress(RuntimeError):  # the page may be gone
            self._page.update()

    # -- page ------------------------------------------------------------------------

    async def _on_theme(self, _: ft.Event[ft.IconButton]) -> None:
        dark = self._page.theme_mode is ft.ThemeMode.DARK or (
            self._page.theme_mode is not ft.ThemeMode.LIGHT
            and self._page.platform_brightness is ft.Brightness.DARK
        )
        self._page.theme_mode = ft.ThemeMode.LIGHT if dark else ft.ThemeMode.DARK
        self._page.update()

    async def _on_disconnect(self, _: ft.Event[ft.Page]) -> None:
        """The tab was closed, or reloads: nobody is there to look, so nothing runs."""
        await self.benchmark.cancel()
        await self.live.leave()

    async def _on_connect(self, _: ft.Event[ft.Page]) -> None:
        self._picker = ft.FilePicker()  # Flet 1.0.5's client forgets the old one when only the connection was cut
        await self.live.come_back()

    async def _on_close(self, event: ft.Event[ft.Page]) -> None:
        await self._on_disconnect(event)

    async def _on_language(self, _: ft.Event[ft.Dropdown]) -> None:
        await self._translate(self._screen.language.value or ENGLISH.code)


def _dress(page: ft.Page) -> None:
    """Colours, and in a browser our own letters: Flet's have no Korean, and a browser would ask the network."""
    font = None
    if page.web:
        page.fonts, font = {"EvitSans": "fonts/EvitSans.ttf"}, "EvitSans"
    # No shadows: drawing them is a tenth of each frame's work in a browser without a graphics processor.
    flat = ft.ButtonTheme(style=ft.ButtonStyle(elevation=0))
    page.theme = ft.Theme(color_scheme_seed=ft.Colors.INDIGO, font_family=font, button_theme=flat)
    page.dark_theme = ft.Theme(color_scheme_seed=ft.Colors.INDIGO, font_family=font, button_theme=flat)


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
