"""How fast a runner claims, launches (nothing), records and acknowledges; on PostgreSQL with fsync and RabbitMQ.

    python -m tests.benchmarks.bench_runner [ITEMS]

Beside it, in the same run, what the pieces cost alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
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
from tests.support import postgres, rabbitmq

ITEMS = 10_000


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


async def measure(dsn: str, vhost: rabbitmq.Vhost, items: int) -> None:
    """Enter, send, and let one runner launch them all."""
    metadata, broker = open_metadata(dsn, postgres.PASSWORD), RabbitBroker(vhost.url, password=vhost.password)
    await metadata.migrate()
    await broker.declare()
    limits, now, table = Limits(items), datetime.now(UTC), metadata.tracking(Queue.ALMA)
    found = [Found(Kind.EXECUTION_BLOCK, f"uid://A002/X1/X{n:x}", "1", "p", now) for n in range(items)]
    await table.add(found, "bench", now)
    began = time.perf_counter()
    await Sending(metadata, broker, "bench").send(Queue.ALMA, limits)
    print(f"sent        {items / (time.perf_counter() - began):8.0f} items/s")
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


def main() -> None:
    """Measure on servers of our own."""
    items = int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres.running("earnest"))
        node = stack.enter_context(rabbitmq._shared(folder, "bench"))
        dsn = server.dsn(server.create())
        asyncio.run(measure(dsn, node.vhost(), items))


if __name__ == "__main__":
    main()
