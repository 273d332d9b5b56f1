"""A TCP proxy on loopback that can hold, reset or half-close its connections at will."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self


class TcpProxy:
    """Forwards 127.0.0.1:`port` to `host`:`target`.

    `up` (to the server) and `down` (to the client) are open gates; a cleared gate freezes that direction.
    """

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self.target = target
        self.host = host
        self.port = 0
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.up.set()
        self.down.set()
        self.connected = 0
        """Connections ever made."""
        self.sent_up = self.sent_down = 0
        """Bytes forwarded."""
        self.moved = asyncio.Condition()
        """Notified after each forwarded piece."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.target)
        except OSError:
            writer.transport.abort()
            return
        self.connected += 1
        pair = (writer, far_writer)
        self._writers.append(pair)
        try:
            await asyncio.gather(self._pump(reader, far_writer, up=True), self._pump(far_reader, writer, up=False))
        finally:
            with contextlib.suppress(ValueError):
                self._writers.remove(pair)
            for end in pair:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        gate = self.up if up else self.down
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                await gate.wait()
                writer.write(piece)
                await writer.drain()
                if up:
                    self.sent_up += len(piece)
                else:
                    self.sent_down += len(piece)
                async with self.moved:
                    self.moved.notify_all()
            await gate.wait()
            writer.write_eof()

    def freeze(self) -> None:
        """Let nothing through, close nothing."""
        self.up.clear()
        self.down.clear()

    def thaw(self) -> None:
        """Let everything through again."""
        self.up.set()
        self.down.set()

    def reset(self) -> None:
        """Break every connection with RST, both ends; what is held is lost. New ones are welcome."""
        for pair in self._writers:
            for end in pair:
                _abort_hard(end)
        self._writers.clear()
        self.thaw()

    def half_close(self) -> None:
        """Say the end to the clients, keep the rest open."""
        for near, _ in self._writers:
            if near.can_write_eof():
                near.write_eof()


def _abort_hard(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
