"""Lines to RabbitMQ for tests, messages by number, and what must be true of what was published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from backends.broker_ports import Message, Published
from backends.rabbitmq import RabbitBroker
from tests.support.rabbitmq import Vhost

WORK, OTHER = "alma_reingestion", "vlba_reingestion"
TIMEOUT = 0.5
"""Seconds per step towards brokers that hang, and never answer however long one waits."""
BOUND = 3 * TIMEOUT + 2.0
"""Connection, channel and answer, and what a machine under load adds."""


@asynccontextmanager
async def line(vhost: Vhost, timeout: float = 10.0, port: int | None = None) -> AsyncIterator[RabbitBroker]:
    """A connection, through another port if need be; it comes back soon."""
    url = vhost.url.replace(f":{vhost.node.port}/", f":{port or vhost.node.port}/")
    broker = RabbitBroker(url, vhost.password, timeout=timeout, slowest=0.5)
    try:
        yield broker
    finally:
        async with asyncio.timeout(BOUND + timeout):
            await broker.close()


def work(many: int, first: int = 0, size: int = 60) -> list[Message]:
    """Messages for the work queue."""
    return [Message(f"{number}:1", b"x" * size, WORK) for number in range(first, first + many)]


async def until(true: Callable[[], bool], within: float = 20.0) -> None:
    """Until something is so."""
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.01)


async def all_of(broker: RabbitBroker, queue: str) -> list[str]:
    """The ids of all that is in a queue."""
    ids: list[str] = []
    while got := await broker.take(queue, 1000, 0.5):
        await broker.ack(got)
        ids += [one.id for one in got]
    return ids


def honest(published: Published, asked: list[Message], there: list[str]) -> None:
    """What is confirmed is there, what is returned is not, and each message has one fate."""
    fates = [published.confirmed, published.returned.keys(), published.unknown.keys()]
    assert sum(map(len, fates)) == len(asked)
    assert set().union(*fates) == {one.id for one in asked}
    assert published.confirmed <= set(there)
    assert not published.returned.keys() & set(there)
