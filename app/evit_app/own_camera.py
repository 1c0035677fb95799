"""The camera of the browser or phone that shows the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import flet as ft
import flet_camera as fc

from evit_app.camera_link import CameraLink, page_link
from evit_app.frames import Orientation, SourceError
from evit_app.sources import HandedOver
from evit_app.texts import Texts

_ASKING_S = 120.0  # a person may think about whether to allow the camera

Clock = Callable[[], float]


class OwnCamera(Protocol):
    """A camera that hands its pictures over."""

    @property
    def controls(self) -> list[ft.Control]:
        """What has to be on the page while it is used."""
        ...

    async def open(self, name: str = "") -> tuple[HandedOver, list[str]]:
        """Ask for the camera and start it.

        Args:
            name: Which one; the first if empty.

        Returns:
            The source, and the names of all cameras.

        Raises:
            SourceError: There is none, or it was refused.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class BrowserCamera:
    """A browser's, by the script that the server adds to the page.

    Args:
        texts: The language of errors.
        link: To the page's script.
        clock: The link's and the pipeline's, seconds.
    """

    def __init__(self, texts: Texts, link: CameraLink, clock: Clock = time.perf_counter) -> None:
        self.controls: list[ft.Control] = []
        self._texts, self._link, self._clock = texts, link, clock

    async def open(self, name: str = "") -> tuple[HandedOver, list[str]]:
        """Ask for the camera and start it."""
        try:
            async with asyncio.timeout(_ASKING_S):
                started = await self._link.start(name)
        except (SourceError, TimeoutError) as exc:
            raise SourceError(_reason(self._texts, str(exc))) from exc
        source = HandedOver(started.name or self._texts.own_camera, clock=self._clock)
        self._link.on_picture = source.hand_over
        self._link.on_end = lambda reason: source.fail(self._texts.camera_lost.format(reason=reason))
        names = [one or self._texts.own_camera for one in started.names]
        if not name:  # the browser's choice is the first, whatever its order
            names = [source.name, *(one for one in names if one != source.name)]
        return source, names

    def close(self) -> None:
        """Let go of it."""
        self._link.stop()


class PhoneCamera:
    """A phone's, by flet-camera's image stream.

    Args:
        texts: The language of errors.
        clock: The pipeline's, seconds.
    """

    def __init__(self, texts: Texts, clock: Clock = time.perf_counter) -> None:
        self._control = fc.Camera(preview_enabled=False, width=1, height=1)
        self.controls: list[ft.Control] = [self._control]
        self._texts, self._clock = texts, clock
        self._source: HandedOver | None = None

    async def open(self, name: str = "") -> tuple[HandedOver, list[str]]:
        """Ask for the camera and start it; its control must be on the page."""
        control = self._control
        try:
            async with asyncio.timeout(_ASKING_S):
                found = await control.get_available_cameras()
                if not found:
                    raise SourceError(f"{self._texts.no_camera} {self._texts.offer}")
                chosen = next((camera for camera in found if camera.name == name), found[0])
                await control.initialize(chosen, fc.ResolutionPreset.MEDIUM, enable_audio=False)
                upright = Orientation(quarter_turns=chosen.sensor_orientation // 90)
                title = chosen.name or self._texts.own_camera
                self._source = HandedOver(title, orientation=upright, clock=self._clock)
                control.on_stream_image = self._on_image
                control.update()
                await control.start_image_stream()
        except (RuntimeError, TimeoutError) as exc:
            raise SourceError(_reason(self._texts, str(exc))) from exc
        return self._source, [camera.name for camera in found]

    def close(self) -> None:
        """Taking the control off the page lets go of the camera."""

    def _on_image(self, event: fc.CameraImageEvent) -> None:
        if self._source is not None:
            self._source.hand_over(event.bytes, self._clock())


def _reason(texts: Texts, message: str) -> str:
    """A sentence for what the browser or phone says in its own words."""
    if any(word in message for word in ("AccessDenied", "NotAllowed", "ermission")):
        return f"{texts.camera_refused} {texts.offer}"
    if any(word in message for word in ("NotFound", "notFound", "No camera")):
        return f"{texts.no_camera} {texts.offer}"
    return f"{texts.camera_lost.format(reason=message or 'TimeoutError')} {texts.offer}"


def camera_works(page: ft.Page) -> bool:
    """Whether the page is shown where it can have a camera of its own."""
    return page.web or (page.platform is not None and page.platform.is_mobile())


def camera_of(page: ft.Page, texts: Texts) -> OwnCamera:
    """The page's own camera; to be called by a handler of the page.

    Raises:
        SourceError: It is a browser's page that came another way than through ``CameraSockets``.
    """
    if not page.web:
        return PhoneCamera(texts)
    link = page_link.get()
    if link is None:
        raise SourceError(f"{texts.no_camera} {texts.offer}")
    return BrowserCamera(texts, link)
