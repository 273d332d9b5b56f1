"""pika's connection on asyncio's own streams.

pika's way to a connection cannot be broken off while the broker is silent (it fails on assertions of its own), so
connecting is done here. This needs a few of pika's private methods; the tests of faults tell when they have changed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import Any, cast

from pika import exceptions, spec  # type: ignore[import-untyped]
from pika.adapters.asyncio_connection import AsyncioConnection  # type: ignore[import-untyped]
from pika.frame import Header  # type: ignore[import-untyped]

from aogconsole.errors import BrokerError
from aogconsole.text import clean
from backends.rabbitmq_address import Address

logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs every fault that we tell, and with tracebacks


class Connection(AsyncioConnection):  # type: ignore[misc]
    """An open connection. `ended` is done when it is no more, and says why."""

    def __init__(self, address: Address, name: str) -> None:
        """Not yet connected: `connect` makes one."""
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[BaseException | None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._stream = _Stream(self)
        super().__init__(
            address.parameters(name),
            lambda _connection: once(self.opened, None),
            lambda _connection, why: once(self.opened, why),
            lambda _connection, why: once(self.ended, said(self._stream.fault or why)),
            custom_ioloop=loop,
            internal_connection_workflow=False,
        )

    @classmethod
    async def connect(cls, address: Address, name: str, timeout: float) -> Connection:
        """Connect and log in. Raises what the sockets or pika raise; TimeoutError in time."""
        connection = cls(address, name)
        server = address.host if address.tls else None
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection._stream, address.host, address.port, ssl=address.tls, server_hostname=server
                )
                failure = await connection.opened
        except BaseException:
            connection.abort("it was broken off")
            raise
        if failure is not None:
            raise failure
        return connection

    def abort(self, why: str) -> None:
        """End it now, without a word to the other side."""
        self._stream.fail(BrokerError(why))

    def _read_frame(self) -> Any:
        try:
            return super()._read_frame()
        except exceptions.InvalidFrameError:
            raise
        except Exception:  # a header such as a time in the year 60000: the message comes without its properties
            start = self._frame_buffer
            if start[0] != spec.FRAME_HEADER:
                raise
            channel, size, body = (int.from_bytes(start[one:to], "big") for one, to in ((1, 3), (3, 7), (11, 19)))
            end = spec.FRAME_HEADER_SIZE + size + spec.FRAME_END_SIZE
            return end, Header(channel, body, spec.BasicProperties())


class _Stream(asyncio.Protocol):
    """The bytes between: what comes goes to pika, what pika writes in one turn of the loop goes out at once."""

    def __init__(self, connection: Connection) -> None:
        self.fault: BaseException | None = None
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to speak AMQP."""
        self._transport = cast("asyncio.Transport", transport)
        if self.fault:
            self._transport.abort()
        self._connection._proto_connection_made(self)

    def data_received(self, data: bytes) -> None:
        """Give it to pika; what it cannot read ends the connection."""
        try:
            self._connection._proto_data_received(data)
        except Exception as error:
            self.fail(error)

    def eof_received(self) -> bool:
        """The other side has no more to say."""
        return bool(self._connection._proto_eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over; pika tells its channels."""
        self._transport = None
        self.fault = self.fault or exc
        with suppress(AssertionError):  # pika wants a reason, and has none when nobody gave one
            self._connection._proto_connection_lost(self.fault)

    def write(self, data: bytes) -> None:
        """pika's frames: three for each message, so they are gathered."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(data)

    def abort(self) -> None:
        """pika ends it: what it has said before still goes out if it can."""
        self._flush()
        if self._transport:
            self._transport.abort()

    def fail(self, fault: BaseException) -> None:
        """End it for a reason."""
        self.fault = self.fault or fault
        if self._transport:
            self._transport.abort()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and self._transport:
            self._transport.write(b"".join(waiting))


def once(future: asyncio.Future[Any], value: object) -> None:
    """Give a future its result, unless it has one."""
    if not future.done():
        future.set_result(value)


def said(error: BaseException) -> str:
    """What an error says, short and safe."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)  # asyncio's own text is about its call
    text = getattr(error, "reply_text", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return short(text)


def short(text: object) -> str:
    """A text of the broker, short and safe."""
    return clean(text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text))[:300]
