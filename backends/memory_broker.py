"""A broker in this process, for the embedded site and for tests: the same contract, and nothing is kept.

What is declared, returned, dead-lettered and delivered again follows what RabbitMQ does with the topology of
`rabbitmq_topology`. Several event loops, each in its own thread, may use one.
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from aogconsole.errors import NoQueue
from aogconsole.reingestion.messages import OUR_EVENTS
from aogconsole.text import clean
from backends.broker_ports import BrokerState, DeadLetter, Delivery, Message, Published
from backends.topology import DELIVERY_LIMIT, Plan, dead, plan, site_plan


@dataclass(slots=True)
class _Kept:
    """A message in a queue."""

    id: str
    body: bytes
    order: int
    came_back: int = 0
    died: tuple[str, datetime] | None = None
    """Why it was put aside, and when."""

    def dies(self, reason: str) -> _Kept:
        """As it lies in the dead letters."""
        return _Kept(self.id, self.body, self.order, died=(reason, datetime.now(UTC)))


@dataclass
class _Queue:
    """Messages, oldest first; its dead letters' queue, and who waits for a message."""

    dead: _Queue | None
    ready: deque[_Kept] = field(default_factory=deque)
    waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=set)

    def put(self, message: _Kept) -> None:
        """At the end."""
        self.ready.append(message)
        self.wake()

    def back(self, messages: Sequence[_Kept]) -> None:
        """Where they were; what came back too often into the dead letters."""
        for message in sorted(messages, key=lambda one: one.order, reverse=True):
            message.came_back += 1
            if self.dead and message.came_back > DELIVERY_LIMIT:
                self.dead.put(message.dies("delivery_limit"))
            else:
                self.ready.appendleft(message)
        self.wake()

    def wake(self) -> None:
        """Tell who waits."""
        for loop, event in self.waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


class _House:
    """What connections to one broker share."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.order = itertools.count()
        self.queues: dict[str, _Queue] = {}
        self.exchanges: dict[str, set[tuple[str, str]]] = {}
        """Bindings of each: queue, and pattern of routing keys."""

    def declare(self, wanted: Plan) -> list[str]:
        """Make what is not there."""
        said = []
        with self.lock:
            for exchange in wanted.exchanges:
                said.append(f"exchange {exchange} {'is there' if exchange in self.exchanges else 'made'}")
                self.exchanges.setdefault(exchange, set())
            for name in wanted.queues:
                for one, letters in ((dead(name), None), (name, dead(name))):
                    said.append(f"queue {one} {'is there' if one in self.queues else 'made'}")
                    self.queues.setdefault(one, _Queue(self.queues[letters] if letters else None))
            for queue, exchange, pattern in wanted.bindings:
                self.exchanges[exchange].add((queue, pattern))
                said.append(f"queue {queue} is bound to {exchange} with {pattern}")
        return said

    def publish(self, message: Message) -> str:
        """Put it where it belongs; why not otherwise."""
        with self.lock:
            if message.exchange and message.exchange not in self.exchanges:
                return f"NOT_FOUND - no exchange '{clean(message.exchange)}'"
            bound = self.exchanges[message.exchange] if message.exchange else {(message.key, message.key)}
            to = {queue for queue, pattern in bound if queue in self.queues and _fits(message, pattern)}
            for queue in to:
                self.queues[queue].put(_Kept(message.id, message.body, next(self.order)))
        return "" if to else "no queue takes it"

    def queue(self, name: str) -> _Queue:
        """A queue that is there. Raises NoQueue."""
        try:
            return self.queues[name]
        except KeyError:
            raise NoQueue(clean(name)) from None


def _fits(message: Message, pattern: str) -> bool:
    """Of topics our topology uses `#`, and keys written out."""
    return pattern == "#" or fnmatch.fnmatchcase(message.key, pattern)


class MemoryBroker:
    """One connection to it. See ports.Broker."""

    _houses: ClassVar[dict[str, _House]] = {}

    def __init__(self, event_queue: str = OUR_EVENTS, *, house: _House | None = None) -> None:
        """A broker of its own; `shared` gives one that others see too."""
        self._event_queue = event_queue
        self._house = house or _House()
        self._held: dict[int, tuple[_Queue, _Kept]] = {}
        self._numbers = itertools.count(1)
        self._state = BrokerState("closed")

    @classmethod
    def shared(cls, name: str = "") -> MemoryBroker:
        """A connection to the broker of that name in this process."""
        return cls(house=cls._houses.setdefault(name, _House()))

    @property
    def state(self) -> BrokerState:
        """See ports.Broker."""
        return self._state

    async def declare(self) -> list[str]:
        """See ports.Broker."""
        self._open()
        return self._house.declare(plan(self._event_queue))

    async def declare_site(self, site: str) -> list[str]:
        """See ports.Broker."""
        self._open()
        return self._house.declare(site_plan(site))

    async def publish(self, messages: Sequence[Message]) -> Published:
        """See ports.Broker."""
        if not messages:
            return Published(frozenset())
        self._open()
        returned = {one.id: why for one in messages if (why := self._house.publish(one))}
        return Published(frozenset(one.id for one in messages) - returned.keys(), returned)

    async def take(self, queue: str, most: int, within: float) -> list[Delivery]:
        """See ports.Broker."""
        self._open()
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        there, news = self._house.queue(queue), asyncio.Event()
        with self._house.lock:
            there.waiters.add((loop, news))
        try:
            while True:
                news.clear()
                got = self._got(there, most)
                if got or loop.time() >= end:
                    return got
                try:
                    async with asyncio.timeout_at(end):
                        await news.wait()
                except TimeoutError:
                    return self._got(there, most)
        finally:
            with self._house.lock:
                there.waiters.discard((loop, news))

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See ports.Broker."""
        with self._house.lock:
            for delivery in deliveries:
                self._mine(delivery)

    async def reject(self, delivery: Delivery) -> None:
        """See ports.Broker."""
        with self._house.lock:
            held = self._mine(delivery)
            if held and held[0].dead:
                held[0].dead.put(held[1].dies("rejected"))

    async def dead_letters(self, queue: str, most: int) -> list[DeadLetter]:
        """See ports.Broker."""
        self._open()
        with self._house.lock:
            there = list(itertools.islice(self._house.queue(dead(queue)).ready, most))
        return [DeadLetter(one.id, one.body, len(one.body), *(one.died or ("", None))) for one in there]

    async def depth(self, queue: str) -> int:
        """See ports.Broker."""
        self._open()
        return len(self._house.queue(queue).ready)

    async def ping(self) -> str:
        """See ports.Broker."""
        self._open()
        return "the broker of this process is here"

    async def close(self) -> None:
        """See ports.Broker."""
        with self._house.lock:
            held, self._held = list(self._held.values()), {}
            for queue in {id(queue): queue for queue, _ in held}.values():
                queue.back([message for of, message in held if of is queue])
        self._state = BrokerState("closed")

    def _open(self) -> None:
        self._state = BrokerState("connected")

    def _got(self, queue: _Queue, most: int) -> list[Delivery]:
        got: list[Delivery] = []
        with self._house.lock:
            while queue.ready and len(got) < most:
                message, number = queue.ready.popleft(), next(self._numbers)
                self._held[number] = queue, message
                got.append(Delivery(message.id, message.body, (self, number), message.came_back > 0))
        return got

    def _mine(self, delivery: Delivery) -> tuple[_Queue, _Kept] | None:
        """What a delivery holds, and no longer; None: it is not ours, or from before a close."""
        match delivery.tag:
            case (broker, int(number)) if broker is self:
                return self._held.pop(number, None)
        return None
