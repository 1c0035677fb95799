"""The camera of the browser or phone that shows the page, through flet-camera."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import flet as ft
import flet_camera as fc

from evit_app.frames import Orientation, SourceError
from evit_app.sources import HandedOver
from evit_app.texts import Texts

_PATIENCE_S = 5.0  # a picture that takes longer will not come
_LAST_S = 1.0  # for the last picture, at the end
_ASKING_S = 120.0  # a person may think about whether to allow the camera


class OwnCamera:
    """Takes pictures one after the other and hands them over.

    On phones an image stream is used where there is one; browsers have none, so pictures are taken in a loop.

    Args:
        texts: The language of errors.
        clock: The pipeline's clock, seconds.
    """

    def __init__(self, texts: Texts, clock: Callable[[], float] = time.perf_counter) -> None:
        self.control = fc.Camera(preview_enabled=False, width=1, height=1)
        self._texts, self._clock = texts, clock
        self._source: HandedOver | None = None
        self._streams = False
        self.gone = False
        """Whether the page that shows it went away: then it answers no more."""

    async def open(self, name: str = "") -> tuple[HandedOver, list[str]]:
        """Ask for the camera and start it; its control must be on the page.

        Args:
            name: Which one; the first if empty.

        Returns:
            The source, and the names of all cameras.

        Raises:
            SourceError: There is none, or it was refused.
        """
        try:
            async with asyncio.timeout(_ASKING_S):
                found = await self.control.get_available_cameras()
                if not found:
                    raise SourceError(f"{self._texts.no_camera} {self._texts.offer}")
                chosen = next((camera for camera in found if camera.name == name), found[0])
                await self.control.initialize(chosen, fc.ResolutionPreset.MEDIUM, enable_audio=False)
                self._streams = await self.control.supports_image_streaming()
        except (RuntimeError, TimeoutError) as exc:
            raise SourceError(self._reason(str(exc))) from exc
        title = chosen.name or self._texts.own_camera
        self._source = HandedOver(title, orientation=_upright(chosen, self._streams), clock=self._clock)
        return self._source, [camera.name for camera in found]

    async def feed(self) -> None:
        """Take pictures until cancelled, or until none come any more."""
        if self._source is None:
            return
        try:
            if self._streams:
                self.control.on_stream_image = self._on_image
                self.control.update()
                await self.control.start_image_stream()
                return
            await self._take_all(self._source)
        except (RuntimeError, TimeoutError) as exc:
            self._source.fail(self._texts.camera_lost.format(reason=exc or type(exc).__name__))

    async def _take_all(self, source: HandedOver) -> None:
        """One picture after the other; the next is asked for before the last is handed over, which takes time."""
        asked = asyncio.create_task(self._take())
        try:
            while True:
                picture = await asyncio.shield(asked)
                asked = asyncio.create_task(self._take())
                await asyncio.sleep(0)  # lets the request go out
                source.hand_over(*picture)
        finally:
            # Flet closes the connection over an answer to a control that is gone: it has to come in before that.
            if not self.gone:
                await asyncio.wait({asked}, timeout=_LAST_S)
            asked.cancel()

    async def _take(self) -> tuple[bytes, float]:
        """A picture and when it was asked for."""
        asked_s = self._clock()
        async with asyncio.timeout(_PATIENCE_S):
            return await self.control.take_picture(), asked_s

    def _on_image(self, event: fc.CameraImageEvent) -> None:
        if self._source is not None:
            self._source.hand_over(event.bytes, self._clock())

    def _reason(self, message: str) -> str:
        """A sentence for what the browser says in its own words."""
        if any(word in message for word in ("AccessDenied", "NotAllowed", "ermission")):
            return f"{self._texts.camera_refused} {self._texts.offer}"
        if any(word in message for word in ("NotFound", "notFound", "No camera")):
            return f"{self._texts.no_camera} {self._texts.offer}"
        return f"{self._texts.camera_lost.format(reason=message or 'TimeoutError')} {self._texts.offer}"


def _upright(camera: fc.CameraDescription, streams: bool) -> Orientation:
    """Browsers mirror what they take, except by a camera that they know to face away; phones leave it turned."""
    if streams:
        return Orientation(quarter_turns=camera.sensor_orientation // 90)
    return Orientation(mirrored=camera.lens_direction is not fc.CameraLensDirection.BACK)


def camera_works(page: ft.Page) -> bool:
    """Whether flet-camera has an implementation where the page is shown."""
    return page.web or (page.platform is not None and page.platform.is_mobile())
