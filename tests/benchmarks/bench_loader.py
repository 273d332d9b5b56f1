"""How fast a loader sends: rows that wait to messages that are confirmed and marked, beside bare pika.

    python -m tests.benchmarks.bench_loader [ROWS] [ROUNDS]

PostgreSQL with fsync, a private RabbitMQ with quorum queues, persistent and mandatory messages; bare pika with 200 in
flight, and procrastinate's batch defer on the same PostgreSQL where it can be imported. In turns; prints the median of
each and of the rounds' ratios, and what a whole first cycle takes. Ends with 1 when the loader sends at less than 0.6
of bare pika's rate.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aogconsole.reingestion.item import Found, Kind, Queue
from aogconsole.reingestion.loader import Loader, LoaderRules, Outside
from aogconsole.reingestion.sending import Sending
from backends.metadata import open_metadata
from backends.oracle_news import OracleNews
from backends.rabbitmq import RabbitBroker
from backends.reingestion_ports import Limits
from tests.benchmarks import procrastinating
from tests.benchmarks.bench_broker import bare_publish
from tests.support import postgres, rabbitmq
from tests.support.loaders import Sky, archive_of

LIMITS = Limits(4)


async def bare(vhost: rabbitmq.Vhost, many: int) -> float:
    """Messages a second of bare pika."""
    broker = RabbitBroker(vhost.url, password=vhost.password)
    await broker.declare()
    await broker.close()
    begun = time.perf_counter()
    await bare_publish(vhost, many)
    return many / (time.perf_counter() - begun)


async def ours(dsn: str, vhost: rabbitmq.Vhost, many: int) -> float:
    """Rows a second that a loader sends."""
    metadata, broker = open_metadata(dsn, postgres.PASSWORD), RabbitBroker(vhost.url, password=vhost.password)
    await metadata.migrate()
    await broker.declare()
    now = datetime.now(UTC)
    found = [Found(Kind.EXECUTION_BLOCK, f"uid://A002/X1/X{n:x}", "1", "2019.1.00001.S", now) for n in range(many)]
    for start in range(0, many, 1000):
        await metadata.tracking(Queue.ALMA).add(found[start : start + 1000], "bench", now)
    begun = time.perf_counter()
    assert await Sending(metadata, broker, "bench").send(Queue.ALMA, LIMITS) == many
    rate = many / (time.perf_counter() - begun)
    await broker.close()
    await metadata.close()
    return rate


async def cycle(dsn: str, vhost: rabbitmq.Vhost, many: int) -> float:
    """Execution blocks a second from the archive to the broker, in a loader's first cycle."""
    sky, now = Sky(), datetime.now(UTC)
    for n in range(many):
        sky.block(f"uid://A002/X2/X{n:x}", now - timedelta(seconds=n))
    metadata, broker = open_metadata(dsn, postgres.PASSWORD), RabbitBroker(vhost.url, password=vhost.password)
    await broker.declare()
    with archive_of(sky) as archive:
        overlaps = dict.fromkeys(Kind, timedelta(0))
        rules = LoaderRules(3600, overlaps, dict.fromkeys(Queue, LIMITS))
        loader = Loader(Outside(metadata, broker, OracleNews(archive.settings())), lambda: rules, "bench")
        begun = time.perf_counter()
        summary = await loader.once()
        rate = many / (time.perf_counter() - begun)
    assert summary.sent == many, summary
    await broker.close()
    await metadata.close()
    return rate


def main(many: int = 10_000, rounds: int = 5) -> int:
    """Measure and print."""
    rates: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres.running("earnest"))
        node = stack.enter_context(rabbitmq._shared(folder, "bench"))
        for _ in range(rounds):
            rates["bare pika"].append(asyncio.run(bare(node.vhost(), many)))
            rates["loader"].append(asyncio.run(ours(server.dsn(server.create()), node.vhost(), many)))
            if procrastinating.THERE:
                dsn = server.dsn(server.create())
                rates["procrastinate"].append(asyncio.run(procrastinating.rates(dsn, 2000))[0])
        rates["whole cycle"].append(asyncio.run(cycle(server.dsn(server.create()), node.vhost(), many)))
    median = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in median.items():
        print(f"{name:14} {rate:10,.0f} /s   {' '.join(f'{one:,.0f}' for one in rates[name])}")
    turns = zip(rates["loader"], rates["bare pika"], strict=True)
    ratio = statistics.median(sent / published for sent, published in turns)
    print(f"ratio          {ratio:.2f} of bare pika in the same round (at least 0.6)")
    return int(ratio < 0.6)


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
