"""A loader's cycle that finds nothing new, with a million tracked rows beside a thousand.

    python -m tests.benchmarks.bench_loader_idle [ROUNDS] [SMALL] [LARGE]

PostgreSQL with fsync, a private RabbitMQ, an archive over Oracle Net: in the window 500 execution blocks and 100 MOUSs,
all of them tracked, and 50 calibrations that are deferred and judged again. In turns; prints the median of each and the
ratio. Ends with 1 when the large table's cycle takes more than 1.5 times the small one's.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aogconsole.reingestion.item import Kind, Queue
from aogconsole.reingestion.loader import Loader, LoaderRules, Outside, Summary
from backends.metadata import open_metadata
from backends.oracle_news import OracleNews
from backends.rabbitmq import RabbitBroker
from backends.reingestion_ports import Limits
from tests.support import postgres, rabbitmq
from tests.support.loaders import Sky, archive_of
from tests.support.oracle import TestArchive

BLOCKS, MOUSS, DEFERRED = 500, 100, 50
OVERLAPS = {Kind.EXECUTION_BLOCK: timedelta(hours=12), Kind.CALIBRATION: timedelta(days=2)}
OLD = """
insert into alma_reingestion_queue (kind, uid, version, project, source_time, state, attempt, workflow_id)
    select case n % 6 when 0 then 'calibration' else 'execution_block' end, 'uid://A002/Xb' || to_hex(n) || '/X1',
        'old', '2019.1.' || lpad((n % 2000)::text, 5, '0') || '.S', now() - interval '3 days' - n * interval '1 minute',
        'done', 1, gen_random_uuid()::text
    from generate_series(1, {rows}) as n;
insert into reingestion_event (queue, item, at, by, before, after, attempt, why)
    select 'alma', id, source_time, 'bench', step.before, step.after, 1, 'as it was' from alma_reingestion_queue,
        (values (null, 'waiting'), ('running', 'done')) as step (before, after) where version = 'old';
"""
"""Rows of years ago, with two events each."""


def sky_of_today() -> Sky:
    """What the window holds."""
    sky, now = Sky(), datetime.now(UTC)
    for n in range(BLOCKS):
        sky.block(f"uid://A002/Xa1/X{n:x}", now - timedelta(minutes=n))
    for n in range(MOUSS):
        mous = f"uid://A001/Xa1/X{n:x}"
        sky.product(mous, "readme" if n < DEFERRED else "science", now - timedelta(minutes=n))
        sky.structure.append(mous)
    return sky


class Place:
    """A table of so many rows, and loaders on it."""

    def __init__(self, server: postgres.PostgresServer, vhost: rabbitmq.Vhost, archive: TestArchive, rows: int) -> None:
        self._name = server.create()
        self._server, self._vhost, self._archive, self._rows = server, vhost, archive, rows

    async def cycle(self) -> tuple[Summary, float]:
        """One cycle of a new loader, and its seconds."""
        metadata = open_metadata(self._server.dsn(self._name), postgres.PASSWORD)
        broker = RabbitBroker(self._vhost.url, password=self._vhost.password)
        await broker.declare()
        news = OracleNews(self._archive.settings())
        rules = LoaderRules(3600, OVERLAPS, dict.fromkeys(Queue, Limits(4)))
        await metadata.ping()
        begun = time.perf_counter()
        summary = await Loader(Outside(metadata, broker, news), lambda: rules, "bench").once()
        took = time.perf_counter() - begun
        await broker.close()
        await metadata.close()
        return summary, took

    def fill(self) -> None:
        """Track what the window holds, and the rows of years ago."""
        metadata = open_metadata(self._server.dsn(self._name), postgres.PASSWORD)

        async def known() -> None:
            await metadata.migrate()
            for n in range(MOUSS):
                await metadata.mark(f"uid://A001/Xa1/X{n:x}", None, "", datetime.now(UTC))
            await metadata.close()

        asyncio.run(known())
        summary, _ = asyncio.run(self.cycle())
        assert sum(summary.found.values()) == BLOCKS + MOUSS, summary
        self._server.admin("update alma_reingestion_queue set state = 'done' where state = 'queued'", self._name)
        for statement in OLD.format(rows=self._rows).split(";\n"):
            self._server.admin(statement, self._name)
        self._server.admin("vacuum analyze", self._name)
        self._server.admin("checkpoint")

    def idle(self) -> float:
        """Milliseconds of a cycle that finds nothing."""
        summary, took = asyncio.run(self.cycle())
        assert not summary.errors, summary
        assert not sum(summary.found.values()), summary
        assert not summary.sent, summary
        return took * 1000


def main(rounds: int = 15, small: int = 1000, large: int = 1_000_000) -> int:
    """Measure and print."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres.running("earnest"))
        node = stack.enter_context(rabbitmq._shared(folder, "bench"))
        archive = stack.enter_context(archive_of(sky_of_today()))
        places = [Place(server, node.vhost(), archive, rows) for rows in (small, large)]
        for place in places:
            place.fill()
        found = [[place.idle() for place in places] for _ in range(rounds)]
    for rows, times in zip((small, large), zip(*found, strict=True), strict=True):
        print(f"{rows:9,} rows {statistics.median(times):8.1f} ms   (least {min(times):.1f})")
    ratio = statistics.median(large / small for small, large in found)
    print(f"ratio          {ratio:8.2f}      (at most 1.5)")
    return int(ratio > 1.5)


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
