"""One connection to RabbitMQ that comes back by itself, and its channels.

pika's callbacks become awaited calls here, each bounded in time: whatever happens to the connection, a call ends. The
wrapper needs four of pika's private methods; a test for each tells when a version of pika has changed them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pika import exceptions, spec  # type: ignore[import-untyped]
from pika.adapters.asyncio_connection import AsyncioConnection  # type: ignore[import-untyped]
from pika.frame import Header  # type: ignore[import-untyped]

from aogconsole.errors import BrokerError
from aogconsole.text import clean
from backends.rabbitmq_address import Address
from backends.reingestion_ports import BrokerState

FIRST, CALM = 0.2, 30.0
"""Seconds before the first new attempt; and those after which a connection counts as good."""

logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs every fault that we tell, and with tracebacks


class LoginRefused(BrokerError):
    """The broker does not let us in: correct the account, or its rights to the virtual host."""


class ChannelGone(BrokerError):
    """A channel ended. `code`: the broker's reply code; 0: with its whole connection."""

    def __init__(self, message: str, hint: str = "", code: int = 0) -> None:
        super().__init__(message, hint)
        self.code = code


class _Connection(AsyncioConnection):  # type: ignore[misc]
    """pika's connection, which survives a message whose properties cannot be read."""

    def _read_frame(self) -> Any:
        try:
            return super()._read_frame()
        except exceptions.InvalidFrameError:
            raise
        except Exception:  # a header such as a time in the year 60000: the message comes without its properties
            kind, channel = self._frame_buffer[0], int.from_bytes(self._frame_buffer[1:3], "big")
            if kind != spec.FRAME_HEADER:
                raise
            size = int.from_bytes(self._frame_buffer[3:7], "big")
            body = int.from_bytes(self._frame_buffer[11:19], "big")
            end = spec.FRAME_HEADER_SIZE + size + spec.FRAME_END_SIZE
            return end, Header(channel, body, spec.BasicProperties())

    def abort(self, why: BrokerError) -> None:
        """End it now, without a word to the other side."""
        with suppress(Exception):  # it may be in any state; what counts is that it ends
            self._terminate_stream(why)


