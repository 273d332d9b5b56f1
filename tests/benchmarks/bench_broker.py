"""The wrapper around RabbitMQ beside bare pika: messages published with confirms, and taken and acknowledged.

    python -m tests.benchmarks.bench_broker [MESSAGES] [ROUNDS]

A private RabbitMQ, quorum queues, persistent and mandatory messages of 204 bytes; bare pika with 200 in flight. In
turns; prints the median of each and the ratios. Ends with 1 when the wrapper publishes at less than 0.8 of bare pika's
rate, or takes and acknowledges fewer than 10,000 a second at 100 a time while bare pika consumes more than 12,000.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pika  # type: ignore[import-untyped]
from pika.adapters.asyncio_connection import AsyncioConnection  # type: ignore[import-untyped]

from backends.broker_ports import Message
from backends.rabbitmq import RabbitBroker
from tests.support.rabbitmq import Vhost, _shared

QUEUE, BODY, FLIGHT, BATCH = "alma_reingestion", b"x" * 204, 200, 100


async def bare_channel(vhost: Vhost) -> tuple[Any, Any]:
    """pika as it is."""
    opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    login = pika.PlainCredentials(vhost.user, vhost.password)
    there = pika.ConnectionParameters("127.0.0.1", vhost.node.port, vhost.name, login)
    connection = AsyncioConnection(
        there, on_open_callback=lambda line: line.channel(on_open_callback=opened.set_result)
    )
    return connection, await opened


async def bare_publish(vhost: Vhost, many: int) -> None:
    """As fast as pika can with this many in flight."""
    connection, channel = await bare_channel(vhost)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    properties = pika.BasicProperties(delivery_mode=2, message_id="1:1")
    sent = confirmed = 0

    def fill() -> None:
        nonlocal sent
        while sent < min(many, confirmed + FLIGHT):
            channel.basic_publish("", QUEUE, BODY, properties, mandatory=True)
            sent += 1

    def on_confirm(frame: Any) -> None:
        nonlocal confirmed
        confirmed = frame.method.delivery_tag if frame.method.multiple else confirmed + 1
        fill()
        if confirmed >= many and not done.done():
            done.set_result(None)

    channel.confirm_delivery(on_confirm, callback=lambda _frame: fill())
    await done
    connection.close()


async def bare_take(vhost: Vhost, many: int) -> None:
    """One consumer that stays, and acknowledges each hundred at once."""
    connection, channel = await bare_channel(vhost)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    seen = 0

    def came(_channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        nonlocal seen
        seen += 1
        if seen % BATCH == 0 or seen == many:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if seen == many:
            done.set_result(None)

    channel.basic_qos(prefetch_count=2 * BATCH, callback=lambda _frame: channel.basic_consume(QUEUE, came))
    await done
    connection.close()


async def our_publish(vhost: Vhost, many: int) -> None:
    """Through the wrapper."""
    broker = RabbitBroker(vhost.url, vhost.password, timeout=60)
    published = await broker.publish([Message(f"{number}:1", BODY, QUEUE) for number in range(many)])
    assert len(published.confirmed) == many
    await broker.close()


async def our_take(vhost: Vhost, many: int) -> None:
    """Through the wrapper, a hundred at a time."""
    broker = RabbitBroker(vhost.url, vhost.password, timeout=60)
    seen = 0
    while seen < many:
        got = await broker.take(QUEUE, BATCH, 5.0)
        await broker.ack(got)
        seen += len(got)
    await broker.close()


async def measure(vhost: Vhost, many: int, rounds: int) -> dict[str, float]:
    """Messages a second of each."""
    broker = RabbitBroker(vhost.url, vhost.password)
    await broker.declare()
    await broker.close()
    steps: list[tuple[str, Callable[[Vhost, int], Awaitable[None]]]] = [
        ("bare publish", bare_publish), ("our take", our_take), ("our publish", our_publish), ("bare take", bare_take),
    ]  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name, _ in steps}
    for _ in range(rounds):
        for name, step in steps:
            begun = time.perf_counter()
            await step(vhost, many)
            rates[name].append(many / (time.perf_counter() - begun))
    return {name: statistics.median(found) for name, found in rates.items()}


def main(many: int, rounds: int) -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, _shared(Path(folder), "bench") as node:
        rates = asyncio.run(measure(node.vhost(), many, rounds))
    for name, rate in rates.items():
        print(f"{name:14} {rate:10,.0f} messages/s")
    publish, take = rates["our publish"] / rates["bare publish"], rates["our take"] / rates["bare take"]
    print(f"ratio          publish {publish:.2f}, take {take:.2f}")
    slow = rates["our take"] < 10_000 and rates["bare take"] > 12_000
    return int(publish < 0.8 or slow)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*given, *(20_000, 5)[len(given) :]))
