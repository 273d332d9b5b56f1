"""RabbitMQ: the broker of the work queues, the start commands and the events.

Two connections, each made when it is first needed: one publishes, one does the rest. A broker that is short of memory
or disk stops reading from connections that publish; our acknowledgements shall not wait behind that.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from pika import exceptions  # type: ignore[import-untyped]

from aogconsole.errors import BrokerError, NoQueue
from aogconsole.reingestion.messages import OUR_EVENTS
from aogconsole.text import clean
from backends import rabbitmq_dead
from backends.broker_ports import BrokerState, DeadLetter, Delivery, Message, Published
from backends.rabbitmq_address import Address
from backends.rabbitmq_line import ChannelGone, Line, Tube
from backends.rabbitmq_publish import Publisher
from backends.rabbitmq_take import Tag, Taker
from backends.rabbitmq_topology import declare
from backends.topology import Plan, plan, site_plan


class RabbitBroker:
    """See ports.Broker. `url`: amqp://user@host:port/vhost, without the password. Raises ConfigError."""

    def __init__(
        self, url: str, password: str = "", ca: str = "", event_queue: str = OUR_EVENTS, *, timeout: float = 10.0,
        slowest: float = 30.0,
    ) -> None:  # fmt: skip
        """`ca`: file of certificates to trust; `timeout`: seconds for each step; `slowest`: between two attempts to
        connect, at most."""
        self._event_queue = event_queue
        address = Address.parse(url, password, ca)
        self._out = Line(address, "publishes", timeout, slowest)
        self._in = Line(address, "takes", timeout, slowest)
        self._publisher = Publisher(self._out)
        self._takers: dict[str, Taker] = {}
        self._asking: Tube | None = None
        self._turn = asyncio.Lock()

    @property
    def state(self) -> BrokerState:
        """How the line is now: of two connections the worse."""
        states = [line.state for line in (self._out, self._in) if line.used]
        for word in ("connecting", "blocked", "connected"):
            for state in states:
                if state.word == word:
                    return state
        return BrokerState("closed")

    async def publish(self, messages: Sequence[Message]) -> Published:
        """See ports.Broker."""
        return await self._publisher.publish(messages) if messages else Published(frozenset())

    async def take(self, queue: str, most: int, within: float) -> list[Delivery]:
        """See ports.Broker."""
        if queue not in self._takers:
            self._takers[queue] = Taker(self._in, queue)
        return await self._takers[queue].take(most, within)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See ports.Broker."""
        numbers = defaultdict(list)
        for delivery in deliveries:
            if isinstance(delivery.tag, Tag):
                numbers[delivery.tag.channel].append(delivery.tag.number)
        for channel, those in numbers.items():
            try:
                channel.ack(those)
            except exceptions.AMQPError:
                continue  # the line breaks just now: they will come again

    async def reject(self, delivery: Delivery) -> None:
        """See ports.Broker."""
        if isinstance(delivery.tag, Tag):
            try:
                delivery.tag.channel.reject(delivery.tag.number)
            except exceptions.AMQPError:
                return  # the line breaks just now: it will come again

    async def dead_letters(self, queue: str, most: int) -> list[DeadLetter]:
        """See ports.Broker."""
        return await rabbitmq_dead.look(self._in, queue, most)

    async def depth(self, queue: str) -> int:
        """See ports.Broker."""
        async with self._turn:
            for again in (True, False):
                tube = await self._asked()
                try:
                    frame = await tube.call(tube.raw.queue_declare, queue, passive=True)
                except ChannelGone as gone:
                    if gone.code == 404:
                        raise NoQueue(clean(queue)) from None
                    if gone.code or not again:
                        raise BrokerError(f"queue {clean(queue)} cannot be asked: {gone}", gone.hint) from None
                    continue
                return int(frame.method.message_count)
        raise AssertionError

    async def declare(self) -> list[str]:
        """See ports.Broker."""
        return await self._declared(plan(self._event_queue))

    async def declare_site(self, site: str) -> list[str]:
        """See ports.Broker."""
        return await self._declared(site_plan(site))

    async def ping(self) -> str:
        """See ports.Broker."""
        tube = await self._in.tube(now=True)
        tube.close()
        return f"connected to {self._in.address}"

    async def close(self) -> None:
        """See ports.Broker."""
        await asyncio.gather(self._out.close(), self._in.close())

    async def _declared(self, wanted: Plan) -> list[str]:
        async with self._turn:
            return await declare(self._in, wanted)

    async def _asked(self) -> Tube:
        """The channel for questions; a question that fails ends it."""
        if self._asking is None or not self._asking.open:
            self._asking = await self._in.tube()
        return self._asking
