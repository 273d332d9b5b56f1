"""Publishing to RabbitMQ: many messages in flight, each confirmed, and the fate of each told honestly.

A message that no queue takes is returned by the broker *before* its confirm comes (`mandatory`; without it such a
message is confirmed and lost). pika forgets our pending confirms when a channel ends: they are kept here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pika import BasicProperties, exceptions  # type: ignore[import-untyped]

from aogconsole.errors import BrokerError
from aogconsole.text import clean
from backends.broker_ports import Message, Published
from backends.rabbitmq_line import ChannelGone, Line, Tube

WINDOW = 500
"""Messages in flight: more does not make it faster (measured: 200 is nearly as fast)."""
_REFUSED = (403, 404)
"""Replies that close the channel because of one message: its exchange is not there, or not ours to use."""


@dataclass
class _Call:
    """One call of `publish`: what became of its messages."""

    confirmed: set[str] = field(default_factory=set)
    returned: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    left: int = 0

    def published(self) -> Published:
        """Of an id that was given twice the worse counts."""
        returned = {one: why for one, why in self.returned.items() if one not in self.unknown}
        return Published(frozenset(self.confirmed - returned.keys() - self.unknown.keys()), returned, self.unknown)


@dataclass
class _Sent:
    """A message that the broker has, or may have."""

    message: Message
    call: _Call
    returned: str = ""


class Publisher:
    """The publishing channel of a line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = asyncio.Lock()
        self._channel: _Channel | None = None

    async def publish(self, messages: Sequence[Message]) -> Published:
        """See ports.Broker."""
        call = _Call()
        channel = await self._ready()
        waiting = deque(message for message in messages if not channel.cannot(message, call))
        for exchange in dict.fromkeys(message.exchange for message in waiting):
            why = await channel.missing(exchange)
            if why:
                call.returned.update({one.id: why for one in waiting if one.exchange == exchange})
                waiting = deque(one for one in waiting if one.exchange != exchange)
        fault = await channel.send(waiting, call)
        if waiting:
            if not (call.confirmed or call.unknown or call.returned):
                raise BrokerError(f"nothing was published: {fault}", fault.hint)
            call.returned.update({message.id: f"it was not sent: {fault}" for message in waiting})
        return call.published()

    async def _ready(self) -> _Channel:
        """The channel, on a connection that is not blocked. Raises BrokerError."""
        end = asyncio.get_running_loop().time() + self._line.timeout
        async with self._lock:
            if self._channel is None or not self._channel.tube.open:
                self._channel = _Channel(await self._line.tube(end))
                await self._channel.begin()
            channel = self._channel
        while self._line.state.word == "blocked" and channel.tube.open:
            moved = self._line.moved()
            try:
                async with asyncio.timeout_at(end):
                    await moved.wait()
            except TimeoutError:
                raise BrokerError(
                    f"the broker takes no messages now: {self._line.state.why}", "its administrator must free resources"
                ) from None
        return channel


