"""A small NGAS over HTTP on loopback: RETRIEVE and STATUS, with the ASDMs of the execution blocks that have arrived."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aogconsole.demo.reingestionday import Held
from aogconsole.ids import MousUid

if TYPE_CHECKING:
    from aiohttp import web

PER_FILE = 1.0
"""Seconds, at speed 1, for each file: a workflow is to be seen while it runs."""
LENGTH = timedelta(hours=1)
"""Of an execution block."""
ANSWER = (
    '<?xml version="1.0" ?>\n<NgamsStatus>\n  <Status HostId="demo" Message="{}" State="ONLINE" Status="{}"'
    ' SubState="IDLE" Version="v11.0"/>\n</NgamsStatus>\n'
)
MISSING = "NGAMS_ER_UNAVAIL_FILE:4020:ERROR: File with File ID: {} not available."


class DemoNgas:
    """It listens from the start, and answers while it serves."""

    def __init__(self, speed: float) -> None:
        """Raises OSError when it cannot listen."""
        self._files: dict[str, Mapping[str, bytes]] = {}
        self._lacking: set[str] = set()
        """Those that are not there until they have been asked for."""
        self._per_file = PER_FILE / speed
        self._hurry = asyncio.Event()
        self._socket = socket.socket()
        try:
            self._socket.bind(("127.0.0.1", 0))
            self._socket.listen()
        except BaseException:
            self._socket.close()
            raise
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def keep(self, uid: MousUid, ended: datetime, held: Held) -> None:
        """Hold an execution block's ASDM from now on."""
        from aogconsole.demo.asdm import asdm  # not at the demo's start

        if held == "missing":
            return
        files = dict(asdm(uid.database, ended - LENGTH, ended))
        if held == "truncated":
            files["ExecBlock"] = files["ExecBlock"][: len(files["ExecBlock"]) // 2]
        if held == "late":
            self._lacking.add(uid.mail)
        self._files[uid.mail] = files

    def hurry(self) -> None:
        """Let what is being read come at once."""
        self._hurry.set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer, in the loop that runs."""
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/RETRIEVE", self._retrieve)
        app.router.add_get("/STATUS", self._status)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket).start()
            yield
        finally:
            await runner.cleanup()

    async def _status(self, _request: web.Request) -> web.Response:
        return _told("Successfully handled command STATUS", "SUCCESS", 200)

    async def _retrieve(self, request: web.Request) -> web.Response:
        from aiohttp import web

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._per_file):
                await self._hurry.wait()
        name = request.query.get("file_id", "")
        folder, _, table = name.partition("/")
        table = table.removesuffix(".xml")
        files = self._files.get(folder, {})
        if table not in files or folder in self._lacking:
            if table == "ExecBlock":
                self._lacking.discard(folder)
            return _told(MISSING.format("".join(one for one in name[:80] if one.isalnum() or one in "_/.")), "FAILURE",
                         400)  # fmt: skip
        return web.Response(body=files[table], content_type="text/xml")


def _told(message: str, status: str, code: int) -> web.Response:
    from aiohttp import web

    return web.Response(status=code, text=ANSWER.format(message, status), content_type="text/xml")
