"""A private NGAS: answers RETRIEVE and STATUS as the real one does, and errs to order."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Self

import pytest
from aiohttp import web

from tests.support.asdm import EXECUTION_BLOCK

Fault = Literal[
    "drop", "hang", "short", "endless", "loop", "elsewhere", "failed with 200", "busy", "zipped", "not http"
]

_FAILURE = (
    '<?xml version="1.0" ?>\n<NgamsStatus>\n  <Status Date="2026-11-22T03:00:00.000" HostId="ngas1" '
    'Message="{}" State="ONLINE" Status="FAILURE" SubState="IDLE" Version="v11.0"/>\n</NgamsStatus>\n'
)
_MISSING = "NGAMS_ER_UNAVAIL_FILE:4020:ERROR: File with File ID: {} not available."


class Ngas:
    """An NGAS with its files. A context manager; any number may run at once."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: deque[Fault] = deque()
        """Met by the next requests for files, one each."""
        self.sent_to: deque[str] = deque()
        """Where the next requests for files are sent, one each."""
        self.asked: list[str] = []
        """The file_id of each request."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ngas", daemon=True)
        self._held = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def put(self, files: dict[str, bytes], uid: str = EXECUTION_BLOCK) -> None:
        """An ASDM's files under `UID/TABLE.xml`."""
        folder = uid.replace("://", "___").replace("/", "_")
        self.files.update({f"{folder}/{name}.xml": data for name, data in files.items()})

    def go_on(self) -> None:
        """Give what hangs its answer."""
        self._loop.call_soon_threadsafe(self._held.set)

    async def _open(self) -> str:
        app = web.Application()
        app.router.add_get("/RETRIEVE", self._retrieve)
        app.router.add_get("/STATUS", self._status)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        self._held.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _status(self, _request: web.Request) -> web.Response:
        body = _FAILURE.format("Successfully handled command STATUS").replace("FAILURE", "SUCCESS")
        return web.Response(text=body, content_type="text/xml")

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        name = request.query.get("file_id", "")
        self.asked.append(name)
        if self.sent_to:
            return web.Response(status=302, headers={"Location": self.sent_to.popleft()})
        if self.faults:
            return await self._faulty(self.faults.popleft(), request, name)
        if name not in self.files:
            return web.Response(status=400, text=_FAILURE.format(_MISSING.format(name)), content_type="text/xml")
        return web.Response(body=self.files[name], content_type="text/xml")

    async def _faulty(self, fault: Fault, request: web.Request, name: str) -> web.StreamResponse:
        data = self.files.get(name, b"")
        match fault:
            case "loop":
                raise web.HTTPFound(str(request.rel_url))
            case "elsewhere":
                raise web.HTTPSeeOther(f"{request.rel_url}&moved=1")
            case "failed with 200":
                return web.Response(text=_FAILURE.format(_MISSING.format(name)), content_type="text/xml")
            case "busy":
                return web.Response(status=503, text="Service \x1b[31m Unavailable")
            case "zipped":
                return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
            case "hang":
                await self._held.wait()
                return web.Response(body=data)
            case "drop" | "not http":
                assert request.transport is not None
                if fault == "not http":
                    request.transport.write(b"\x00\x01\x02\r\n\r\n")
                request.transport.close()
                return web.Response()
        answer = web.StreamResponse()
        if fault == "short":
            answer.content_length = len(data) + 10
        await answer.prepare(request)
        await answer.write(data[: len(data) // 2])
        if fault == "endless":
            while not self._held.is_set():
                await answer.write(b" " * 65536)
        assert request.transport is not None
        request.transport.close()
        return answer


@pytest.fixture
def ngas() -> Iterator[Ngas]:
    """An NGAS without files."""
    with Ngas() as running:
        yield running