class _Channel:
    """A channel with confirms."""

    def __init__(self, tube: Tube) -> None:
        self.tube = tube
        self._pending: dict[int, _Sent] = {}
        self._number = 0
        self._known: set[str] = {""}
        self._moved = asyncio.Event()
        tube.raw.add_on_return_callback(self._returned)
        tube.closed.add_done_callback(lambda closed: self._ended(closed.result()))

    async def begin(self) -> None:
        """Ask for confirms."""
        await self.tube.call(self.tube.raw.confirm_delivery, self._confirmed)

    def cannot(self, message: Message, call: _Call) -> bool:
        """Whether AMQP has no way to say this message."""
        for word in (message.id, message.key, message.exchange):
            try:
                short = len(word.encode()) <= 255
            except UnicodeEncodeError:
                short = False
            if not short:
                call.returned[message.id] = f"'{clean(word)[:40]}' cannot be said in AMQP"
                return True
        return False

    async def missing(self, exchange: str) -> str:
        """Why nothing can be sent to an exchange: asked once on a connection, as a wrong one would end the channel."""
        if exchange in self._known:
            return ""
        try:
            asking = await self.tube.sibling()
        except BrokerError:
            return ""  # whatever it is, sending will find it
        try:
            await asking.call(asking.raw.exchange_declare, exchange=exchange, passive=True)
        except ChannelGone as gone:
            return str(gone) if gone.code in _REFUSED else ""
        asking.close()
        self._known.add(exchange)
        return ""

    async def send(self, waiting: deque[Message], call: _Call) -> BrokerError:
        """Send what waits, and wait for the confirms; what could not be sent stays in `waiting`, and why."""
        while self.tube.open:
            while waiting and len(self._pending) < WINDOW:
                self._send(waiting.popleft(), call)
            if not waiting and not call.left:
                return BrokerError("")
            self._moved.clear()
            try:
                async with asyncio.timeout(self.tube.timeout):
                    await self._moved.wait()
            except TimeoutError:
                return self._silent(call)
        self._ended(self.tube.gone())
        return self.tube.gone()

    def _send(self, message: Message, call: _Call) -> None:
        properties = BasicProperties(message_id=message.id, delivery_mode=2, content_type="application/json")
        try:
            self.tube.raw.basic_publish(message.exchange, message.key, message.body, properties, mandatory=True)
        except exceptions.AMQPError as error:  # nothing has left: pika marshals first
            call.returned[message.id] = clean(str(error) or type(error).__name__)[:200]
            return
        self._number += 1
        self._pending[self._number] = _Sent(message, call)
        call.left += 1

    def _silent(self, call: _Call) -> BrokerError:
        """No confirm came for too long: give up this call's messages, and the connection unless it is blocked."""
        blocked = self.tube.blocked
        why = f"the broker is blocked: {blocked}" if blocked else "the broker was silent"
        if not blocked:
            self.tube.drop()
        for sent in self._pending.values():
            if sent.call is call:
                self._settle(sent, unknown=f"{why}, its confirm did not come")
                sent.call = _Call(left=1)  # nobody asks any more; its place is free when the confirm comes
        return BrokerError(why, "see whether RabbitMQ runs, and has memory and disk")

    # ── what the broker says ──

    def _returned(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        """A message that no queue takes; its confirm follows."""
        for sent in self._pending.values():
            message = sent.message
            if (message.id, message.exchange, message.key) == (
                properties.message_id, method.exchange, method.routing_key,
            ) and not sent.returned:  # fmt: skip
                sent.returned = f"no queue takes it ({method.reply_code} {clean(str(method.reply_text))[:80]})"
                return

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        if method.multiple:
            numbers = []
            for number in self._pending:  # in the order they were sent
                if number > method.delivery_tag:
                    break
                numbers.append(number)
        else:
            numbers = [method.delivery_tag]
        refused = "" if method.NAME == "Basic.Ack" else "the broker refused it"
        for number in numbers:
            sent = self._pending.pop(number, None)
            if sent:
                self._settle(sent, returned=sent.returned or refused)
        self._moved.set()

    def _ended(self, gone: ChannelGone) -> None:
        """The channel is gone: what is pending may have been taken, but for the message that ended it."""
        pending, self._pending = list(self._pending.values()), {}
        sure = len(pending)
        if gone.code in _REFUSED:  # it was one to this exchange: the last of them at the latest, and nothing after it
            named = [number for number, sent in enumerate(pending) if f"'{sent.message.exchange}'" in str(gone)]
            sure = named[-1] if named else sure
        for number, sent in enumerate(pending):
            if sent.returned or number >= sure:
                self._settle(sent, returned=sent.returned or str(gone))
            else:
                self._settle(sent, unknown=str(gone))
        self._moved.set()

    @staticmethod
    def _settle(sent: _Sent, *, returned: str = "", unknown: str = "") -> None:
        call, name = sent.call, sent.message.id
        call.left -= 1
        if unknown:
            call.unknown[name] = unknown
        elif returned:
            call.returned[name] = returned
        else:
            call.confirmed.add(name)
