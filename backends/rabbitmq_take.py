"""Taking messages from a RabbitMQ queue: a few at a time, held unacknowledged, and no more than were asked for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from typing import Any

from pika import exceptions, spec  # type: ignore[import-untyped]

from aogconsole.errors import BrokerError, NoQueue
from backends.broker_ports import Delivery
from backends.rabbitmq_line import ChannelGone, Line, Tube

QUIET = 0.002
"""Seconds without a further message after which there is none."""
LARGEST = 65_535
"""Messages that can be asked for at once; 0 would mean: all."""
_BROKEN, _MISSING, _STALE = 0, 404, 406


class Taker:
    """The consuming channel of one queue. A queue has its own, so that a fault of one leaves the others' messages."""

    def __init__(self, line: Line, queue: str) -> None:
        self._line = line
        self._queue = queue
        self._lock = asyncio.Lock()
        self._channel: _Channel | None = None

    async def take(self, most: int, within: float) -> list[Delivery]:
        """See ports.Broker. One at a time: a second call waits for the first."""
        loop = asyncio.get_running_loop()
        end, most = loop.time() + within, min(most, LARGEST)
        if most < 1:
            return []
        try:
            async with asyncio.timeout_at(end):
                await self._lock.acquire()
        except TimeoutError:
            return []
        try:
            for again in itertools.count():
                channel = await self._ready(max(end, loop.time() + (0 if again else self._line.timeout)))
                try:
                    return await channel.take(self._queue, most, end)
                except ChannelGone as gone:
                    self._judge(gone, again)
        finally:
            self._lock.release()
        raise AssertionError

    def _judge(self, gone: ChannelGone, again: int) -> None:
        """Whether to try anew: the line broke (it waits before it comes back), or our channel was stale."""
        if self._line.state.word == "closed":
            raise BrokerError("the line to the broker was closed")
        if gone.code == _BROKEN or (gone.code == _STALE and not again):
            return
        if gone.code == _MISSING:
            raise NoQueue(self._queue)
        raise BrokerError(f"queue {self._queue} cannot be read: {gone}", gone.hint) from None

    async def _ready(self, end: float) -> _Channel:
        if self._channel is None or not self._channel.tube.open:
            self._channel = _Channel(await self._line.tube(end))
        return self._channel


class Tag:
    """What the adapter keeps of a delivery: a number that is valid on its channel alone."""

    __slots__ = ("channel", "number")

    def __init__(self, channel: _Channel, number: int) -> None:
        self.channel = channel
        self.number = number


class _Channel:
    """A channel that consumes now and then."""

    def __init__(self, tube: Tube) -> None:
        self.tube = tube
        self._held: dict[int, None] = {}
        """Numbers of what is unacknowledged, in the order they came."""
        self._takes = itertools.count(1)
        self._most = 0
        self._cancelling: dict[str, asyncio.Future[Any]] = {}
        self._catch: _Catch | None = None
        tube.raw.add_callback(self._cancelled, [spec.Basic.CancelOk], False)
        tube.raw.add_on_cancel_callback(self._deleted)

    async def take(self, queue: str, most: int, end: float) -> list[Delivery]:
        """Consume for a moment. Raises ChannelGone."""
        if most != self._most:
            await self.tube.call(self.tube.raw.basic_qos, prefetch_count=most)
            self._most = most
        self._catch = catch = _Catch(self, f"take-{next(self._takes)}", most)
        try:
            await self.tube.call(
                self.tube.raw.basic_consume, queue, on_message_callback=catch.came, consumer_tag=catch.name
            )
            self.tube.closed.add_done_callback(catch.look)
            await catch.wait(end)
            await self._cancel(catch.name)
        except BaseException:
            self._give_up(catch)
            raise
        finally:
            self.tube.closed.remove_done_callback(catch.look)
        if not catch.got and catch.deleted:
            raise ChannelGone("it was deleted", code=_MISSING)
        return catch.got

    async def _cancel(self, name: str) -> None:
        """End a consumer. pika's own way would send back what comes until the broker's answer: more than once, and
        a message goes to the dead letters."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._cancelling[name] = answer
        if not self.tube.open:
            raise self.tube.gone()
        self.tube.raw._send_method(spec.Basic.Cancel(consumer_tag=name, nowait=False))
        await self.tube.wait(answer)
        self.tube.raw._cleanup_consumer_ref(name)

    def _cancelled(self, frame: Any) -> None:
        answer = self._cancelling.pop(frame.method.consumer_tag, None)
        if answer and not answer.done():
            answer.set_result(frame)

    def _deleted(self, frame: Any) -> None:
        if self._catch and frame.method.consumer_tag == self._catch.name:
            self._catch.end()

    def _give_up(self, catch: _Catch) -> None:
        """The call ends with nothing: what it got goes back into the queue."""
        catch.over = True
        self._cancelling.pop(catch.name, None)
        if not self.tube.open:
            return
        try:
            self.tube.raw.basic_cancel(catch.name)
            for delivery in catch.got:
                self.back(delivery.tag.number)  # type: ignore[attr-defined]
        except exceptions.AMQPError:
            pass  # the channel ends, and so they go back

    # ── what is held ──

    def hold(self, number: int) -> None:
        """A message came."""
        self._held[number] = None

    def back(self, number: int) -> None:
        """Back into the queue."""
        self._held.pop(number, None)
        self.tube.raw.basic_nack(number, requeue=True)

    def reject(self, number: int) -> None:
        """Into the dead letters."""
        if self.tube.open and number in self._held:
            del self._held[number]
            self.tube.raw.basic_reject(number, requeue=False)

    def ack(self, numbers: Collection[int]) -> None:
        """They are dealt with: by few words where they are the oldest that are held."""
        if not self.tube.open:
            return
        wanted = {number for number in numbers if number in self._held}
        oldest = 0
        for number in self._held:
            if number not in wanted:
                break
            oldest = number
        if oldest:
            self.tube.raw.basic_ack(oldest, multiple=True)
        for number in sorted(wanted):
            del self._held[number]
            if number > oldest:
                self.tube.raw.basic_ack(number)


class _Catch:
    """What one `take` gets."""

    def __init__(self, channel: _Channel, name: str, most: int) -> None:
        self.name = name
        self.got: list[Delivery] = []
        self.over = False
        self.deleted = False
        self._channel = channel
        self._most = most
        self._news = asyncio.Event()

    def came(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """A message."""
        number = method.delivery_tag
        if self.over:
            self._channel.back(number)
            return
        self._channel.hold(number)
        name = properties.message_id
        name = name if isinstance(name, str) else (name or b"").decode("utf-8", "backslashreplace")
        self.got.append(Delivery(name, body, Tag(self._channel, number), bool(method.redelivered)))
        if len(self.got) in (1, self._most):
            self._news.set()

    async def wait(self, end: float) -> None:
        """Until there are messages, and no more come; or until the end."""
        await self._until(end)
        loop = asyncio.get_running_loop()
        seen = 0
        while seen < len(self.got) < self._most and not self.deleted and self._channel.tube.open:
            seen = len(self.got)
            self._news.clear()
            await self._until(loop.time() + QUIET)
        if not self._channel.tube.open:
            raise self._channel.tube.gone()

    async def _until(self, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                await self._news.wait()
        except TimeoutError:
            pass

    def look(self, _closed: object) -> None:
        """The channel is gone: nothing more comes."""
        self._news.set()

    def end(self) -> None:
        """The broker has ended it: the queue is gone."""
        self.deleted = True
        self._news.set()
