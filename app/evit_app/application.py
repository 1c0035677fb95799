"""One running program and its pages."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import flet as ft

from evit_app.choices import Shelf, SourceChoice
from evit_app.texts import ENGLISH, LANGUAGES, Texts
from evit_app.view import PageView
from evit_edge.errors import EvitEdgeError


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
        self._views: weakref.WeakSet[PageView] = weakref.WeakSet()

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
        self._views.add(view)
        await view.show(self._threads)

    async def _translate(self, view: PageView, page: ft.Page, code: str) -> None:
        await view.stop()
        page.clean()
        await self._show(page, next(one for one in LANGUAGES if one.code == code))

    def close(self) -> None:
        """End what is measured, and throw away what was received; cameras end with their pages' connections."""
        for view in list(self._views):
            view.benchmark.end()
        if self._shelf is not None:
            self._shelf.close()
