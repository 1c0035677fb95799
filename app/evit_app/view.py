"""The screen: one model, one picture, its labels and times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import flet as ft

from evit_app.controls import label_bar, replay_banner
from evit_app.session import Answer, Session
from evit_app.texts import ENGLISH, Texts
from evit_edge.errors import DataError, EvitEdgeError

_HALF: dict[str | ft.ResponsiveRowBreakpoint, int | float] = {"xs": 12, "md": 6}
"""Beside each other where there is room, below each other on a phone."""


class App:
    """What every page of one running program shares: the model, loaded when the first page asks.

    Args:
        open_session: Loads the model; blocks, and may raise an EvitEdgeError.
        texts: The language.
    """

    def __init__(self, open_session: Callable[[], Session], texts: Texts = ENGLISH) -> None:
        self._open_session = open_session
        self._texts = texts
        self._session: Session | None = None
        self._opening = asyncio.Lock()

    async def start(self, page: ft.Page) -> None:
        """Fill a new page."""
        await ClassifierView(page, self.session, self._texts).show()

    async def session(self) -> Session:
        """The model.

        Raises:
            EvitEdgeError: It cannot be used.
        """
        async with self._opening:  # two tabs opened at once load it once
            if self._session is None:
                self._session = await asyncio.to_thread(self._open_session)
            return self._session


class ClassifierView:
    """One page.

    Args:
        page: Where the controls go.
        load: Gives the model.
        texts: The language.
    """

    def __init__(self, page: ft.Page, load: Callable[[], Awaitable[Session]], texts: Texts) -> None:
        self._page, self._load, self._texts = page, load, texts
        self._session: Session | None = None
        self._picker = ft.FilePicker()
        self._choose = ft.Button(
            texts.choose, icon=ft.Icons.IMAGE_OUTLINED, on_click=self._on_choose, disabled=True, autofocus=True
        )
        self._model = ft.Text(texts.loading)
        self._replay = ft.Column()
        self._status = ft.Text(texts.nothing_chosen)
        self._error = ft.Text(color=ft.Colors.ERROR, selectable=True, visible=False)
        self._picture = ft.Column(col=_HALF)
        self._labels = ft.Column(spacing=12)
        self._times = ft.Text(selectable=True)

    async def show(self) -> None:
        """Put the controls on the page, then load the model."""
        self._page.title = self._texts.title
        self._page.scroll = ft.ScrollMode.AUTO
        answer = ft.Column([self._labels, self._times], col=_HALF)
        self._page.add(
            ft.SafeArea(
                ft.Column(
                    [
                        self._model,
                        self._replay,
                        self._choose,
                        self._status,
                        self._error,
                        ft.ResponsiveRow([self._picture, answer]),
                    ]
                )
            )
        )
        await self._open_model()

    async def _open_model(self) -> None:
        try:
            self._session = await self._load()
        except EvitEdgeError as exc:
            self._model.value = ""
            self._status.value = ""
            self._fail(str(exc))
            return
        info, replay = self._session.info, self._session.replay
        runtime = f"{info.runtime} {info.runtime_version}"
        self._model.value = self._texts.model(info.path.name, runtime, info.threads, info.image_size)
        self._replay.controls = [replay_banner(replay, self._texts)]
        self._choose.disabled = False
        self._page.update()

    async def _on_choose(self, _: ft.Event[ft.Button]) -> None:
        picked = await self._picker.pick_files(file_type=ft.FilePickerFileType.IMAGE, with_data=self._sends_bytes)
        if picked:
            await self._classify(picked[0])

    @property
    def _sends_bytes(self) -> bool:
        """Whether the picker has to hand over the content: a browser gives no path, and a phone one of no use."""
        platform = self._page.platform
        return self._page.web or (platform is not None and platform.is_mobile())

    async def _classify(self, file: ft.FilePickerFile) -> None:
        if self._session is None:
            return
        self._choose.disabled = True
        self._error.visible = False
        self._status.value = self._texts.classifying
        self._page.update()
        try:
            self._fill(await asyncio.to_thread(_answer, self._session, file, self._sends_bytes))
        except EvitEdgeError as exc:
            self._clear()
            self._fail(str(exc))
        finally:
            self._choose.disabled = False
            self._page.update()

    def _fill(self, answer: Answer) -> None:
        result = answer.classification
        self._status.value = answer.name
        name = self._texts.picture(answer.name)
        self._picture.controls = [ft.Image(src=answer.preview, fit=ft.BoxFit.CONTAIN, semantics_label=name)]
        self._labels.controls = [label_bar(prediction, self._texts) for prediction in result.predictions]
        self._times.value = self._texts.times(result.decode_s, result.preprocess_s, result.inference_s)

    def _clear(self) -> None:
        """An old answer below a new error would be read as the new picture's."""
        self._status.value = ""
        self._picture.controls = []
        self._labels.controls = []
        self._times.value = ""

    def _fail(self, message: str) -> None:
        self._error.value = message
        self._error.visible = True
        self._page.update()


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
