"""The camera's socket: only the page that has the key gets in, and only what its script sends is taken."""

from __future__ import annotations

import asyncio
import json
import secrets
import struct
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from evit_app.camera_link import MAX_PICTURE_BYTES, CameraSockets, page_link

NOW_S = 100.0


class Pages:
    """In Flet's place: a socket that stays open, and the links of the pages."""

    def __init__(self):
        self.links = []

    async def __call__(self, scope, receive, send):
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        link = page_link.get()
        link._clock = lambda: NOW_S
        self.links.append(link)
        async for _ in socket.iter_bytes():
            pass


@asynccontextmanager
async def serving(pages):
    config = uvicorn.Config(
        CameraSockets(pages), port=0, ws="websockets-sansio", log_level="critical", lifespan="off"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def page_and_camera():
    """A page's link, its two sockets, and their addresses."""
    key, pages = secrets.token_hex(16), Pages()
    async with (
        serving(pages) as address,
        connect(f"{address}/ws?camera={key}") as page,
        connect(f"{address}/camera?camera={key}") as camera,
    ):
        while not pages.links:
            await asyncio.sleep(0.01)
        yield pages.links[0], page, camera, f"{address}/camera?camera={key}"


async def begin(link, camera, name=""):
    """Start; the number of the run."""
    starting = asyncio.create_task(link.start(name))
    told = json.loads(await camera.recv())
    assert told["start"] == name
    await camera.send(json.dumps({"run": told["run"], "started": "Webcam", "names": ["Webcam", "Other"]}))
    started = await starting
    assert (started.name, started.names) == ("Webcam", ("Webcam", "Other"))
    return told["run"]


def picture(run, captured_s=NOW_S, jpeg=b"jpeg"):
    return struct.pack("<Id", run, captured_s) + jpeg


def test_pictures_arrive_with_their_times_and_are_acknowledged():
    async def scene():
        async with page_and_camera() as (link, _, camera, _):
            run, got = await begin(link, camera), []
            link.on_picture = lambda *given: got.append(given)
            for captured_s in (NOW_S - 0.03, NOW_S + 5):
                await camera.send(picture(run, captured_s))
                assert json.loads(await camera.recv()) == {"run": run, "at": NOW_S}
            assert got == [(b"jpeg", NOW_S - 0.03), (b"jpeg", NOW_S)]  # none is from the future

    asyncio.run(scene())


def test_what_is_left_of_an_earlier_run_is_thrown_away():
    async def scene():
        async with page_and_camera() as (link, _, camera, _):
            first, got = await begin(link, camera), []
            link.stop()
            assert json.loads(await camera.recv())["stop"] is True
            second = await begin(link, camera, "Other")
            link.on_picture = lambda jpeg, _: got.append(jpeg)
            link.on_end = got.append
            await camera.send(picture(first, jpeg=b"old"))
            await camera.send(json.dumps({"run": first, "failed": "TrackEnded", "reason": "it ended"}))
            await camera.send(picture(second, jpeg=b"new"))
            assert json.loads(await camera.recv())["run"] == second
            assert got == [b"new"]

    asyncio.run(scene())


@pytest.mark.parametrize(
    "key",
    ["", "?camera=", "?camera=0123", f"?camera={'5a' * 16}"],
    ids=["none", "empty", "short", "of no page"],
)
def test_without_a_pages_key_nobody_feeds_it(key):
    async def scene():
        async with page_and_camera() as (link, _, camera, address):
            with pytest.raises(InvalidStatus, match="403"):
                async with connect(address.split("?")[0] + key):
                    pass
            await begin(link, camera)

    asyncio.run(scene())


def test_a_page_has_one_camera_socket_and_it_ends_with_the_page():
    async def scene():
        async with page_and_camera() as (link, page, camera, address):
            with pytest.raises(InvalidStatus, match="403"):
                async with connect(address):
                    pass
            await begin(link, camera)
            await page.close()
            await asyncio.wait_for(camera.wait_closed(), 10)
            with pytest.raises(InvalidStatus, match="403"):
                async with connect(address):
                    pass

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (lambda run: picture(run, jpeg=bytes(MAX_PICTURE_BYTES)), 1009),
        (lambda run: "x" * (MAX_PICTURE_BYTES + 1), 1009),
        (lambda run: b"", 1008),
        (lambda run: b"short", 1008),
        (lambda run: picture(run, jpeg=b""), 1008),
        (lambda run: picture(run, float("nan")), 1008),
        (lambda run: "{", 1008),
        (lambda run: "[" * 100_000, 1008),
        (lambda run: "7", 1008),
        (lambda run: json.dumps({"run": run}), 1008),
        (lambda run: json.dumps({"run": run, "started": "x", "names": 5}), 1008),
    ],
    ids=[
        *("large", "large-text", "empty", "short", "no-picture", "no-time"),
        *("no-json", "deep", "number", "nothing", "names"),
    ],
)
def test_what_the_script_does_not_send_closes_the_socket_and_the_page_starts_anew(message, code):
    async def scene():
        async with page_and_camera() as (link, _, camera, address):
            run, ends = await begin(link, camera), []
            link.on_end = ends.append
            await camera.send(message(run))
            await asyncio.wait_for(camera.wait_closed(), 10)
            assert camera.close_code == code
            async with connect(address) as again:
                assert ends == ["the connection was closed"]
                link.stop()
                assert json.loads(await again.recv())["stop"] is True
                await begin(link, again)

    asyncio.run(scene())
