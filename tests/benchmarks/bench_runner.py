"""How fast a runner claims, launches (nothing), records and acknowledges; on PostgreSQL with fsync and RabbitMQ.

    python -m tests.benchmarks.bench_runner [ITEMS] [ROUNDS]

Beside it, in turns, procrastinate's no-op jobs on the same PostgreSQL where it can be imported; prints each round and
the median of the ratios. Ends with 1 when a runner launches at less than 3 times procrastinate's rate.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aogconsole.reingestion.item import Found, Item, Kind, Queue, State
from aogconsole.reingestion.messages import COMPLETE, FAILED, Start
from aogconsole.reingestion.runner import Runner
from aogconsole.reingestion.sending import Sending
from aogconsole.reingestion.station import Outside, Pace, Rules, Station
from backends.metadata import open_metadata
from backends.rabbitmq import RabbitBroker
from backends.reingestion_ports import Launch, Limits, Seen
from tests.benchmarks import procrastinating
from tests.support import postgres, rabbitmq

JOBS = 2000
"""Of procrastinate, in a round."""


class Nothing:
    """Launches nothing, at once."""

    name = "nothing"
    local_to = ""

    async def launch(self, start: Start, site: str) -> Launch:
        """See Launcher."""
        return Launch("started")

    async def look(self, workflow_ids: Collection[str]) -> Mapping[str, Seen]:
        """See Launcher."""
        return dict.fromkeys(workflow_ids, Seen("running"))

    async def forget(self, workflow_ids: Collection[str]) -> None:
        """See Launcher."""


def start_of(item: Item, queue: Queue) -> tuple[Start, str]:
    """See reingestionsite."""
    return Start(item.workflow_id or "", "w", {"kind": item.kind.value, "uid": item.uid}), "X"


async def measure(dsn: str, vhost: rabbitmq.Vhost, items: int) -> float:
    """Enter, send, and let one runner launch them all; items a second."""
    metadata, broker = open_metadata(dsn, postgres.PASSWORD), RabbitBroker(vhost.url, password=vhost.password)
    await metadata.migrate()
    await broker.declare()
    limits, now, table = Limits(items), datetime.now(UTC), metadata.tracking(Queue.ALMA)
    found = [Found(Kind.EXECUTION_BLOCK, f"uid://A002/X1/X{n:x}", "1", "p", now) for n in range(items)]
    await table.add(found, "bench", now)
    await Sending(metadata, broker, "bench").send(Queue.ALMA, limits)
    lease = timedelta(seconds=60)
    rules = Rules(dict.fromkeys(Queue, limits), 3, lease, lease, (COMPLETE, FAILED))
    owner = f"bench@{socket.gethostname()}:{os.getpid()}"
    outside = Outside(metadata, broker, Nothing(), start_of)
    runner = Runner(Station(outside, lambda: rules, owner, (Queue.ALMA,), Pace()))
    began, cpu = time.perf_counter(), time.process_time()
    running = asyncio.create_task(runner.run())
    while (await table.counts())[Kind.EXECUTION_BLOCK].get(State.RUNNING, 0) < items:
        await asyncio.sleep(0.05)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    print(f"runner      {items / took:8.0f} items/s  ({used / items * 1e6:.0f} us of its CPU each)")
    runner.stop()
    await running
    await broker.close()
    await metadata.close()
    return items / took


def main(items: int = 10_000, rounds: int = 3) -> int:
    """Measure on servers of our own."""
    ratios: list[float] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres.running("earnest"))
        node = stack.enter_context(rabbitmq._shared(folder, "bench"))
        for _ in range(rounds):
            rate = asyncio.run(measure(server.dsn(server.create()), node.vhost(), items))
            if procrastinating.THERE:
                _, theirs = asyncio.run(procrastinating.rates(server.dsn(server.create()), JOBS))
                print(f"procrastinate {theirs:6.0f} jobs/s   ratio {rate / theirs:.1f}")
                ratios.append(rate / theirs)
    if not ratios:
        print("procrastinate is not installed: nothing to compare with")
        return 0
    print(f"ratio       {statistics.median(ratios):8.1f} (at least 3)")
    return int(statistics.median(ratios) < 3)


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
