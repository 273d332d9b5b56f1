"""One connection to RabbitMQ that comes back by itself, and its channels.

pika's callbacks become awaited calls here, each bounded in time: whatever happens to the connection, a call ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pika import exceptions  # type: ignore[import-untyped]

from aogconsole.errors import BrokerError
from aogconsole.text import clean
from backends.broker_ports import BrokerState
from backends.rabbitmq_address import Address
from backends.rabbitmq_stream import Connection, once, said, short

FIRST, CALM = 0.2, 30.0
"""Seconds before the first new attempt; and those after which a connection counts as good."""


class LoginRefused(BrokerError):
    """The broker does not let us in: correct the account, or its rights to the virtual host."""


class ChannelGone(BrokerError):
    """A channel ended. `code`: the broker's reply code; 0: with its whole connection."""

    def __init__(self, message: str, hint: str = "", code: int = 0) -> None:
        super().__init__(message, hint)
        self.code = code


class Tube:
    """A channel. `closed` is done when it ended, and has why."""

    def __init__(self, line: Line, connection: Connection, raw: Any, closed: asyncio.Future[ChannelGone]) -> None:
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
            method(*words, **named, callback=lambda frame: once(answer, frame))
        except exceptions.AMQPError as error:
            raise self.gone() if not self.open else ChannelGone(said(error), code=1) from None
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
        self._connection: Connection | None = None
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

    async def channel(self, connection: Connection) -> Tube:
        """A fresh channel on this connection. Raises ChannelGone."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Any] = loop.create_future()
        closed: asyncio.Future[ChannelGone] = loop.create_future()
        try:
            raw = connection.channel(on_open_callback=lambda channel: once(opened, channel))
        except exceptions.AMQPError as error:
            raise ChannelGone(said(error), _DOWN) from None
        raw.add_on_close_callback(lambda _channel, why: once(closed, _gone(why)))
        tube = Tube(self, connection, raw, closed)
        await tube.wait(opened)
        return tube

    def drop(self, connection: Connection, why: str) -> None:
        """Give a connection up, at once."""
        connection.abort(why)

    async def close(self) -> None:
        """End the connection; it may be wanted again later."""
        keeper, self._keeper = self._keeper, None
        connection, self._connection = self._connection, None
        self._to(BrokerState("closed"))
        if keeper:
            keeper.cancel()
            await asyncio.wait({keeper})
        if connection and connection.is_open:
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            connection.add_on_close_callback(lambda *_: once(gone, None))
            with suppress(exceptions.AMQPError):
                connection.close()
                await asyncio.wait({gone}, timeout=min(self.timeout, 5.0))
            if not gone.done():
                connection.abort("the broker does not answer")
        self._failure = None

    # ── the connection ──

    async def _connected(self, end: float, now: bool) -> Connection:
        loop = asyncio.get_running_loop()
        if self._keeper is None or self._keeper.done() or self._keeper.get_loop() is not loop:
            self._moved, self._hurry = asyncio.Event(), asyncio.Event()
            self._failure, self._connection = None, None
            self._keeper = loop.create_task(self._keep())
        elif now:
            self._failure = None
            self._hurry.set()
        while not (self._connection and self._connection.is_open):
            if self._keeper is None:
                raise BrokerError("the line to the broker was closed")
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
                connection = await self._connect()
            except BrokerError as error:
                self._failure = error
            else:
                self._failure = None
                begun = loop.time()
                self._to(BrokerState("connected"))
                why = await connection.ended
                self._connection = None
                self._failure = BrokerError(f"the connection to the broker broke: {why}", _DOWN)
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

    async def _connect(self) -> Connection:
        """One attempt. Raises BrokerError."""
        try:
            # a little less than a call waits, so that the reason is there when the call's time is up
            connection = await Connection.connect(self.address, self._name, 0.9 * self.timeout)
        except (OSError, exceptions.AMQPError, BrokerError) as error:
            raise self._refusal(error) from None
        connection.add_on_connection_blocked_callback(self._blocked)
        connection.add_on_connection_unblocked_callback(self._unblocked)
        self._connection = connection
        return connection

    def _refusal(self, failure: BaseException) -> BrokerError:
        """Why there is no connection, and what to do."""
        where = str(self.address)
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
            return BrokerError(f"no TLS with {where}: {said(failure)}", "see broker.ca, and the certificate's names")
        if isinstance(failure, TimeoutError):
            return BrokerError(f"{where} did not answer within {self.timeout:g} s", _DOWN)
        return BrokerError(f"{where} cannot be reached: {said(failure)}", _DOWN)

    def _blocked(self, connection: Any, frame: Any) -> None:
        if connection is self._connection:
            self._to(BrokerState("blocked", short(frame.method.reason) or "the broker is short of memory or disk"))

    def _unblocked(self, connection: Any, _frame: Any) -> None:
        if connection is self._connection:
            self._to(BrokerState("connected"))

    def _to(self, state: BrokerState) -> None:
        self._state = state
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def _gone(why: BaseException) -> ChannelGone:
    """Why a channel ended."""
    if isinstance(why, exceptions.ChannelClosedByBroker):
        return ChannelGone(said(why), code=why.reply_code)
    return ChannelGone(f"the connection to the broker broke: {said(why)}", _DOWN)
