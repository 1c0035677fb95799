"""The page's benchmark: a button, progress, the report's tables, and two files to save."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

import flet as ft

from evit_app.measuring import Measurement, report_files, request_for
from evit_app.session import Session
from evit_app.texts import Texts
from evit_edge.benchmark import Judgement, Progress, Report
from evit_edge.benchmark.presentation import Rows, headline, pipeline, status_line
from evit_edge.benchmark.surroundings import verdict_lines

Save = Callable[[str, bytes], Awaitable[None]]

_COLOURS = {
    Judgement.VALID: (ft.Colors.GREEN_100, ft.Colors.GREEN_900),
    Judgement.NOISY: (ft.Colors.AMBER_100, ft.Colors.BROWN_900),
    Judgement.THROTTLED: (ft.Colors.AMBER_100, ft.Colors.BROWN_900),
}


class BenchmarkPanel:
    """Controls, and one measurement at most.

    Args:
        texts: The language.
        save: Hands a file to the user, given its name and content.
    """

    def __init__(self, texts: Texts, save: Save) -> None:
        self._texts, self._save = texts, save
        self._measurement: Measurement | None = None
        self._ended = asyncio.Event()
        self.begin = ft.Button(texts.benchmark, icon=ft.Icons.SPEED, disabled=True)
        self._cancel = ft.Button(texts.benchmark_cancel, icon=ft.Icons.CLOSE, on_click=self._on_cancel)
        self._bar, self._told = ft.ProgressBar(value=0, bar_height=10), ft.Text()
        self._bar.semantics_label = texts.benchmark
        self._progress = ft.Column([self._told, self._bar, self._cancel], visible=False)
        self._results = ft.Column(visible=False, spacing=12)
        self.control = ft.Column([self._progress, self._results])

    @property
    def is_on(self) -> bool:
        """Whether something is measured."""
        return self._measurement is not None

    async def measure(self, sessions: list[Session]) -> bool:
        """Measure the models and show the report; whether it went to the end.

        Raises:
            EvitEdgeError: A model cannot be used.
        """
        self._measurement = measurement = Measurement(request_for(sessions), self._show)
        self._ended.clear()
        self._told.value, self._bar.value = self._texts.benchmark_starts, None
        self._results.controls, self._results.visible, self._progress.visible = [], False, True
        self._update()
        try:
            report = await measurement.run()
            self._fill(report)
        finally:
            self._measurement = None
            self._progress.visible = False
            self._ended.set()
            self._update()
        return status_line(report) is None

    async def cancel(self) -> None:
        """End the measurement, if there is one, and wait until nothing of it runs."""
        if self._measurement is not None:
            self._measurement.stop()
            await self._ended.wait()

    def end(self) -> None:
        """The same from any thread; blocks for a moment."""
        if self._measurement is not None:
            self._measurement.end()

    async def _on_cancel(self, _: ft.Event[ft.Button]) -> None:
        await self.cancel()

    def _show(self, progress: Progress) -> None:
        texts = self._texts
        self._told.value = texts.benchmark_progress(progress.phase.name, progress.subject, progress.remaining_s)
        self._bar.value = progress.done if progress.remaining_s is not None else None
        self._update()

    def _fill(self, report: Report) -> None:
        """The same tables as in the terminal, in English as all that the SDK says."""
        parts: list[ft.Control] = []
        partial_line = status_line(report)
        if partial_line is not None:
            parts.append(ft.Text(partial_line, weight=ft.FontWeight.BOLD))
        for device in report.devices:
            background, foreground = _COLOURS[device.verdict.judgement]
            words = "\n".join([device.name, *verdict_lines(device)])
            parts.append(
                ft.Container(ft.Text(words, color=foreground), bgcolor=background, padding=10, border_radius=8)
            )
        for rows in (headline(report, pictures=False), pipeline(report)):
            if rows is not None:
                parts += [ft.Text(rows.title), _table(rows)]
        parts += [ft.Text(remark) for remark in report.remarks]
        parts.append(ft.Row([self._saver(*file) for file in report_files(report).items()], wrap=True))
        self._results.controls, self._results.visible = parts, True

    def _saver(self, name: str, content: bytes) -> ft.Control:
        kind = name.rpartition(".")[2].upper()
        save = partial(self._save, name, content)

        async def on_click(_: ft.Event[ft.Button]) -> None:
            await save()

        return ft.Button(self._texts.benchmark_save.format(kind=kind), icon=ft.Icons.DOWNLOAD, on_click=on_click)

    def _update(self) -> None:
        with contextlib.suppress(RuntimeError):  # the page may be gone
            self.control.update()


def _table(rows: Rows) -> ft.Control:
    """A table that a narrow screen can push aside."""
    columns = [ft.DataColumn(label=ft.Text(name), numeric=i >= rows.left) for i, name in enumerate(rows.columns)]
    lines = [ft.DataRow([ft.DataCell(ft.Text(cell)) for cell in row]) for row in rows.rows]
    return ft.Row([ft.DataTable(columns, lines, column_spacing=20)], scroll=ft.ScrollMode.AUTO)