class Tube:
    """A channel. `closed` is done when it ended, and has why."""

    def __init__(self, line: Line, connection: _Connection, raw: Any, closed: asyncio.Future[ChannelGone]) -> None:
        self._line = line
        self._connection = connection
        self.raw = raw
        self.closed = closed

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return not self.closed.done()

    @property
    def timeout(self) -> float:
        """Seconds that an answer may take."""
        return self._line.timeout

    @property
    def blocked(self) -> str:
        """Why the broker takes nothing from this connection now; empty: it does."""
        state = self._line.state
        return state.why if state.word == "blocked" else ""

    def gone(self) -> ChannelGone:
        """Why it ended."""
        return self.closed.result()

    async def sibling(self) -> Tube:
        """Another channel on its connection. Raises ChannelGone."""
        return await self._line.channel(self._connection)

    async def call(self, method: Callable[..., object], /, *words: object, **named: object) -> Any:
        """Call one of pika's methods that answer, and give the answer. Raises ChannelGone, in time."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.open:
            raise self.gone()
        try:
            method(*words, **named, callback=lambda frame: _once(answer, frame))
        except exceptions.AMQPError as error:
            raise self.gone() if not self.open else ChannelGone(_said(error), code=1) from None
        except (ValueError, AssertionError) as error:
            raise BrokerError(f"that cannot be said to the broker: {clean(str(error))[:200]}") from None
        return await self.wait(answer)

    async def wait(self, answer: asyncio.Future[Any]) -> Any:
        """An answer on this channel. Raises ChannelGone when the channel ends before, or the broker is silent."""
        await asyncio.wait({answer, self.closed}, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if self.open:
            self.drop()
        raise self.gone()

    def drop(self) -> None:
        """The broker is silent: end the whole connection."""
        why = f"the broker did not answer for {self.timeout:g} s"
        self._line.drop(self._connection, why)
        if self.open:
            self.closed.set_result(ChannelGone(why, _DOWN))

    def close(self) -> None:
        """End it alone."""
        with suppress(exceptions.AMQPError):
            self.raw.close()


_DOWN = "see whether RabbitMQ runs, and is not overloaded"


class Line:
    """A connection that is made when it is needed, and made anew when it broke, as long as it is wanted."""

    def __init__(self, address: Address, name: str, timeout: float, slowest: float) -> None:
        self.address = address
        self.timeout = timeout
        self._name = f"aogconsole {name} {socket.gethostname()} {os.getpid()}"
        self._slowest = slowest
        self._state = BrokerState("closed")
        self._failure: BrokerError | None = None
        self._connection: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def state(self) -> BrokerState:
        """How it is."""
        return self._state

    @property
    def used(self) -> bool:
        """Whether anybody ever wanted it."""
        return self._keeper is not None

    def moved(self) -> asyncio.Event:
        """An event that is set at the next change of the state."""
        return self._moved

    async def tube(self, end: float | None = None, *, now: bool = False) -> Tube:
        """A fresh channel, once there is a connection; until a time of the loop's clock (`timeout` seconds from now).

        `now`: no waiting for the next attempt. Raises BrokerError.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.timeout if end is None else end
        while True:
            connection = await self._connected(end, now)
            try:
                return await self.channel(connection)
            except ChannelGone:
                if now or loop.time() > end:
                    raise
                await asyncio.sleep(0.02)

    async def channel(self, connection: _Connection) -> Tube:
        """A fresh channel on this connection. Raises ChannelGone."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Any] = loop.create_future()
        closed: asyncio.Future[ChannelGone] = loop.create_future()
        try:
            raw = connection.channel(on_open_callback=lambda channel: _once(opened, channel))
        except exceptions.AMQPError as error:
            raise ChannelGone(_said(error), _DOWN) from None
        raw.add_on_close_callback(lambda _channel, why: _once(closed, _gone(why)))
        tube = Tube(self, connection, raw, closed)
        await tube.wait(opened)
        return tube

    def drop(self, connection: _Connection, why: str) -> None:
        """Give a connection up, at once."""
        connection.abort(BrokerError(why))

    async def close(self) -> None:
        """End the connection; it may be wanted again later."""
        keeper, self._keeper = self._keeper, None
        connection, self._connection = self._connection, None
        if keeper:
            keeper.cancel()
            await asyncio.wait({keeper})
        if connection and connection.is_open:
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            connection.add_on_close_callback(lambda *_: _once(gone, None))
            with suppress(exceptions.AMQPError):
                connection.close()
                await asyncio.wait({gone}, timeout=min(self.timeout, 5.0))
            if not gone.done():
                connection.abort(BrokerError("the broker does not answer"))
        self._failure = None
        self._to(BrokerState("closed"))

    # ── the connection ──

    async def _connected(self, end: float, now: bool) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._keeper is None or self._keeper.done() or self._keeper.get_loop() is not loop:
            self._moved, self._hurry = asyncio.Event(), asyncio.Event()
            self._failure, self._connection = None, None
            self._keeper = loop.create_task(self._keep())
        elif now:
            self._failure = None
            self._hurry.set()
        while not (self._connection and self._connection.is_open):
            failure = self._failure
            if failure and (now or isinstance(failure, LoginRefused)):
                raise failure
            try:
                async with asyncio.timeout_at(end):
                    await self._moved.wait()
            except TimeoutError:
                why = f": {failure}" if failure else ""
                hint = failure.hint if failure else _DOWN
                raise BrokerError(f"there is no connection to the broker{why}", hint) from None
        return self._connection

    async def _keep(self) -> None:
        """Connect, wait for the end, wait a little, and again."""
        pause, loop = FIRST, asyncio.get_running_loop()
        while True:
            self._to(BrokerState("connecting", str(self._failure or "")))
            begun = loop.time()
            try:
                ended = await self._connect()
            except BrokerError as error:
                self._failure = error
            else:
                self._failure = None
                begun = loop.time()
                self._to(BrokerState("connected"))
                why = await ended
                self._connection = None
                self._failure = BrokerError(f"the connection to the broker broke: {_said(why)}", _DOWN)
            if loop.time() - begun > CALM:
                pause = FIRST
            if isinstance(self._failure, LoginRefused):
                pause = self._slowest
            self._to(BrokerState("connecting", str(self._failure)))
            with suppress(TimeoutError):
                self._hurry.clear()
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):  # noqa: S311
                    await self._hurry.wait()
            pause = min(pause * 2, self._slowest)

    async def _connect(self) -> asyncio.Future[BaseException]:
        """One attempt; gives what is done when the connection ends. Raises BrokerError."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[BaseException | None] = loop.create_future()
        ended: asyncio.Future[BaseException] = loop.create_future()
        connection = _Connection(
            self.address.parameters(self._name, self.timeout),
            lambda _connection: _once(opened, None),
            lambda _connection, why: _once(opened, why),
            lambda _connection, why: _once(ended, why),
            custom_ioloop=loop,
        )
        connection.add_on_connection_blocked_callback(self._blocked)
        connection.add_on_connection_unblocked_callback(self._unblocked)
        try:
            await asyncio.wait({opened}, timeout=self.timeout)
        finally:
            if not opened.done():
                with suppress(exceptions.AMQPError):
                    connection.close()
        if not opened.done():
            raise BrokerError(f"{self.address} did not answer within {self.timeout:g} s", _DOWN)
        failure = opened.result()
        if failure is not None:
            raise self._refusal(failure)
        self._connection = connection
        return ended

    def _refusal(self, failure: BaseException) -> BrokerError:
        """Why there is no connection, and what to do."""
        failure, where = _root(failure), str(self.address)
        if isinstance(failure, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
            hint = "correct the user in broker.url, or the password that broker.password names"
            return LoginRefused(f"the broker refuses the log-in at {where}", hint)
        if isinstance(failure, exceptions.ProbableAccessDeniedError):
            hint = "correct the vhost in broker.url, or let the administrator give the user its permissions"
            return LoginRefused(f"the broker refuses the virtual host of {where}", hint)
        if isinstance(failure, exceptions.IncompatibleProtocolError | exceptions.StreamLostError):
            hint = "see whether the port is right, and TLS wanted there (amqps)"
            return BrokerError(f"what answers at {where} does not speak AMQP 0-9-1", hint)
        if isinstance(failure, ssl.SSLError):
            return BrokerError(f"no TLS with {where}: {_said(failure)}", "see broker.ca, and the certificate's names")
        if isinstance(failure, TimeoutError):
            return BrokerError(f"{where} did not answer within {self.timeout:g} s", _DOWN)
        return BrokerError(f"{where} cannot be reached: {_said(failure)}", _DOWN)

    def _blocked(self, connection: Any, frame: Any) -> None:
        if connection is self._connection:
            self._to(BrokerState("blocked", _short(frame.method.reason) or "the broker is short of memory or disk"))

    def _unblocked(self, connection: Any, _frame: Any) -> None:
        if connection is self._connection:
            self._to(BrokerState("connected"))

    def _to(self, state: BrokerState) -> None:
        self._state = state
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def _once(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def _root(error: BaseException) -> BaseException:
    """The error beneath pika's wrappings."""
    for _ in range(8):
        beneath = getattr(error, "exception", None) or (getattr(error, "exceptions", None) or (None,))[-1]
        if beneath is None and type(error) is exceptions.AMQPConnectionError and error.args:
            beneath = error.args[0]
        if not isinstance(beneath, BaseException):
            break
        error = beneath
    return error


def _said(error: BaseException) -> str:
    """What an error says, short and safe."""
    error = _root(error)
    text = getattr(error, "reply_text", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _short(text)


def _short(text: object) -> str:
    return clean(text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text))[:300]


def _gone(why: BaseException) -> ChannelGone:
    """Why a channel ended."""
    if isinstance(why, exceptions.ChannelClosedByBroker):
        return ChannelGone(_said(why), code=why.reply_code)
    return ChannelGone(f"the connection to the broker broke: {_said(why)}", _DOWN)
